"""The language of the request that is being answered: set where a request comes in, read where a failure becomes a body.
Each request is served in a context of its own, so requests do not see one another's."""

from __future__ import annotations

from contextvars import ContextVar

from starlette.datastructures import Headers
from starlette.types import Scope

from moorings.errors.language import ENGLISH, from_header

_LANGUAGE: ContextVar[str] = ContextVar("language", default=ENGLISH)


def listen(scope: Scope) -> None:
    """Take the language from the request's `Accept-Language`."""
    _LANGUAGE.set(from_header(Headers(scope=scope).get("accept-language")))


def spoken() -> str:
    """The language to answer in."""
    return _LANGUAGE.get()
