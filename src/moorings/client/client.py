"""The control API as small methods, one for each call. It sends and decodes; what to call in which order is
not known here."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from moorings.client.faults import from_answer
from moorings.client.following import BREAKS, Thread
from moorings.client.intake import Watcher
from moorings.client.operations import Operation, Report, poll_delay_s, report_from
from moorings.client.transport import Answer, Transport, Write
from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import sentence
from moorings.spec.quota import REGION

API_VERSION = "2023-04-01"
ASSET_TIMEOUT_S = 6 * 3600.0
"""Taking in a model reads all of it: a big one on a slow disk takes its time."""
_MAX_PAGES = 1000


@dataclass(frozen=True)
class Accepted:
    """A request that was taken: the resource as it is now ({} for a delete) and the operation, if it goes
    on."""

    body: dict[str, Any]
    operation: Operation | None


class Client:
    """The control API of one workspace.

    Every method raises `ApiError` (with the server's code) for an answer that is an error, and
    `WorkspaceUnreachable` when there is no answer. Bodies are the JSON of the API, ARM-shaped.
    """

    def __init__(self, transport: Transport, workspace_path: str, watcher: Watcher | None = None) -> None:
        """`watcher` tells how far the workspace is while it takes in content."""
        self._transport = transport
        self._watcher = watcher
        self.workspace_path = workspace_path.rstrip("/")

    def workspace(self, *, timeout_s: float = 60.0) -> dict[str, Any]:
        return _object(self._send("GET", "", timeout_s=timeout_s))

    def client_access(self, *, on: bool) -> dict[str, Any]:
        """Open or close the listener for the ecosystem's clients: `baseUrl`, `caBundle`, `identityEndpoint`,
        `identityHeader` when it is open."""
        return _object(self._send("POST", "/clientAccess", {"on": on}))

    def blob_exists(self, account: str, container: str, name: str) -> dict[str, Any]:
        """`exists` of a blob in the workspace's own store; `below`: one that lies in the folder of this name."""
        asked = urlencode({"account": account, "container": container, "name": name})
        path = f"{self.workspace_path}/blobExists?api-version={API_VERSION}&{asked}"
        return _object(self._checked("GET", path, None, 60.0))

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        asked: Mapping[str, str | None] | None = None,
    ) -> tuple[int, dict[str, Any]]:
        """A request about what is beside the workspace's endpoints and assets: status and body ({} without one)."""
        query = {"api-version": API_VERSION, **{k: v for k, v in (asked or {}).items() if v is not None}}
        answer = self._checked(method, f"{path}?{urlencode(query)}", body, 60.0)
        return answer.status, _object(answer) if answer.body.strip() else {}

    # --- endpoints ---

    def endpoints(self) -> list[dict[str, Any]]:
        return list(self._pages("/onlineEndpoints"))

    def endpoint(self, name: str) -> dict[str, Any]:
        return _object(self._send("GET", _endpoint(name)))

    def put_endpoint(self, name: str, body: Mapping[str, Any]) -> Accepted:
        return _accepted(self._send("PUT", _endpoint(name), body))

    def delete_endpoint(self, name: str) -> Accepted:
        return _accepted(self._send("DELETE", _endpoint(name)))

    def keys(self, name: str) -> dict[str, Any]:
        """`primaryKey` and `secondaryKey`."""
        return _object(self._send("POST", f"{_endpoint(name)}/listKeys"))

    def token(self, name: str) -> dict[str, Any]:
        """`accessToken`, `expiryTimeUtc`, `refreshAfterTimeUtc`, `tokenType`."""
        return _object(self._send("POST", f"{_endpoint(name)}/token"))

    def regenerate_key(self, name: str, which: str) -> Accepted:
        """`which` is `primary` or `secondary`."""
        body = {"keyType": which.capitalize()}
        return _accepted(self._send("POST", f"{_endpoint(name)}/regenerateKeys", body))

    # --- deployments ---

    def deployments(self, endpoint: str) -> list[dict[str, Any]]:
        return list(self._pages(f"{_endpoint(endpoint)}/deployments"))

    def deployment(self, endpoint: str, name: str) -> dict[str, Any]:
        return _object(self._send("GET", _deployment(endpoint, name)))

    def put_deployment(self, endpoint: str, name: str, body: Mapping[str, Any]) -> Accepted:
        return _accepted(self._send("PUT", _deployment(endpoint, name), body))

    def patch_deployment(self, endpoint: str, name: str, body: Mapping[str, Any]) -> Accepted:
        """Only `sku.capacity` and `tags` are read."""
        return _accepted(self._send("PATCH", _deployment(endpoint, name), body))

    def delete_deployment(self, endpoint: str, name: str) -> Accepted:
        return _accepted(self._send("DELETE", _deployment(endpoint, name)))

    def logs(self, endpoint: str, name: str, asked: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
        """(lines, what to tell when there are none). `asked`: `containerType` (`InferenceServer`, `StorageInitializer`,
        `All`), `tail`, `since`, `requestId`, `instance`, `deleted`. A line has `time`, `phase`, `container`, `instance`
        and `text`."""
        body = {**asked, "structured": True}
        answer = _object(self._send("POST", f"{_deployment(endpoint, name)}/getLogs", body))
        return list(answer.get("lines") or ()), str(answer.get("content") or "")

    def follow_logs(
        self, endpoint: str, name: str, asked: Mapping[str, Any], heard: Callable[[dict[str, Any]], None]
    ) -> None:
        """The same lines to `heard`, then new ones as they come, until the deployment is gone. A connection that breaks
        is taken up again after the last line that was heard."""
        path = f"{self.workspace_path}{_deployment(endpoint, name)}/followLogs?api-version={API_VERSION}"
        thread = Thread(dict(asked), heard)
        while True:
            try:
                answer = self._transport.stream(path, thread.asked(), thread.line)
                if answer.status == 404 and thread.heard_any:
                    return  # it was deleted while nothing could be heard
                if answer.status >= 400:
                    raise from_answer(answer, f"POST {path.partition('?')[0]}")
                if thread.ended:
                    return
                broken = error("WorkspaceUnreachable", "the stream of lines broke off")
            except MooringsError as problem:
                if problem.failure.code not in BREAKS:
                    raise
                broken = problem
            if not thread.try_again():
                raise broken

    def check_quota(self, endpoint: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Whether a deployment would fit (`client/quota.py`); an empty `body`: the one that is there."""
        return _object(self._send("POST", f"{_deployment(endpoint, name)}/checkQuota", body))

    def in_region(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        region: str | None = None,
    ) -> list[dict[str, Any]]:
        """What is answered below the region of the workspace, which belongs to its subscription: a list."""
        subscription = self.workspace_path.partition("/resourceGroups/")[0]
        below = f"/providers/Microsoft.MachineLearningServices/locations/{part(region or REGION)}{path}"
        url = f"{subscription}{below}?api-version={API_VERSION}"
        found = _object(self._checked(method, url, body, 60.0)).get("value") or ()
        return [item for item in found if isinstance(item, dict)]

    def diagnose(self, endpoint: str, name: str) -> dict[str, Any]:
        """What is wrong with a deployment now: `verdict` (an error object, or None), `summary`, `phases`,
        `instances`."""
        return _object(self._send("POST", f"{_deployment(endpoint, name)}/diagnose"))

    # --- assets ---

    def put_asset(self, kind: str, name: str, version: str | None, body: Mapping[str, Any]) -> dict[str, Any]:
        """Register a version of `codes`, `models`, `environments` or `data`, or change its words; the answer has the
        `id` to refer to it by. Without `version` it gets the next number."""
        if version is not None:
            return self._take_in("PUT", _version(kind, name, version), body)
        return self._take_in("POST", f"{_container(kind, name)}/versions", body)

    def asset(self, kind: str, name: str, version: str) -> dict[str, Any]:
        return _object(self._send("GET", _version(kind, name, version)))

    def asset_versions(
        self,
        kind: str,
        name: str,
        *,
        view: str = "ActiveOnly",
        stage: str | None = None,
        top: int | None = None,
    ) -> list[dict[str, Any]]:
        """The versions of a name, newest first; [] when the name is not known. `view` is `ActiveOnly`,
        `ArchivedOnly` or `All`."""
        asked = {"listViewType": view, "stage": stage, "$top": top}
        return list(self._pages(f"{_container(kind, name)}/versions", asked))

    def asset_containers(
        self, kind: str, *, view: str = "ActiveOnly", top: int | None = None
    ) -> list[dict[str, Any]]:
        """One entry for each name that is not implicit."""
        return list(self._pages(f"/{kind}", {"listViewType": view, "$top": top}))

    def asset_container(self, kind: str, name: str) -> dict[str, Any]:
        return _object(self._send("GET", _container(kind, name)))

    def put_asset_container(self, kind: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return _object(self._send("PUT", _container(kind, name), body))

    def asset_files(self, kind: str, name: str, version: str) -> dict[str, Any]:
        """What a version consists of: `files` (path, sizeBytes, sha256, executable) and `emptyFolders`, paths
        percent-encoded."""
        return _object(self._send("GET", f"{_version(kind, name, version)}/files"))

    def fetch_asset_file(self, kind: str, name: str, version: str, sha256: str, write: Write) -> None:
        """Hand the content of one of its files to `write`, piece by piece."""
        path = f"{_version(kind, name, version)}/files/{part(sha256)}"
        full = f"{self.workspace_path}{path}?api-version={API_VERSION}"
        answer = self._transport.fetch(full, write)
        if answer.status >= 400:
            raise from_answer(answer, f"GET {path}")

    def environment_build_log(self, name: str, version: str) -> dict[str, Any]:
        """`content` and `key` of the build."""
        return _object(self._send("GET", f"{_version('environments', name, version)}/buildLog"))

    def build_log(self, key: str) -> dict[str, Any]:
        return _object(self._send("GET", f"/environmentBuilds/{part(key)}/log"))

    def environment_build(self, name: str, version: str) -> dict[str, Any] | None:
        """The build of a registered environment: `key`, `locks`, `sizeBytes`, `usedBy`, ...; None when nothing is known
        of one."""
        try:
            found = _object(self._send("GET", f"{_version('environments', name, version)}/build")).get(
                "build"
            )
        except MooringsError as problem:
            if is_missing(problem):
                return None
            raise
        return found if isinstance(found, dict) else None

    def build(self, key: str) -> dict[str, Any]:
        """The same of a build key, or of its first digits."""
        return _object(self._send("GET", f"/environmentBuilds/{part(key)}"))

    def builds(self) -> list[dict[str, Any]]:
        """All built environments, without their locks and packages."""
        return list(self._pages("/environmentBuilds"))

    def prune_builds(self, *, dry_run: bool) -> dict[str, Any]:
        """Remove environments that nobody uses: `removed`, `kept`, `freedBytes`."""
        return _object(
            self._send("POST", "/environmentBuilds/prune", {"dryRun": dry_run}, timeout_s=ASSET_TIMEOUT_S)
        )

    # --- operations ---

    def report(self, operation: Operation) -> Report:
        """Ask after an operation once."""
        answer = self._checked("GET", operation.url, None, 60.0)
        return report_from(_object(answer), answer.header("x-ms-retry-after-ms"))

    def _take_in(self, method: str, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        url = f"{self.workspace_path}{path}?api-version={API_VERSION}"
        if self._watcher is None:
            return _object(self._checked(method, url, body, ASSET_TIMEOUT_S))
        id_ = uuid.uuid4().hex
        progress = f"{self.workspace_path}/intakes/{id_}?api-version={API_VERSION}"
        answer = self._watcher.run(
            lambda: self._checked(method, f"{url}&intake={id_}", body, ASSET_TIMEOUT_S), progress
        )
        return _object(answer)

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, timeout_s: float | None = 60.0
    ) -> Answer:
        return self._checked(
            method, f"{self.workspace_path}{path}?api-version={API_VERSION}", body, timeout_s
        )

    def _checked(
        self, method: str, path: str, body: Mapping[str, Any] | None, timeout_s: float | None
    ) -> Answer:
        answer = self._transport.send(method, path, body=body, timeout_s=timeout_s)
        if answer.status >= 400:
            raise from_answer(answer, f"{method} {path.partition('?')[0]}")
        return answer

    def _pages(self, path: str, asked: Mapping[str, Any] | None = None) -> Iterator[dict[str, Any]]:
        given = {"api-version": API_VERSION, **{k: v for k, v in (asked or {}).items() if v is not None}}
        url = f"{self.workspace_path}{path}?{urlencode(given, safe='$')}"
        answer = self._checked("GET", url, None, 60.0)
        for _ in range(_MAX_PAGES):
            page = _object(answer)
            yield from (item for item in page.get("value") or () if isinstance(item, dict))
            following = page.get("nextLink")
            if not following:
                return
            answer = self._checked("GET", _local(str(following)), None, 60.0)


def is_missing(problem: MooringsError) -> bool:
    """Whether a failure says that the resource asked for is not there."""
    return getattr(problem, "status", None) == 404


def _accepted(answer: Answer) -> Accepted:
    url = answer.header("azure-asyncoperation")
    body = _object(answer) if answer.body.strip() else {}
    if url is None:
        return Accepted(body, None)
    return Accepted(body, Operation(_local(url), poll_delay_s(answer.header("x-ms-retry-after-ms"))))


def _object(answer: Answer) -> dict[str, Any]:
    try:
        body = json.loads(answer.body)
    except ValueError:
        body = None
    if not isinstance(body, dict):
        text = answer.body[:500].decode(errors="replace")
        raise error("WorkspaceAnswerInvalid", f"HTTP {answer.status}, and no JSON object", evidence=(text,))
    return body


def _local(url: str) -> str:
    """Path and query of an address: whatever host it names, it is asked for over the same transport."""
    parts = urlsplit(url)
    return parts.path + (f"?{parts.query}" if parts.query else "")


def part(name: str) -> str:
    """A name as one part of a path. Raises `RequestInvalid` for one that would lead to another resource."""
    if name in ("", ".", "..") or "/" in name:
        fix = sentence("Give the name as a list shows it: moor online-endpoint list -o table")
        raise error("RequestInvalid", f"{name!r} cannot be the name of a resource", fix=fix)
    return quote(name, safe="")


def _endpoint(name: str) -> str:
    return f"/onlineEndpoints/{part(name)}"


def _deployment(endpoint: str, name: str) -> str:
    return f"{_endpoint(endpoint)}/deployments/{part(name)}"


def _container(kind: str, name: str) -> str:
    return f"/{kind}/{part(name)}"


def _version(kind: str, name: str, version: str) -> str:
    return f"{_container(kind, name)}/versions/{part(version)}"
