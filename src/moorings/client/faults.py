"""Error bodies of the control API -> exceptions. Codes this version does not know survive with all they
carry."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from moorings.client.transport import REQUEST_ID_HEADER, Answer
from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.errors.sentence import verbatim


@dataclass(frozen=True)
class Description:
    """What is said about a code, by whoever raised it: this catalogue, or a server that may be newer."""

    title: str
    cause: str
    numeric: str | None
    retryable: bool


class ApiError(MooringsError):
    """A failure that the control API reported. `status` is the HTTP status (0 for a failed operation)."""

    def __init__(
        self, failed: Failure, described: Description | None, *, status: int, request_id: str | None = None
    ) -> None:
        super().__init__(failed)
        self.described = described
        self.status = status
        self.request_id = request_id


def from_answer(answer: Answer, what: str) -> ApiError:
    """The failure an answer >= 400 carries; an answer that is no error body of ours becomes
    `WorkspaceAnswerInvalid`."""
    request_id = answer.header(REQUEST_ID_HEADER) or answer.header("x-request-id")
    try:
        body = json.loads(answer.body)["error"]
        if isinstance(body, dict):
            return from_body(body, status=answer.status, request_id=request_id)
    except (ValueError, KeyError, TypeError):
        pass
    text = answer.body[:2000].decode(errors="replace")
    failed = failure(
        "WorkspaceAnswerInvalid",
        f"{what}: HTTP {answer.status} {answer.reason}".rstrip(),
        evidence=tuple(text.splitlines()[:20]),
    )
    return ApiError(failed, None, status=answer.status, request_id=request_id)


def from_body(body: Mapping[str, Any], *, status: int = 0, request_id: str | None = None) -> ApiError:
    """The failure of an ARM error object (`code`, `message`, `details`, `additionalInfo`)."""
    info = _info(body)
    described = None
    if "title" in info or "cause" in info:
        described = Description(
            title=str(info.get("title") or ""),
            cause=str(info.get("cause") or ""),
            numeric=info.get("numericCode"),
            retryable=bool(info.get("retryable")),
        )
    return ApiError(_failure(body), described, status=status, request_id=request_id)


def _failure(body: Mapping[str, Any]) -> Failure:
    info = _info(body)
    details = body.get("details") or ()
    return Failure(
        code=str(body.get("code") or "InternalServerError"),
        message=str(body.get("message") or ""),
        target=body.get("target"),
        evidence=tuple(str(line) for line in info.get("evidence") or ()),
        remedy=verbatim(str(info.get("fix") or "")),
        details=tuple(_failure(d) for d in details if isinstance(d, dict)),
        confidence=str(info.get("confidence") or ""),
    )


def _info(body: Mapping[str, Any]) -> Mapping[str, Any]:
    for item in body.get("additionalInfo") or ():
        if isinstance(item, dict) and item.get("type") == "moorings" and isinstance(item.get("info"), dict):
            info: dict[str, Any] = item["info"]
            return info
    return {}
