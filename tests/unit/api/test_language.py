"""Errors of the API in the caller's language, and the page that their link leads to."""

from __future__ import annotations

import contextvars
from typing import Any

import pytest

from moorings.api.errors import body_of
from moorings.api.language import listen
from moorings.errors.exceptions import Failure, failure
from moorings.errors.pages import link
from moorings.errors.sentence import sentence


async def refused(api: Any, language: str | None) -> tuple[dict[str, Any], Any]:
    headers = {} if language is None else {"accept-language": language}
    answer = await api.ask("GET", "/onlineEndpoints/nowhere", headers=headers)
    assert answer.status_code == 404
    error = answer.json()["error"]
    return error, answer


def info(error: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = error["additionalInfo"][0]["info"]
    return found


@pytest.mark.parametrize(
    ("language", "title", "fix"),
    [
        (None, "The endpoint does not exist", "Create it first: moor online-endpoint create -n nowhere "),
        (
            "fr-CA, en;q=0.5",
            "Le point de terminaison n'existe pas",
            "moor online-endpoint create -n nowhere ",
        ),
        ("de", "Den Endpunkt gibt es nicht", "Zuerst anlegen: moor online-endpoint create -n nowhere "),
        ("es", "El punto de conexión no existe", "Créelo primero: moor online-endpoint create -n nowhere "),
        ("ja", "エンドポイントが存在しません", "moor online-endpoint create -n nowhere "),
        ("tlh", "The endpoint does not exist", "Create it first: "),
    ],
)
async def test_title_cause_and_fix_are_in_the_language_of_the_request(
    api: Any, language: str | None, title: str, fix: str
) -> None:
    error, answer = await refused(api, language)
    assert info(error)["title"] == title
    assert fix in info(error)["fix"]
    assert error["code"] == "EndpointNotFound"
    assert "nowhere" in error["message"]
    assert answer.headers["content-language"] == (language or "en")[:2].replace("tl", "en")


async def test_one_request_does_not_change_the_language_of_the_next(api: Any) -> None:
    await refused(api, "ja")
    error, _ = await refused(api, None)
    assert info(error)["title"] == "The endpoint does not exist"


async def test_an_error_says_which_page_explains_it_and_the_page_is_there(api: Any) -> None:
    error, _ = await refused(api, None)
    assert set(error) == {"code", "message", "target", "details", "additionalInfo"}
    docs = info(error)["docs"]
    assert docs == link("EndpointNotFound")
    page = await api.ask("GET", f"/{docs}")
    assert page.status_code == 200
    assert page.text.startswith("# EndpointNotFound\n")
    french = await api.ask("GET", f"/{docs}?lang=fr")
    assert "**Le point de terminaison n'existe pas**" in french.text
    assert french.headers["content-language"] == "fr"


async def test_pages_of_numbers_and_of_nothing(api: Any) -> None:
    group = await api.ask("GET", "//docs/errors/1350", headers={"accept-language": "de"})
    assert group.status_code == 200
    assert "ArtifactsTooLarge" in group.text
    assert "nicht genug Platz" in group.text
    several = await api.ask("GET", "//docs/errors/StartupTaskAuthorizationError")
    assert "IdentityCannotPull" in several.text
    unknown = await api.ask("GET", "//docs/errors/EndpontNotFound")
    assert unknown.status_code == 404
    assert unknown.json()["error"]["code"] == "CodeUnknown"
    assert "EndpointNotFound" in unknown.json()["error"]["message"]


async def test_who_has_no_token_reads_pages_and_nothing_else(api: Any) -> None:
    page = await api.outside.get("/docs/errors/OutOfMemory", headers={"accept-language": "es"})
    assert page.status_code == 200
    assert "memoria" in page.text
    for path in (
        "/docs/errors/",
        "/docs/errors/../../openapi.json",
        "/docs/errors/a/b",
        "/docs/errors/%2e%2e",
    ):
        answer = await api.outside.get(path, headers={"accept-language": "fr"})
        assert answer.status_code == 401, path
        assert info(answer.json()["error"])["title"] == "La requête vient d'un inconnu"


def body_in(language: str, failed: Failure) -> dict[str, Any]:
    def ask() -> dict[str, Any]:
        listen({"type": "http", "headers": [(b"accept-language", language.encode())]})
        return body_of(failed)

    return contextvars.copy_context().run(ask)


def test_what_to_do_about_one_failure_is_said_in_the_language_of_whoever_asks_for_it_later() -> None:
    fix = sentence("Correct the traffic, then: {command}", command="moor endpoint update -f e.yml")
    stored = Failure.from_json(failure("TrafficInvalid", "m", fix=fix).to_json())
    said = {
        "en": "Correct the traffic, then: moor endpoint update -f e.yml",
        "fr": "Corriger le trafic, puis : moor endpoint update -f e.yml",
        "ja": "トラフィックの指定を直してから: moor endpoint update -f e.yml",
    }
    for language, text in said.items():
        assert info(body_in(language, stored))["fix"] == text


def test_a_stored_failure_can_be_said_in_another_language() -> None:
    made = failure("EndpointNotFound", "m", fields={"endpoint": "shop"})
    stored = Failure.from_json(made.to_json())
    assert stored == made
    assert info(body_of(stored))["fix"] == made.fix
    assert info(body_in("de", stored))["fix"].startswith(
        "Zuerst anlegen: moor online-endpoint create -n shop "
    )
    old = Failure.from_json({"code": "EndpointNotFound", "message": "m", "fix": "of an older version"})
    assert body_of(old)["additionalInfo"][0]["info"]["fix"] == "of an older version"
