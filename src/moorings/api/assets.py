"""Registering versions of models, code, environments and data: content is taken in, a version never changes afterwards.
No HTTP here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from moorings.api.intakes import Intake, Intakes
from moorings.assets.origins import Origins
from moorings.assets.sources import without_secrets
from moorings.assets.store import AssetStore, RemoteTree
from moorings.assets.tree import Tree
from moorings.environments.mlflow import mlflow_flavors, stored_reader
from moorings.errors.exceptions import MooringsError, error, failure
from moorings.errors.sentence import sentence
from moorings.spec.arm import data_version_from_arm, environment_version_from_arm
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.base import ASSET_NAME_PATTERN
from moorings.spec.blob_places import parse_blob_uri
from moorings.spec.datastore_uris import content_digest
from moorings.state.asset_rows import Asset, Container, Numbering, View
from moorings.state.database import Database
from moorings.state.lookup import CODES, DATA, ENVIRONMENTS, MODELS
from moorings.state.transaction import Transaction

_NAME = re.compile(ASSET_NAME_PATTERN)
_WORDS = ("description", "tags", "properties", "stage", "flavors")
"""What may change in a version that is there; the rest is its content."""
VERB = {MODELS: "model", CODES: "code", ENVIRONMENTS: "environment", DATA: "data"}
URI = {MODELS: "modelUri", CODES: "codeUri"}


@dataclass(frozen=True)
class Listed:
    """Which part of a list is asked for."""

    view: View = View.ACTIVE
    stage: str | None = None
    hash: str | None = None
    """Of code, as clients compute it: versions of all names count."""
    oldest_first: bool = False
    top: int | None = None
    skip: int = 0


@dataclass(frozen=True)
class _Content:
    digest: str
    facts: Mapping[str, Any] | None
    """What is noted beside the body: `digest`, `folder`, `files`, `sizeBytes`."""


@dataclass(frozen=True)
class Assets:
    database: Database
    store: AssetStore
    intakes: Intakes = field(default_factory=Intakes)
    uploaded: Callable[[str], RemoteTree | None] = lambda _uri: None
    """What an address of our own names, once it was uploaded; None for other addresses. Raises `UploadMissing`,
    `UploadAmbiguous`."""
    origins: Origins = field(default_factory=Origins)

    # --- reading ---

    def get(self, kind: str, name: str, version: str) -> Asset:
        """One version. Raises `AssetNotFound`."""
        with self.database.read() as tx:
            asset = tx.asset(kind, name, version)
        if asset is None:
            message = f"{VERB[kind]} {name}, version {version}, is not registered"
            raise _missing(message, f"{kind}/{name}/{version}", kind, name)
        return asset

    def versions(self, kind: str, name: str, listed: Listed | None = None) -> list[Asset]:
        """Newest first unless asked otherwise; [] when the name is not known."""
        listed = listed or Listed(view=View.ALL)
        with self.database.read() as tx:
            if listed.hash is not None:
                return list(tx.assets_by_hash(kind, listed.hash))
            return list(
                tx.asset_versions(
                    kind,
                    name,
                    view=listed.view,
                    stage=listed.stage,
                    oldest_first=listed.oldest_first,
                    top=listed.top,
                    skip=listed.skip,
                )
            )

    def container(self, kind: str, name: str) -> tuple[Container, Numbering]:
        """What all versions of a name share. Raises `AssetNotFound`."""
        with self.database.read() as tx:
            found = tx.asset_container(kind, name)
            if found is None:
                message = f"no {VERB[kind]} {name} is registered"
                raise _missing(message, f"{kind}/{name}", kind)
            return found, tx.numbering(kind, [name])[name]

    def containers(self, kind: str, listed: Listed) -> list[tuple[Container, Numbering]]:
        """By name; those that were registered implicitly are not among them."""
        with self.database.read() as tx:
            found = tx.asset_containers(kind, view=listed.view, top=listed.top, skip=listed.skip)
            numbers = tx.numbering(kind, [c.name for c in found])
        return [(c, numbers[c.name]) for c in found]

    def tree(self, kind: str, name: str, version: str) -> Tree:
        """The files of a version. Raises `AssetNotFound`, `AssetWithoutFiles`, `ArtifactsUnavailable`."""
        asset = self.get(kind, name, version)
        if kind not in URI or not asset.digest:
            message = f"{VERB[kind]} {name}, version {version}, has no files of its own"
            raise error("AssetWithoutFiles", message, target=f"azureml:{name}:{version}")
        return self.store.tree(asset.digest)

    def file(self, kind: str, name: str, version: str, sha256: str) -> tuple[Path, int]:
        """Where the content of one of its files is, and its size."""
        tree = self.tree(kind, name, version)
        found = next((entry for entry in tree.files if entry.sha256 == sha256), None)
        if found is None:
            raise _missing(f"no file of version {version} has this content", sha256, kind, name)
        return self.store.blob(found.sha256), found.size_bytes

    # --- writing ---

    def put_container(
        self, kind: str, name: str, properties: Mapping[str, Any]
    ) -> tuple[Container, Numbering, bool]:
        """Make it or change its words; `isArchived` hides or shows all of its versions at once."""
        _check_names(name)
        archived = _flag(properties, "isArchived")
        with self.database.write() as tx:
            old = tx.asset_container(kind, name)
            body = {**(old.body if old else {}), **_words(properties)}
            if archived is None:
                archived = old is not None and old.archived
            found, created = tx.put_container(kind, name, body=body, archived=archived)
            return found, tx.numbering(kind, [name])[name], created

    def put(
        self,
        kind: str,
        name: str,
        version: str | None,
        properties: Mapping[str, Any],
        *,
        intake_id: str | None = None,
    ) -> tuple[Asset, bool]:
        """Register; returns the version and whether it is new. Without `version` it gets the next number.

        The same content again is no new version: its description, tags, properties and stage are changed to
        what is given. Raises `RequestInvalid` for a name or version that could not be referred to or laid out
        as a folder, the codes of `assets.sources` and `assets.store` for what cannot be taken in,
        `MlflowModelInvalid`, `AssetVersionImmutable` when the version is there with other content, `AssetContainerArchived`.
        """
        _check_names(name, version)
        if kind == DATA:
            properties = self._data(name, version, properties)
        archived = _flag(properties, "isArchived")
        body = {k: v for k, v in properties.items() if k not in ("moorings", "isArchived")}
        asked = dict(body)
        key = URI.get(kind, "")
        if isinstance(body.get(key), str):
            body[key] = without_secrets(body[key])  # what is kept and shown
        if version is not None:
            with self.database.write() as tx:
                old = tx.asset(kind, name, version)
                if old is not None and _names_content_of(old, body):
                    return _reworded(tx, old, body, archived), False
        taken: list[_Content] = []
        try:
            with self.store.using(), self.intakes.begin(intake_id) as intake:
                taken.append(self._take_in(kind, name, version, asked, intake))
                content = self._with_flavors(kind, asked, taken[0])
                with self.database.write() as tx:
                    return _registered(tx, kind, name, version, content, body, archived)
        except MooringsError:
            for content in taken:
                self._forget(content)
            raise

    # --- content ---

    def _data(self, name: str, version: str | None, properties: Mapping[str, Any]) -> Mapping[str, Any]:
        """`properties` once they are known to be right, with the type in its one spelling."""
        body = {"properties": properties}
        known = self.origins.datastores()
        spec = data_version_from_arm(name, version or "1", body, datastores=known)
        return {**properties, "dataType": spec.type}

    def _take_in(
        self, kind: str, name: str, version: str | None, body: Mapping[str, Any], intake: Intake
    ) -> _Content:
        if kind == ENVIRONMENTS:
            return self._recipe(
                environment_version_from_arm(name, version or "1", {"properties": body}), intake
            )
        if kind == DATA:  # a named address: nothing behind it is read
            what = "\0".join([_type_of(DATA, body), body["dataUri"], *(body.get("referencedUris") or ())])
            return _Content(hashlib.sha256(what.encode("utf-8", "surrogatepass")).hexdigest(), None)
        key = URI[kind]
        uri = body.get(key)
        if not isinstance(uri, str) or not uri:
            raise error("RequestInvalid", f"properties.{key} is missing", target=f"properties.{key}")
        tree, folder = self._stored(uri, intake, keep_name=kind == MODELS, use_ignore=kind == CODES)
        facts = {
            "digest": tree.digest,
            "folder": tree.name or folder or name,
            "files": len(tree.files),
            "sizeBytes": tree.size_bytes,
        }
        return _Content(tree.digest, facts)

    def _with_flavors(self, kind: str, body: Mapping[str, Any], content: _Content) -> _Content:
        """An MLflow model is known by its `MLmodel`. Raises `MlflowModelInvalid`."""
        if kind != MODELS or str(body.get("modelType") or "").replace("_", "").lower() != "mlflowmodel":
            return content
        blobs = {entry.path: entry.sha256 for entry in self.store.tree(content.digest).files}
        flavors = mlflow_flavors(stored_reader(blobs, self.store.text))
        return _Content(content.digest, {**(content.facts or {}), "flavors": flavors})

    def _recipe(self, spec: EnvironmentSpec, intake: Intake) -> _Content:
        if spec.build is None:
            recipe = spec.model_dump_json(
                include={"image", "conda_file", "build", "inference_config", "os_type"}
            )
            return _Content(hashlib.sha256(recipe.encode()).hexdigest(), None)
        # The context is content: what it is now is what every build of this version uses.
        tree, _ = self._stored(spec.build.path, intake, keep_name=False, use_ignore=False)
        shape = spec.model_dump_json(include={"inference_config", "os_type"})
        recipe = f"{shape} {spec.build.dockerfile_path} {tree.digest}"
        facts = {"digest": tree.digest, "sizeBytes": tree.size_bytes}
        return _Content(hashlib.sha256(recipe.encode()).hexdigest(), facts)

    def _stored(self, uri: str, intake: Intake, *, keep_name: bool, use_ignore: bool) -> tuple[Tree, str]:
        """The content of an address, taken in where it is not yet; and the name it has there, "" for none."""
        digest = content_digest(uri)
        if digest is not None:
            return self.store.tree(digest), ""
        found = self.uploaded(uri) or self.origins.find(uri)
        if isinstance(found, RemoteTree):
            tree = self.store.ingest_remote(found, keep_name=keep_name, progress=intake.step)
        else:
            tree = self.store.ingest(found, keep_name=keep_name, use_ignore=use_ignore, progress=intake.step)
        return tree, found.name

    def _forget(self, content: _Content) -> None:
        """Content that was taken in for nothing does not stay, unless somebody else has it."""
        if content.facts is not None:
            self.store.discard(str(content.facts["digest"]), unless=self._in_use)

    def _in_use(self, digest: str) -> bool:
        with self.database.read() as tx:
            return tx.mentions(digest)


def _registered(
    tx: Transaction,
    kind: str,
    name: str,
    version: str | None,
    content: _Content,
    body: Mapping[str, Any],
    archived: bool | None,
) -> tuple[Asset, bool]:
    """The version as it is in the state after this; without `version` the next number, or the highest one where
    it has this very content and is not archived."""
    following = tx.numbering(kind, [name])[name].following
    old = tx.asset(kind, name, version if version is not None else str(int(following) - 1))
    if old is not None:
        different = _differences(old, content, body)
        if not different and not (version is None and old.archived):
            return _reworded(tx, old, body, archived), False
        if version is not None:
            raise _immutable(kind, name, version, different, body)
    container = tx.asset_container(kind, name)
    if container is not None and container.archived:
        raise _container_archived(kind, name)
    stored = dict(body) if content.facts is None else {**body, "moorings": dict(content.facts)}
    made = tx.add_asset(
        kind, name, version or following, digest=content.digest, body=stored, archived=bool(archived)
    )
    if kind == DATA:
        tx.add_container_facts(kind, name, {"dataType": body["dataType"]})
    return made, True


def _reworded(tx: Transaction, old: Asset, body: Mapping[str, Any], archived: bool | None) -> Asset:
    """`old` with the words of `body`; what it does not mention stays."""
    if archived is False and old.archived:
        container = tx.asset_container(old.kind, old.name)
        if container is not None and container.archived:
            raise _container_archived(old.kind, old.name)
    stored = {**old.body, **_words(body)}
    if old.body.get("isAnonymous") is True and body.get("isAnonymous") is False:
        stored["isAnonymous"] = False
    return tx.change_asset(old, body=stored, archived=old.archived if archived is None else archived)


def _names_content_of(old: Asset, body: Mapping[str, Any]) -> bool:
    """Whether the address in `body` stands for what `old` has, so that nothing needs to be read again.

    A file of this machine may have changed behind its address: that is read. Another address is taken at its
    word, as the ecosystem's own service does.
    """
    uri = body.get(URI.get(old.kind, ""))
    if not isinstance(uri, str) or _type_of(old.kind, old.body) != _type_of(old.kind, body):
        return False
    if content_digest(uri) is not None:
        return content_digest(uri) == old.digest
    return uri == old.body.get(URI[old.kind]) and "://" in uri and not uri.lower().startswith("file:")


def _differences(old: Asset, content: _Content, body: Mapping[str, Any]) -> list[str]:
    if old.kind == DATA and old.digest != content.digest:
        return [f"registered: {_address(old.body)}", f"given:      {_address(body)}"]
    found = []
    if old.digest != content.digest:
        found += [f"registered: {(old.digest or '')[:12]}", f"given:      {content.digest[:12]}"]
    if old.kind == MODELS and _type_of(MODELS, old.body) != _type_of(MODELS, body):
        found += [f"registered as {_type_of(MODELS, old.body)}", f"given as      {_type_of(MODELS, body)}"]
    return found


def _address(body: Mapping[str, Any]) -> str:
    return " ".join([str(body["dataType"]), str(body["dataUri"]), *(body.get("referencedUris") or ())])


def _type_of(kind: str, body: Mapping[str, Any]) -> str:
    if kind == DATA:
        return str(body["dataType"])
    return str(body.get("modelType") or "custom_model").replace("_", "").lower()


def _words(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {key: properties[key] for key in _WORDS if properties.get(key) is not None}


def _flag(properties: Mapping[str, Any], key: str) -> bool | None:
    value = properties.get(key)
    if value is not None and not isinstance(value, bool):
        raise error("RequestInvalid", f"properties.{key}: expected true or false", target=f"properties.{key}")
    return value


def _check_names(name: str, version: str | None = None) -> None:
    for what, text in (("name", name), ("version", version)):
        if text is not None and not _NAME.fullmatch(text):
            message = f"the {what} {text[:80]!r} cannot be: letters, digits, - _ . and at most 255 of them"
            raise error("RequestInvalid", message, target=what)


def _immutable(
    kind: str, name: str, version: str, evidence: list[str], body: Mapping[str, Any]
) -> MooringsError:
    failed = failure(
        "AssetVersionImmutable",
        # The ecosystem's client looks for "already exists": a data asset that a user registered where a deployment
        # would is then the one that is used.
        f"{VERB[kind]} {name}, version {version}, already exists with other content",
        target=f"azureml:{name}:{version}",
        evidence=evidence,
        fields={"kind": VERB[kind], "name": name},
    )
    if parse_blob_uri(str(body.get(URI.get(kind, "")) or "")) is None:
        return MooringsError(failed)
    # Uploaded by a client of the ecosystem, which knows this by exactly these words.
    return error("UserError", "Asset paths cannot be updated.", details=[failed])


def _missing(message: str, target: str, kind: str, name: str | None = None) -> MooringsError:
    """With `name`: there may be other versions of it."""
    if kind == CODES:
        query = "moor online-deployment show -n NAME -e ENDPOINT --query code_configuration.code"
        fix = sentence("Code has the name that its deployment tells: {command}", command=query)
    else:
        of = "" if name is None else f" -n {name} --include-archived"
        fix = sentence("Which there are: {command}", command=f"moor {VERB[kind]} list{of} -o table")
    return error("AssetNotFound", message, target=target, fix=fix)


def _container_archived(kind: str, name: str) -> MooringsError:
    return error(
        "AssetContainerArchived",
        f"{VERB[kind]} {name} is archived as a whole",
        target=f"{kind}/{name}",
        fields={"kind": VERB[kind], "name": name},
    )
