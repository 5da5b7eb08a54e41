"""From failures to HTTP: one error shape for every status. Knows the wire, not the resources."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from moorings.api.language import spoken
from moorings.errors.catalogue import CATALOGUE
from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.errors.language import texts_of
from moorings.errors.pages import link

logger = logging.getLogger(__name__)


def body_of(failed: Failure) -> dict[str, Any]:
    """`{"code", "message", "target", "details": [...], "additionalInfo": [{"type": "moorings", "info": {...}}]}`.

    Title, cause and fix are in the language of the request; the message, which is about this one failure, is English.
    """
    entry, language = CATALOGUE.get(failed.code), spoken()
    info: dict[str, Any] = {"evidence": list(failed.evidence), "fix": failed.remedy.said(language)}
    if failed.confidence:
        info["confidence"] = str(failed.confidence)
    if entry is not None:
        texts = texts_of(entry, language)
        info |= {
            "title": texts.title,
            "cause": texts.cause,
            "numericCode": entry.numeric,
            "family": entry.family,
            "step": str(entry.step),
            "retryable": entry.retryable,
            "fault": str(entry.fault),
            "docs": link(entry.code),
        }
    return {
        "code": failed.code,
        "message": failed.message,
        "target": failed.target,
        "details": [body_of(d) for d in failed.details],
        "additionalInfo": [{"type": "moorings", "info": info}],
    }


def response_of(failed: Failure) -> JSONResponse:
    entry = CATALOGUE.get(failed.code)
    return JSONResponse(
        {"error": body_of(failed)},
        status_code=entry.http_status if entry else 500,
        headers={"content-language": spoken()},
    )


def install(app: FastAPI) -> None:
    """Route every failure through the one shape."""

    @app.exception_handler(MooringsError)
    async def coded(_: Request, problem: MooringsError) -> JSONResponse:
        return response_of(problem.failure)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, problem: RequestValidationError) -> JSONResponse:
        details = [
            failure("RequestInvalid", str(e["msg"]), target=".".join(str(p) for p in e["loc"]))
            for e in problem.errors()
        ]
        return response_of(failure("RequestInvalid", "the request is not valid", details=details))

    @app.exception_handler(HTTPException)
    async def http(request: Request, problem: HTTPException) -> JSONResponse:
        where = f"{request.method} {request.url.path}"
        code = "ResourceNotFound" if problem.status_code == 404 else "RequestInvalid"
        answer = response_of(failure(code, f"{where}: {problem.detail}", target=request.url.path))
        answer.status_code = problem.status_code
        answer.headers.update(problem.headers or {})
        return answer

    @app.exception_handler(Exception)
    async def unknown(request: Request, problem: Exception) -> JSONResponse:
        id_ = request.headers.get("x-ms-client-request-id") or str(uuid.uuid4())
        logger.error("request %s: %s %s failed", id_, request.method, request.url.path, exc_info=problem)
        failed = failure(
            "InternalServerError",
            f"{type(problem).__name__} while serving {request.method} {request.url.path} (request id {id_})",
        )
        return response_of(failed)
