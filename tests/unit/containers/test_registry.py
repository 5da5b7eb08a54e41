"""The reader of registries: names, order, and what it does with the answers of one (over a transport in memory)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from moorings.containers import registry
from moorings.containers.credentials import Login
from moorings.containers.host import DockerHost, kept_login
from moorings.containers.registry import ImageRegistry, Tag, names_of, ordered, repository_of
from moorings.errors.exceptions import MooringsError

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("address", "names"),
    [
        ("reg.example:5000", ("reg.example:5000", "reg.example", "reg")),
        ("reg.example", ("reg.example", "reg")),
        ("127.0.0.1:5000", ("127.0.0.1:5000", "127.0.0.1")),
        ("localhost:5000", ("localhost:5000", "localhost")),
    ],
)
def test_what_a_registry_may_be_called(address: str, names: tuple[str, ...]) -> None:
    assert names_of(address) == names


@pytest.mark.parametrize(
    ("address", "given", "name"),
    [
        ("reg.example", "team/x", "team/x"),
        ("reg.example", "reg.example/team/x", "team/x"),
        ("reg.example", "team/x:1", None),
        ("reg.example", "../v2", None),
        ("reg.example", "Team", None),
        ("docker.io", "python", "library/python"),
    ],
)
def test_the_name_of_a_repository(address: str, given: str, name: str | None) -> None:
    assert repository_of(address, given) == name


def test_order_by_time_with_the_dateless_last() -> None:
    old, new = (datetime(year, 1, 1, tzinfo=UTC) for year in (2020, 2024))
    tags = [Tag("b"), Tag("new", created_at=new), Tag("a"), Tag("old", created_at=old)]
    assert [t.name for t in ordered(tags, newest_first=True)] == ["new", "old", "a", "b"]
    assert [t.name for t in ordered(tags, newest_first=False)] == ["old", "new", "a", "b"]


Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Callable[..., ImageRegistry]:
    """(what answers, who we are, whether plain HTTP is allowed) -> the reader of `reg.example`."""
    real = httpx.Client

    def make(handler: Handler, login: Login | None = None, *, plain: bool = False) -> ImageRegistry:
        def client(**more: Any) -> httpx.Client:
            kept = {k: v for k, v in more.items() if k in ("follow_redirects", "timeout")}
            return real(transport=httpx.MockTransport(handler), **kept)

        monkeypatch.setattr(httpx, "Client", client)
        return ImageRegistry("reg.example", lambda: login, lambda: plain)

    return make


def failure_of(action: Callable[[], object]) -> Any:
    with pytest.raises(MooringsError) as caught:
        action()
    return caught.value.failure


def test_pages_are_followed_and_never_to_another_host(made: Any) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        if "tags" not in request.url.path:
            return httpx.Response(200, json={})
        if "last" in str(request.url):
            return httpx.Response(200, json={"tags": ["c"]})
        link = '<https://evil.example/v2/x/tags/list?last=b>; rel="next"'
        return httpx.Response(200, json={"tags": ["b", "a", "../../odd"]}, headers={"Link": link})

    found = made(handler).tags("x", details=False)
    assert [t.name for t in found] == ["a", "b", "c"]
    assert {httpx.URL(url).host for url in asked} == {"reg.example"}


def test_an_identity_token_is_exchanged_and_an_index_looked_into(made: Any) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.url.host == "tokens.example":
            form = dict(httpx.QueryParams(request.content.decode()))
            assert (form["grant_type"], form["refresh_token"]) == ("refresh_token", "ident")
            assert (form["scope"], form["service"]) == ("repository:x:pull", "s")
            return httpx.Response(200, json={"access_token": "t0k"})
        if request.headers.get("Authorization") != "Bearer t0k":
            challenge = 'Bearer realm="https://tokens.example/t",service="s",scope="repository:x:pull"'
            return httpx.Response(401, headers={"WWW-Authenticate": challenge})
        if path.endswith("/tags/list"):
            return httpx.Response(200, json={"tags": ["1", "gone"]})
        if path.endswith("/manifests/1"):
            listed = [
                {"digest": "sha256:" + "b" * 64, "platform": {"os": "unknown"}},
                {"digest": DIGEST, "platform": {"os": "linux"}},
            ]
            return httpx.Response(
                200, json={"manifests": listed}, headers={"Docker-Content-Digest": "sha256:of-index"}
            )
        if path.endswith(f"/manifests/{DIGEST}"):
            return httpx.Response(200, json={"config": {"digest": DIGEST}})
        if path.endswith(f"/blobs/{DIGEST}"):
            return httpx.Response(200, json={"created": "2024-01-02T03:04:05.123456789Z"})
        return httpx.Response(404)

    found = made(handler, Login("", "ident", is_identity=True)).tags("x", details=True)
    assert found == [Tag("1", "sha256:of-index", datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC))]


def test_credentials_do_not_go_to_a_token_server_without_tls(made: Any) -> None:
    asked: list[str] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(401, headers={"WWW-Authenticate": 'Bearer realm="http://tokens.example/t"'})

    failed = failure_of(lambda: made(handler, Login("ann", "pw")).tags("x", details=False))
    assert failed.code == "RegistryUnreachable" and "TLS" in failed.message
    assert "tokens.example" not in asked


def test_without_tls_only_where_that_is_allowed(made: Any) -> None:
    basic = "Basic " + base64.b64encode(b"ann:pw").decode()

    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.scheme == "https":
            raise httpx.ConnectError("no TLS here", request=request)
        if request.headers.get("Authorization") != basic:
            return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        return httpx.Response(200, content=json.dumps({"tags": None}))

    failed = failure_of(lambda: made(handler, Login("ann", "pw")))
    assert failed.code == "RegistryUnreachable" and "curl" in failed.fix
    assert made(handler, Login("ann", "pw"), plain=True).tags("x", details=False) == []
    denied = failure_of(lambda: made(handler, None, plain=True).tags("x", details=False))
    assert denied.code == "ImagePullDenied" and "docker login reg.example" in denied.fix


def test_answers_that_are_no_registrys(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = failure_of(lambda: made(lambda _: httpx.Response(200, text="<html>")).tags("x", details=False))
    assert failed.code == "RegistryUnreachable" and failed.evidence == ("<html>",)
    monkeypatch.setattr(registry, "MAX_ANSWER_BYTES", 10)
    large = made(lambda _: httpx.Response(200, text="x" * 100))
    assert "too large" in failure_of(lambda: large.tags("x", details=False)).message


@pytest.mark.parametrize(
    ("address", "plain"),
    [
        ("named.example:5000", True),
        ("secure.example", False),
        ("10.1.2.3:5000", True),
        ("192.0.2.1:5000", False),
        ("other.example:5000", False),
    ],
)
def test_which_registries_the_engine_speaks_to_without_tls(
    monkeypatch: pytest.MonkeyPatch, address: str, plain: bool
) -> None:
    indexes = {"named.example:5000": {"Secure": False}, "secure.example": {"Secure": True}}
    config = {"IndexConfigs": indexes, "InsecureRegistryCIDRs": ["::1/128", "10.0.0.0/8"]}
    monkeypatch.setattr(DockerHost, "facts", lambda _: {"RegistryConfig": config})
    assert DockerHost("unix:///nowhere", lambda _: None).speaks_plainly(address) is plain


@pytest.mark.parametrize(
    ("entry", "login"),
    [
        ({"auth": base64.b64encode(b"ann:pw").decode()}, Login("ann", "pw")),
        ({"auth": "", "identitytoken": "ident"}, Login("", "ident", is_identity=True)),
    ],
)
def test_what_docker_login_keeps(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, entry: dict[str, str], login: Login
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"reg.example:5000": entry}}))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    assert kept_login("reg.example:5000") == login
    assert kept_login("other.example") is None
