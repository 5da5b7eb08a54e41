"""The page of each error code, where the `docs` link of an error leads: the same text as in the documentation, from the
catalogue that is running. For anybody who reaches the API: nothing of a workspace is in it."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from fastapi.responses import PlainTextResponse

from moorings.api.language import spoken
from moorings.errors.exceptions import error
from moorings.errors.find import find, suggest
from moorings.errors.language import LANGUAGES
from moorings.errors.pages import entry_page, group_page

PATH = re.compile(r"/docs/errors/[A-Za-z0-9_]+")


def router() -> APIRouter:
    made = APIRouter()

    @made.get("/docs/errors/{code}", response_class=PlainTextResponse)
    def page(code: str, request: Request) -> PlainTextResponse:
        """The page of a code or group, as Markdown; `?lang=fr` or `Accept-Language` chooses the language."""
        asked = request.query_params.get("lang", "").lower()
        language = asked if asked in LANGUAGES else spoken()
        found = find(code)
        if found is None:
            near = suggest(code)
            hint = f"; did you mean {' or '.join(near[:3])}?" if near else ""
            fields = {"code": near[0] if near else "ERR_2200"}
            raise error("CodeUnknown", f"no error is called {code!r}{hint}", target=code, fields=fields)
        text = (
            group_page(found.name, found.entries, language)
            if found.is_group
            else entry_page(found.entries[0], language)
        )
        return PlainTextResponse(text, headers={"content-language": language})

    return made
