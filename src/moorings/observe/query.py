"""What somebody wants to see of a deployment's logs: from the body of a request to a value. Pure: `now` is an argument."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from moorings.errors.exceptions import Failure, error, failure
from moorings.errors.sentence import sentence
from moorings.lib.logfile import stamp

ALL = "all"
SERVER = "inference-server"
INITIALIZER = "storage-initializer"
CONTAINERS: Mapping[str, str] = {
    "inferenceserver": SERVER,
    "storageinitializer": INITIALIZER,
    SERVER: SERVER,
    INITIALIZER: INITIALIZER,
    ALL: ALL,
}
DEFAULT_LINES = 5000
MAX_LINES = 100_000
LONGEST_ID = 256
FIX = sentence("Correct what is named above; what can be asked for: moor online-deployment get-logs -h")
_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,6})?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class LogQuery:
    """Everything is optional; what is given has to hold for a line all at once."""

    container: str = SERVER
    """One of the values of `CONTAINERS`; `all`: one stream of everything that has to do with the deployment."""
    lines: int = DEFAULT_LINES
    since: str = ""
    """A stamp (`lib/logfile.py`); "" for no limit."""
    request_ids: tuple[str, ...] = ()
    """A line has to hold one of them; () for all lines."""
    instance: str = ""
    """An id, or its end (`0`, `1a2b3c4d5e6f-0`)."""
    deleted: bool = False
    """Of the deployment of this name that was deleted last."""

    def wants_instance(self, instance: str) -> bool:
        return self.instance in ("", instance) or instance.endswith(f"-{self.instance}")


def parse(body: Mapping[str, Any], now: float) -> LogQuery:
    """Raises `RequestInvalid` (the caller's fault) with all that is wrong at once. What other clients send that is no
    number of lines is taken for the default, as they expect."""
    wrong: list[Failure] = []

    def text(key: str) -> str:
        value = body.get(key)
        if value is None:
            return ""
        if not isinstance(value, str) or len(value) > LONGEST_ID or not value.isprintable():
            wrong.append(_invalid(key, f"{key} {value!r}: expected a short text"))
            return ""
        return value.strip()

    asked = str(body.get("containerType") or SERVER)
    container = CONTAINERS.get(asked.lower(), "")
    if not container:
        message = f"containerType {asked!r}: expected InferenceServer, StorageInitializer or All"
        wrong.append(_invalid("containerType", message))
    since = text("since")
    if since:
        try:
            since = since_stamp(since, now)
        except ValueError as problem:
            wrong.append(_invalid("since", f"since {since!r}: {problem}"))
    tail = body.get("tail")
    good = isinstance(tail, int) and not isinstance(tail, bool) and tail >= 0
    found = LogQuery(
        container=container or SERVER,
        lines=min(tail, MAX_LINES) if good and tail is not None else DEFAULT_LINES,
        since=since,
        request_ids=tuple(filter(None, (text("requestId"),))),
        instance=text("instance"),
        deleted=body.get("deleted") is True,
    )
    if len(wrong) == 1:
        raise error("RequestInvalid", wrong[0].message, target=wrong[0].target, fix=FIX)
    if wrong:
        message = "; ".join(each.message for each in wrong)
        raise error("RequestInvalid", message, target="getLogs", details=wrong, fix=FIX)
    return found


def since_stamp(text: str, now: float) -> str:
    """The stamp of `10m` (ago; ms, s, m, h, d) or of a time (`2026-11-25T16:46:52Z`; without a zone it is UTC).

    Raises ValueError with a sentence for the user.
    """
    ago = _AGO.fullmatch(text.lower())
    try:
        if ago:
            moment = now - float(ago[1]) * _SECONDS[ago[2]]
        else:
            when = datetime.fromisoformat(text)
            moment = (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
        return stamp(max(0.0, moment)).decode().strip()
    except (ValueError, OverflowError):
        raise ValueError(
            "expected how long ago (30s, 10m, 2h, 1d) or a time (2026-11-25T16:46:52Z)"
        ) from None


def _invalid(target: str, message: str) -> Failure:
    return failure("RequestInvalid", message, target=target)
