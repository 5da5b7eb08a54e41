"""What an image registry has, asked over its HTTP API (version 2): tags, and when their images were made. Reads only.

Who we are there, and whether it may be asked without TLS, is told by the caller. Pulling and pushing is the engine's.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import ipaddress
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from moorings.containers.credentials import Login
from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import sentence

if TYPE_CHECKING:
    import httpx

HUB, HUB_API = "docker.io", "registry-1.docker.io"
"""The registry of names that name none, and where its API is."""
CERTIFICATES = Path("/etc/docker/certs.d")
"""Where the engine looks for the authorities of registries: `<host[:port]>/*.crt`."""
TIMEOUT_S = 30.0
MAX_ANSWER_BYTES = 8 * 1024 * 1024
MAX_PAGES = 1000
PAGE = 1000
AT_ONCE = 8
SHOWN_REPOSITORIES = 20
OLDEST = datetime(1, 1, 2, tzinfo=UTC)
"""Before it: tools that want no date in an image write the year 1."""

_ONE = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_ONE}(?:/{_ONE})*")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[a-z0-9+._-]{1,32}:[0-9a-f]{32,128}")
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
_NEXT = re.compile(r'<([^>]+)>\s*;\s*rel="?next"?')
_MANIFESTS = ", ".join(
    (
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    )
)


@dataclass(frozen=True)
class Tag:
    name: str
    digest: str | None = None
    """Of its manifest."""
    created_at: datetime | None = None
    """When the image was made; None where the image does not tell."""


def names_of(registry: str) -> tuple[str, ...]:
    """What a registry (`host[:port]`) may be called: in full, without the port, by the first label of its host."""
    host = registry.rpartition(":")[0] if re.search(r":\d+$", registry) else registry
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return tuple(dict.fromkeys((registry, host, host.partition(".")[0])))
    return tuple(dict.fromkeys((registry, host)))


def repository_of(registry: str, given: str) -> str | None:
    """The name that the registry has for a repository, given with or without the registry; None: it can be no name."""
    name = given.strip().strip("/").removeprefix(f"{registry}/")
    if not _REPOSITORY.fullmatch(name):
        return None
    return f"library/{name}" if registry == HUB and "/" not in name else name


def ordered(tags: Sequence[Tag], *, newest_first: bool) -> list[Tag]:
    """By the time their images were made; those that do not tell come last, by name."""
    by_name = sorted(tags, key=lambda tag: tag.name)
    dated = [tag for tag in by_name if tag.created_at is not None]
    dated.sort(key=lambda tag: tag.created_at or OLDEST, reverse=newest_first)
    return dated + [tag for tag in by_name if tag.created_at is None]


class _NotThere(Exception):  # noqa: N818 - an answer
    """404."""


class ImageRegistry:
    """One registry. Every method blocks and raises `RegistryUnreachable`, `ImagePullDenied`; and what `login` raises."""

    def __init__(
        self, registry: str, login: Callable[[], Login | None], speaks_plainly: Callable[[], bool]
    ) -> None:
        """`registry`: `host[:port]`. `speaks_plainly`: whether HTTP without TLS is allowed; asked when TLS fails, and not
        for this machine, where it always is."""
        self.registry = registry
        self._login = login
        self._speaks_plainly = speaks_plainly
        self._authorization: str | None = None
        self._api = HUB_API if registry == HUB else registry
        self._plain = False
        self._client = self._connected()

    def close(self) -> None:
        self._client.close()

    def tags(self, repository: str, *, details: bool) -> list[Tag]:
        """All tags by name; digest and time only with `details`, which asks twice for each image.

        Raises `RepositoryNotFound` too.
        """
        scope = f"repository:{repository}:pull"
        try:
            found = self._pages(f"/v2/{repository}/tags/list", "tags", scope)
            names = sorted({str(name) for name in found if _TAG.fullmatch(str(name))})
        except _NotThere:
            raise self._no_repository(repository) from None
        if not details:
            return [Tag(name) for name in names]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            looked = list(pool.map(lambda name: self._tag(repository, name, scope), names))
        return [tag for tag in looked if tag is not None]

    def _tag(self, repository: str, name: str, scope: str) -> Tag | None:
        """None: it has been removed meanwhile."""
        try:
            body, answered = self._get(f"/v2/{repository}/manifests/{name}", scope, accept=_MANIFESTS)
        except _NotThere:
            return None
        digest = answered.get("docker-content-digest") or f"sha256:{hashlib.sha256(body).hexdigest()}"
        with contextlib.suppress(_NotThere):
            return Tag(name, digest, self._created_at(repository, self._object(body), scope))
        return Tag(name, digest)

    def _created_at(self, repository: str, manifest: Mapping[str, Any], scope: str) -> datetime | None:
        images = [each for each in manifest.get("manifests") or () if isinstance(each, dict)]
        if images:
            real = [each for each in images if (each.get("platform") or {}).get("os") != "unknown"]
            digest = str((real or images)[0].get("digest"))
            if not _DIGEST.fullmatch(digest):
                return None
            body, _ = self._get(f"/v2/{repository}/manifests/{digest}", scope, accept=_MANIFESTS)
            manifest = self._object(body)
        digest = str((manifest.get("config") or {}).get("digest"))
        if not _DIGEST.fullmatch(digest):
            return None
        body, _ = self._get(f"/v2/{repository}/blobs/{digest}", scope)
        try:
            made = datetime.fromisoformat(str(self._object(body).get("created")))
        except ValueError:
            return None
        made = made if made.tzinfo else made.replace(tzinfo=UTC)
        return made.astimezone(UTC) if made >= OLDEST else None

    def _no_repository(self, repository: str) -> MooringsError:
        known: list[str] = []
        with contextlib.suppress(MooringsError, _NotThere):  # not every registry tells, and not everybody
            body, _ = self._get(f"/v2/_catalog?n={SHOWN_REPOSITORIES}", "registry:catalog:*")
            known = [str(name) for name in self._object(body).get("repositories") or ()]
        evidence = (f"it has: {', '.join(known)}",) if known else ()
        message = f"the registry {self.registry} has no repository {repository}"
        fields = {"registry": self.registry, "repository": known[0] if known else "<repository>"}
        return error("RepositoryNotFound", message, target="--repository", evidence=evidence, fields=fields)

    # --- the protocol ---

    def _pages(self, path: str, key: str, scope: str) -> Iterator[Any]:
        following: str | None = f"{path}?n={PAGE}"
        for _ in range(MAX_PAGES):
            if following is None:
                return
            body, answered = self._get(following, scope)
            yield from self._object(body).get(key) or ()
            found = _NEXT.search(answered.get("link", ""))
            # Only path and query: wherever it points, the credentials stay with this registry.
            parts = urlsplit(urljoin(path, found[1])) if found else None
            following = f"{parts.path}?{parts.query}" if parts else None

    def _get(self, path: str, scope: str, *, accept: str = "application/json") -> tuple[bytes, httpx.Headers]:
        for last in (False, True):
            headers = {"Accept": accept}
            if self._authorization is not None:
                headers["Authorization"] = self._authorization
            status, body, answered = self._ask("GET", f"{self._base}{path}", headers)
            if status == 200:
                return body, answered
            if status == 404:
                raise _NotThere
            if status == 401 and not last:
                self._authorization = self._authorize(answered.get_list("www-authenticate"), scope)
                continue
            if status in (401, 403):
                raise self._denied(f"HTTP {status}: {_text(body)}")
            raise self._unreachable(f"HTTP {status} to GET {path.partition('?')[0]}", _text(body))
        raise AssertionError("the second try returns or raises")

    def _authorize(self, challenges: Sequence[str], scope: str) -> str:
        """The header that answers a challenge: the login itself, or a token for it from the server that is named."""
        login = self._login()
        asked = " ".join(challenges)
        kind, _, rest = asked.strip().partition(" ")
        if kind.lower() == "bearer":
            return f"Bearer {self._token(dict(_CHALLENGE.findall(rest)), scope, login)}"
        if kind.lower() != "basic":
            raise self._unreachable("it asks for credentials of an unknown kind", asked)
        if login is None or login.is_identity:
            raise self._denied("it wants a user and a password, and there are none for it")
        return _basic(login)

    def _token(self, challenge: Mapping[str, str], scope: str, login: Login | None) -> str:
        realm = challenge.get("realm", "")
        parts = urlsplit(realm)
        if parts.scheme != "https" and not (parts.scheme == "http" and (self._plain or _here(parts.netloc))):
            raise self._unreachable("it names a token server that is not reached over TLS", realm)
        asked = {"scope": scope} | {k: v for k, v in challenge.items() if k in ("service", "scope")}
        if login is not None and login.is_identity:
            form = {**asked, "grant_type": "refresh_token", "client_id": "moorings"}
            status, body, _ = self._ask("POST", realm, {}, form={**form, "refresh_token": login.password})
        else:
            headers = {"Authorization": _basic(login)} if login is not None else {}
            status, body, _ = self._ask("GET", realm, headers, query=asked)
        if status in (401, 403):
            raise self._denied(f"{realm}: HTTP {status}: {_text(body)}")
        if status != 200:
            raise self._unreachable(f"its token server answers HTTP {status}", f"{realm}: {_text(body)}")
        given = self._object(body)
        token = given.get("token") or given.get("access_token")
        if not isinstance(token, str):
            raise self._unreachable("its token server gives no token", realm)
        return token

    def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        *,
        query: Mapping[str, str] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes, httpx.Headers]:
        import httpx

        body = b""
        try:
            with self._client.stream(
                method, url, headers=dict(headers), params=query, data=dict(form) if form else None
            ) as response:
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > MAX_ANSWER_BYTES:
                        raise self._unreachable("its answer is too large", url.partition("?")[0])
                return response.status_code, body, response.headers
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as problem:
            raise self._unreachable(
                f"no answer to {method} {url.partition('?')[0]}", f"{type(problem).__name__}: {problem}"
            ) from None

    def _connected(self) -> httpx.Client:
        """A client, after it has been found out whether this registry speaks TLS."""
        import httpx

        here = _here(self._api)
        client = httpx.Client(
            timeout=TIMEOUT_S, follow_redirects=True, trust_env=not here, verify=self._authorities()
        )
        try:
            client.get(f"https://{self._api}/v2/", follow_redirects=False)
        except (httpx.HTTPError, httpx.InvalidURL) as problem:
            if not here and not self._speaks_plainly():
                client.close()
                raise self._unreachable("no connection", f"{type(problem).__name__}: {problem}") from None
            self._plain = True
        return client

    @property
    def _base(self) -> str:
        return f"{'http' if self._plain else 'https'}://{self._api}"

    def _authorities(self) -> ssl.SSLContext:
        context = ssl.create_default_context()
        for path in sorted(CERTIFICATES.joinpath(self.registry).glob("*.crt")):
            try:
                context.load_verify_locations(path)
            except OSError as problem:  # ssl.SSLError is one
                raise self._unreachable(f"the certificate {path} cannot be used", str(problem)) from None
        return context

    # --- failures ---

    def _object(self, body: bytes) -> dict[str, Any]:
        try:
            found = json.loads(body)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._unreachable("it does not answer as a registry does", _text(body))
        return found

    def _unreachable(self, message: str, evidence: str) -> MooringsError:
        command = f"curl -i {self._base}/v2/"
        fix = sentence("See that it answers: {command}   Then run the same command again.", command=command)
        text = f"the registry {self.registry}: {message}"
        return error("RegistryUnreachable", text, target=self.registry, evidence=(evidence[:500],), fix=fix)

    def _denied(self, evidence: str) -> MooringsError:
        fix = sentence(
            'docker login {registry} (as the user the workspace runs as), or "registry" in settings.json; '
            "then run the same command again.",
            registry=self.registry,
        )
        text = f"the registry {self.registry} does not accept who we are"
        return error("ImagePullDenied", text, target=self.registry, evidence=(evidence[:500],), fix=fix)


def _basic(login: Login) -> str:
    return "Basic " + base64.b64encode(f"{login.user}:{login.password}".encode()).decode()


def _here(address: str) -> bool:
    """Whether `host[:port]` is this machine."""
    host = urlsplit(f"//{address}").hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _text(body: bytes) -> str:
    return " ".join(body[:400].decode(errors="replace").split())
