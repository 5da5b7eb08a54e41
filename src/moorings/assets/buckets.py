"""Objects of S3, Azure Blob and Google Cloud Storage, through obstore. The only module that knows that library, and it
loads it only when an object is wanted."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moorings.assets.copying import Taken, Tell, write_hashed
from moorings.assets.sources import Bucket, Service
from moorings.assets.store import RemoteFile, RemoteTree
from moorings.assets.tree import shown, unsafe_path
from moorings.errors.exceptions import MooringsError, error

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

    Store = S3Store | AzureStore | GCSStore

READ_ATTEMPTS = 4
"""How often a transfer that breaks is gone on with, at the byte where it broke."""
CHUNK_BYTES = 4 << 20
_CLIENT = {"connect_timeout": "10s", "read_timeout": "60s", "timeout": "6h"}
_AWS = ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
_AZURE = (
    "AZURE_STORAGE_ACCOUNT_KEY",
    "AZURE_STORAGE_ACCESS_KEY",
    "AZURE_STORAGE_MASTER_KEY",
    "AZURE_STORAGE_SAS_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_TOKEN",
    "AZURE_STORAGE_CLIENT_SECRET",
    "AZURE_CLIENT_SECRET",
    "AZURE_FEDERATED_TOKEN_FILE",
    "AZURE_USE_AZURE_CLI",
)
_GOOGLE = (
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_BEARER_TOKEN",
)
_SECRET = re.compile(r"((?:sig|signature|x-amz-[a-z-]+|x-goog-[a-z-]+|token)=)[^&\s\"']+", re.IGNORECASE)
_REFUSED = re.compile(r"\b40[13]\b|AuthenticationFailed|AuthorizationFailure|AccessDenied|InvalidAccessKeyId")
_MISSING = re.compile(r"\b404\b|NoSuchBucket|ContainerNotFound|BlobNotFound|NoSuchKey")


def remote_tree(bucket: Bucket, environ: Mapping[str, str] | None = None) -> RemoteTree:
    """What the address names: one object, or all objects below a folder. Sizes are known, nothing is read yet.

    Raises `ArtifactsMissing`, `ArtifactsRefused`, `AssetPathUnsafe` (the user's fault), `ArtifactsUnreachable`
    (the machine's, or the service's).
    """
    import obstore

    reader = _Reader(bucket, _open(bucket, os.environ if environ is None else environ))
    name = bucket.key.rpartition("/")[2] or bucket.name
    with reader.translated("head"):
        found = reader.head()
    if found is not None:
        file = reader.file(name, found)
        return RemoteTree(bucket.shown, name, is_file=True, files=(file,))
    with reader.translated("list"):
        pages = list(obstore.list(reader.store, bucket.key or None, chunk_size=1000))
    listed = _relative(bucket, [meta for page in pages for meta in page])
    if not listed:
        raise _missing(bucket, ("neither an object of this name nor one below it",))
    files = tuple(reader.file(path, meta) for path, meta in listed)
    return RemoteTree(bucket.shown, name, is_file=False, files=files)


def _relative(bucket: Bucket, found: list[Any]) -> list[tuple[str, Any]]:
    """Paths below the folder, in order. Markers that stand for folders are left out."""
    start = f"{bucket.key}/" if bucket.key else ""
    pairs = sorted((str(meta["path"]).removeprefix(start), meta) for meta in found)
    parents = {parent for path, _ in pairs for parent in _parents(path)}
    files = [(path, meta) for path, meta in pairs if path and not (meta["size"] == 0 and path in parents)]
    wrong = [f"{shown(path)}: leads out of the folder" for path, _ in files if unsafe_path(path)]
    wrong += [f"{shown(path)}: is both a file and a folder" for path, _ in files if path in parents]
    if wrong:
        raise _unsafe(bucket, wrong)
    return files


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(1, len(parts))]


@dataclass(frozen=True)
class _Reader:
    bucket: Bucket
    store: Store

    def head(self) -> Any:
        import obstore

        if not self.bucket.key:
            return None
        try:
            return obstore.head(self.store, self.bucket.key)
        except FileNotFoundError:
            return None

    def file(self, path: str, meta: Any) -> RemoteFile:
        def copy(place: Path, tell: Tell) -> Taken | None:
            return self._copy(meta, place, tell)

        return RemoteFile(path, int(meta["size"]), copy)

    def _copy(self, meta: Any, place: Path, tell: Tell) -> Taken | None:
        from obstore.exceptions import PreconditionError

        try:
            sha256, size_bytes = write_hashed(self._chunks(meta), place, tell)
        except PreconditionError:
            return None
        return Taken(sha256, size_bytes, executable=False) if size_bytes == meta["size"] else None

    def _chunks(self, meta: Any) -> Iterator[bytes]:
        """The content, from where it broke off when it did."""
        import obstore
        from obstore.exceptions import PreconditionError

        size_bytes, done_bytes, breaks = int(meta["size"]), 0, 0
        while done_bytes < size_bytes:
            options: Any = {"range": {"offset": done_bytes}} if done_bytes else {}
            if meta.get("e_tag"):
                options["if_match"] = meta["e_tag"]
            before = done_bytes
            try:
                stream = obstore.get(self.store, meta["path"], options=options).stream(CHUNK_BYTES)
                for chunk in stream:
                    done_bytes += len(chunk)
                    yield bytes(chunk)
                return
            except PreconditionError:
                raise
            except Exception as problem:  # noqa: BLE001 - whatever the library raises is told by its code
                breaks = 1 if done_bytes > before else breaks + 1
                failed = self._failed(problem, f"read at byte {done_bytes} of {size_bytes}")
                if failed.failure.code != "ArtifactsUnreachable" or breaks >= READ_ATTEMPTS:
                    raise failed from None

    def translated(self, doing: str) -> _Translated:
        return _Translated(self, doing)

    def _failed(self, problem: Exception, doing: str) -> MooringsError:
        return _failure_of(self.bucket, problem, doing)


@dataclass(frozen=True)
class _Translated:
    """Turns what the library raises into our codes."""

    reader: _Reader
    doing: str

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        if isinstance(problem, Exception) and not isinstance(problem, MooringsError):
            raise _failure_of(self.reader.bucket, problem, self.doing) from None


def _failure_of(bucket: Bucket, problem: Exception, doing: str) -> MooringsError:
    from obstore.exceptions import InvalidPathError, PermissionDeniedError, UnauthenticatedError

    said = " ".join(str(problem).split()).partition(" Debug source:")[0]
    text = _SECRET.sub(r"\1***", said)[:600]
    evidence = (f"{doing}: {type(problem).__name__}: {text}", *_who(bucket))
    if isinstance(problem, FileNotFoundError) or (_MISSING.search(text) and not _REFUSED.search(text)):
        return _missing(bucket, evidence)
    if isinstance(problem, InvalidPathError) or "illegal character" in text or 'Path "' in text:
        return _unsafe(bucket, [evidence[0]])
    if isinstance(problem, PermissionDeniedError | UnauthenticatedError) or _REFUSED.search(text):
        return error(
            "ArtifactsRefused",
            f"{bucket.shown}: access is refused",
            target=bucket.shown,
            evidence=evidence,
            fields={"address": bucket.shown},
        )
    return error(
        "ArtifactsUnreachable",
        f"{bucket.shown}: the store does not answer as it should",
        target=bucket.shown,
        evidence=evidence,
        fields={"address": bucket.shown},
    )


def _who(bucket: Bucket) -> tuple[str, ...]:
    """As whom it was asked, without saying a secret."""
    if bucket.credentials:
        names = ", ".join(sorted(bucket.credentials))
        return (f"asked with {names} of the address or of its datastore",)
    variables = {Service.S3: _AWS, Service.AZURE: _AZURE, Service.GCS: _GOOGLE}[bucket.service]
    used = [name for name in variables if os.environ.get(name)]
    return (
        f"asked with {used[0]} of the environment" if used else "asked without credentials: none were given",
    )


def _open(bucket: Bucket, environ: Mapping[str, str]) -> Store:
    from obstore import store as stores

    given = dict(bucket.credentials)
    options: Any = dict(_CLIENT)
    endpoint = bucket.endpoint
    anonymous: dict[str, Any] = {"skip_signature": True}
    try:
        if bucket.service is Service.S3:
            endpoint = endpoint or environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL") or ""
            config: Any = given or ({} if _any(environ, _AWS) else anonymous)
            if endpoint:
                config |= {"endpoint": endpoint}
            config["region"] = (
                bucket.region or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
            )
            options["allow_http"] = endpoint.startswith("http://")
            return stores.S3Store(bucket.name, config=config, client_options=options, retry_config=_retry())
        if bucket.service is Service.AZURE:
            endpoint = endpoint or environ.get("AZURE_STORAGE_ENDPOINT") or ""
            config = _azure_config(given) if given else ({} if _any(environ, _AZURE) else anonymous)
            config["account_name"] = bucket.account or environ.get("AZURE_STORAGE_ACCOUNT_NAME") or ""
            if endpoint:
                config["endpoint"] = endpoint
            options["allow_http"] = endpoint.startswith("http://")
            return stores.AzureStore(
                bucket.name,
                config=config,
                client_options=options,
                retry_config=_retry(),
            )
        endpoint = endpoint or environ.get("GOOGLE_BASE_URL") or ""
        config = given or ({} if _any(environ, _GOOGLE) else anonymous)
        if endpoint:
            config["base_url"] = endpoint
        options["allow_http"] = endpoint.startswith("http://")
        return stores.GCSStore(bucket.name, config=config, client_options=options, retry_config=_retry())
    except Exception as problem:  # noqa: BLE001 - a configuration that the library refuses, in its words
        raise _failure_of(bucket, problem, "open") from None


def _azure_config(given: Mapping[str, str]) -> dict[str, Any]:
    """Names of an Azure datastore's credentials -> those of the library."""
    names = {"sas_token": "sas_key"}
    return {names.get(key, key): value.removeprefix("?") for key, value in given.items()}


def _retry() -> Any:
    from datetime import timedelta

    return {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}


def _any(environ: Mapping[str, str], names: tuple[str, ...]) -> bool:
    return any(environ.get(name) for name in names)


def _missing(bucket: Bucket, evidence: tuple[str, ...]) -> MooringsError:
    return error(
        "ArtifactsMissing",
        f"there is nothing at {bucket.shown}",
        target=bucket.shown,
        evidence=evidence,
        fields={"address": bucket.shown},
    )


def _unsafe(bucket: Bucket, lines: list[str]) -> MooringsError:
    return error(
        "AssetPathUnsafe",
        f"{bucket.shown}: {len(lines)} names cannot be laid out as files: {lines[0]}",
        target=bucket.shown,
        evidence=lines[:20],
        fields={"address": bucket.shown},
    )
