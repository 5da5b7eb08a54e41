"""Registering model, code and environment versions: content is taken in, a version never changes afterwards. No HTTP here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorings.assets.sources import fetch
from moorings.assets.store import AssetStore
from moorings.errors.exceptions import error
from moorings.spec.arm import environment_version_from_arm
from moorings.spec.base import ASSET_NAME_PATTERN
from moorings.state.database import Database
from moorings.state.lookup import CODES, ENVIRONMENTS, MODELS
from moorings.state.transaction import Asset

_NAME = re.compile(ASSET_NAME_PATTERN)


@dataclass(frozen=True)
class Assets:
    database: Database
    store: AssetStore

    def get(self, kind: str, name: str, version: str) -> Asset:
        with self.database.read() as tx:
            asset = tx.asset(kind, name, version)
        if asset is None:
            raise error(
                "AssetNotFound",
                f"{kind} {name}, version {version}, is not registered",
                target=f"{kind}/{name}/{version}",
                fields={"reference": f"azureml:{name}:{version}"},
            )
        return asset

    def versions(self, kind: str, name: str) -> list[Asset]:
        with self.database.read() as tx:
            return list(tx.asset_versions(kind, name))

    def put(self, kind: str, name: str, version: str, properties: Mapping[str, Any]) -> tuple[Asset, bool]:
        """Register; the same content again is a no-op. Returns the version and whether it is new.

        Raises `RequestInvalid` for a name or version that could not be referred to or laid out as a folder,
        the codes of `assets.sources` and `assets.store` for what cannot be taken in, `AssetVersionImmutable`
        when the version is there with other content.
        """
        for what, text in (("name", name), ("version", version)):
            if not _NAME.fullmatch(text):
                message = (
                    f"the {what} {text[:80]!r} cannot be: letters, digits, - _ . and at most 255 of them"
                )
                raise error("RequestInvalid", message, target=what)
        digest, body = self._take_in(kind, name, version, properties)
        with self.database.write() as tx:
            old = tx.asset(kind, name, version)
            if old is None:
                return tx.add_asset(kind, name, version, digest=digest, body=body), True
        if old.digest != digest:
            raise error(
                "AssetVersionImmutable",
                f"{kind} {name}, version {version}, is registered with other content",
                target=f"azureml:{name}:{version}",
                evidence=(f"registered: {(old.digest or '')[:12]}", f"given:      {(digest or '')[:12]}"),
            )
        return old, False

    def _take_in(
        self, kind: str, name: str, version: str, properties: Mapping[str, Any]
    ) -> tuple[str, dict[str, Any]]:
        body = {k: v for k, v in properties.items() if k != "moorings"}
        if kind == ENVIRONMENTS:
            spec = environment_version_from_arm(name, version, {"properties": properties})
            recipe = spec.model_dump_json(
                include={"image", "conda_file", "build", "inference_config", "os_type"}
            )
            digest = hashlib.sha256(recipe.encode()).hexdigest()
            if spec.build is None:
                return digest, body
            # The context is content: what it is now is what every build of this version uses.
            tree = self.store.ingest(fetch(spec.build.path), keep_name=False, use_ignore=False)
            body["moorings"] = {"digest": tree.digest, "sizeBytes": tree.size_bytes}
            shape = spec.model_dump_json(include={"inference_config", "os_type"})
            recipe = f"{shape} {spec.build.dockerfile_path} {tree.digest}"
            return hashlib.sha256(recipe.encode()).hexdigest(), body
        uri = properties.get("codeUri" if kind == CODES else "modelUri")
        if not isinstance(uri, str) or not uri:
            key = "codeUri" if kind == CODES else "modelUri"
            raise error("RequestInvalid", f"properties.{key} is missing", target=f"properties.{key}")
        source = fetch(uri)
        tree = self.store.ingest(source, keep_name=kind == MODELS, use_ignore=kind == CODES)
        body["moorings"] = {
            "digest": tree.digest,
            "folder": source.name,
            "files": len(tree.files),
            "sizeBytes": tree.size_bytes,
        }
        return tree.digest, body
