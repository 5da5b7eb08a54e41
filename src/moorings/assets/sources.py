"""What an address of a model or code names: one function per kind of address, in one table. Pure: it opens nothing."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from moorings.assets.datastores import Datastore
from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import Sentence, sentence
from moorings.spec.datastore_uris import DEFAULT_DATASTORE, parse_datastore_uri

_SCHEME = re.compile(r"^([A-Za-z][A-Za-z0-9+.-]*):")
_AZURE_HOST = re.compile(r"(?P<account>[a-z0-9]{3,24})\.(?:blob|dfs)\.(?P<suffix>core\.[a-z0-9.]+)")
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


class Service(StrEnum):
    """A protocol of object stores."""

    S3 = "s3"
    AZURE = "azure"
    GCS = "gcs"


@dataclass(frozen=True)
class Bucket:
    """An object, or all objects below a folder, in a bucket (Azure: container)."""

    service: Service
    name: str
    key: str
    """Decoded, without slashes around it."""
    shown: str
    """The address as it may be shown and kept: without credentials."""
    account: str = ""
    endpoint: str = ""
    region: str = ""
    credentials: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class WebFile:
    """One file behind an address of the web."""

    url: str = field(repr=False)
    shown: str


Source = Path | Bucket | WebFile
Datastores = Mapping[str, Datastore]


def find(uri: str, datastores: Datastores) -> Source:
    """What `uri` names: an absolute path, or an address of a kind in `SCHEMES`. Does not look at it.

    Raises (the user's fault) `AssetSchemeUnknown`, naming what is supported, and `DatastoreUnknown`.
    """
    if uri.startswith("/"):
        return Path(uri)
    match = _SCHEME.match(uri)
    if match is None:
        raise _unknown(uri, f"{without_secrets(uri)!r} is not an absolute path")
    scheme = match.group(1).lower()
    source = SCHEMES.get(scheme)
    if source is None:
        message = f"addresses that begin with {scheme}: are not supported; supported: {_supported()}"
        raise _unknown(uri, message)
    return source(uri, datastores)


def from_file(uri: str, _: Datastores) -> Path:
    """`file:///abs/path` (percent-encoded)."""
    host, slash, path = uri.partition(":")[2].removeprefix("//").partition("/")
    if not slash or host not in ("", "localhost"):
        raise _unknown(uri, f"{uri} is no file of this machine: expected file:///absolute/path")
    return Path("/" + unquote(path, errors="surrogateescape"))


def from_s3(uri: str, datastores: Datastores) -> Bucket:
    """`s3://bucket/key`; endpoint and credentials from the datastore of that bucket, where there is one."""
    parts = _split(uri)
    return _bucket(Service.S3, parts.netloc, _key(parts.path), uri, _named(datastores, "s3", parts.netloc))


def from_gcs(uri: str, datastores: Datastores) -> Bucket:
    """`gs://bucket/key`."""
    parts = _split(uri)
    return _bucket(Service.GCS, parts.netloc, _key(parts.path), uri, _named(datastores, "gcs", parts.netloc))


def from_abfss(uri: str, datastores: Datastores) -> Bucket:
    """`abfss://container@account.dfs.core.windows.net/path`, and `wasbs://` with `blob`."""
    parts = _split(uri)
    container, at, host = parts.netloc.partition("@")
    found = _AZURE_HOST.fullmatch(host.lower())
    if not at or found is None:
        raise _unknown(
            uri,
            f"{without_secrets(uri)}: expected {parts.scheme}://container@account.dfs.core.windows.net/path",
        )
    return _azure(found, container, _key(parts.path), uri, datastores)


def from_web(uri: str, datastores: Datastores) -> Source:
    """A blob of Azure by its https address, something below a datastore's endpoint, or one file of the web.

    A signature in the query of a blob's address (SAS) is its credential.
    """
    parts = _split(uri)
    for store in datastores.values():
        inside = _below(uri, store)
        if inside is not None:
            return _of_datastore(store, inside, uri)
    host = _AZURE_HOST.fullmatch((parts.hostname or "").lower())
    container, _, key = parts.path.lstrip("/").partition("/")
    if host is not None and container:
        found = _azure(host, unquote(container), _key(key), uri, datastores)
        sas = {"sas_token": parts.query} if "sig=" in parts.query else None
        return found if sas is None else _with_credentials(found, sas)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        message = f"{without_secrets(uri)}: without TLS anybody on the way could change the model; give its https address"
        raise _unknown(uri, message)
    if not parts.hostname or not parts.path.strip("/"):
        raise _unknown(uri, f"{without_secrets(uri)} names no file")
    return WebFile(uri, without_secrets(uri))


def from_azureml(uri: str, datastores: Datastores) -> Source:
    """`azureml://datastores/<name>/paths/<path>`, and the long form with subscription and workspace."""
    parsed = parse_datastore_uri(uri)
    if parsed is None:
        raise _unknown(
            uri,
            f"{without_secrets(uri)}: expected azureml://datastores/<name>/paths/<path>; there are no jobs here",
        )
    store = datastores.get(parsed.datastore)
    if store is None:
        if parsed.datastore == DEFAULT_DATASTORE:
            raise error(
                "ArtifactsMissing",
                f"the workspace's own datastore has nothing at {parsed.path}",
                target=uri,
                fix=sentence(
                    "See what is there: {command}   Upload it, then send the request again.",
                    command="moor storage blob exists --account-name moorings --container-name azureml-blobstore "
                    f"--name {shlex.quote(parsed.path)}",
                ),
            )
        known = ", ".join(sorted({DEFAULT_DATASTORE, *datastores}))
        raise error(
            "DatastoreUnknown",
            f"this workspace has no datastore {parsed.datastore}",
            target=uri,
            evidence=(f"datastores: {known}",),
        )
    return _of_datastore(store, parsed.path, uri)


SCHEMES: Mapping[str, Callable[[str, Datastores], Source]] = MappingProxyType(
    {
        "file": from_file,
        "s3": from_s3,
        "gs": from_gcs,
        "abfss": from_abfss,
        "wasbs": from_abfss,
        "https": from_web,
        "http": from_web,
        "azureml": from_azureml,
    }
)
"""Scheme in lower case -> function that says what an address names."""


def without_secrets(uri: str) -> str:
    """`uri` as it may be shown and kept: without a query (signatures are there) and without a password."""
    try:
        parts = urlsplit(uri)
    except ValueError:
        return uri.partition("?")[0]
    if parts.scheme.lower() not in ("http", "https", "s3", "gs"):
        return uri
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "", ""))


def _of_datastore(store: Datastore, path: str, uri: str) -> Source:
    key = path.strip("/")
    if store.type == "local":
        if ".." in Path(key).parts:
            raise _unknown(uri, f"{uri}: the path leads out of the datastore")
        return Path(store.path) / key
    service = {"s3": Service.S3, "gcs": Service.GCS}.get(store.type, Service.AZURE)
    return _bucket(service, store.bucket or store.container_name, key, uri, store)


def _azure(host: re.Match[str], container: str, key: str, uri: str, datastores: Datastores) -> Bucket:
    account, suffix = host["account"], host["suffix"]
    store = next(
        (
            each
            for each in datastores.values()
            if each.account_name == account and each.container_name == container
        ),
        None,
    )
    found = _bucket(Service.AZURE, container, key, uri, store)
    endpoint = found.endpoint or ("" if suffix == "core.windows.net" else f"https://{account}.blob.{suffix}")
    return Bucket(
        Service.AZURE, container, key, found.shown, account, endpoint, credentials=found.credentials
    )


def _bucket(service: Service, name: str, key: str, uri: str, store: Datastore | None) -> Bucket:
    if not name:
        raise _unknown(uri, f"{without_secrets(uri)} names no bucket")
    if store is None:
        return Bucket(service, name, key, without_secrets(uri))
    secrets = {each: value.get_secret_value() for each, value in store.credentials.items()}
    return Bucket(
        service, name, key, without_secrets(uri), store.account_name, store.endpoint, store.region, secrets
    )


def _with_credentials(found: Bucket, credentials: Mapping[str, str]) -> Bucket:
    return Bucket(
        found.service, found.name, found.key, found.shown, found.account, found.endpoint, "", credentials
    )


def _named(datastores: Datastores, type_: str, bucket: str) -> Datastore | None:
    return next((s for s in datastores.values() if s.type == type_ and s.bucket == bucket), None)


def _below(uri: str, store: Datastore) -> str | None:
    """The path inside of `store` that `uri` names by the store's own endpoint."""
    if not store.endpoint or store.type == "local":
        return None
    root = f"{store.endpoint.rstrip('/')}/{store.bucket or store.container_name}/"
    plain = f"{uri.partition('?')[0].rstrip('/')}/"
    return unquote(plain.removeprefix(root)).strip("/") if plain.startswith(root) else None


def _split(uri: str) -> SplitResult:
    try:
        parts = urlsplit(uri)
        _ = parts.port
    except ValueError as problem:
        raise _unknown(uri, f"{without_secrets(uri)}: {problem}") from None
    # What follows a # or ? is part of a key in these services, and of nothing in an address of the web.
    if parts.scheme not in ("http", "https") and (parts.query or parts.fragment):
        tail = uri.partition("://")[2]
        return SplitResult(parts.scheme, parts.netloc, tail.removeprefix(parts.netloc), "", "")
    return parts


def _key(path: str) -> str:
    return unquote(path).strip("/")


def _unknown(uri: str, message: str) -> MooringsError:
    fields = {"supported": _supported()}
    return error("AssetSchemeUnknown", message, target=without_secrets(uri), fields=fields)


def _supported() -> Sentence:
    return sentence(
        "an absolute path, {addresses}", addresses=", ".join(f"{scheme}://" for scheme in sorted(SCHEMES))
    )
