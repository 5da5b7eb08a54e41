"""Which lines of a container belong to one request. Pure.

The server's line about a request tells its process, when it was answered and how long that took. What the same process wrote
meanwhile is taken for the request's: exactly that where a worker has one request at a time, and with it what was written for
others at the same moment where it has several.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime
from typing import NamedTuple

from moorings.lib.logfile import Line

LONGEST_GROUP = 1000
"""Lines that follow one line of the server: a longer traceback loses its beginning."""
SLACK_S = 0.002
"""Times are in whole milliseconds."""
PIPE_S = 0.02
"""So long a line may be under way from the process to its log."""
_SERVER = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) [A-Z] \[(\d+)\] ")
_REQUEST = re.compile(r" \d{3} (\d+\.\d{3})ms \S+ request_id=(\S+)$")


class _Window(NamedTuple):
    process: str
    begin_s: float
    end_s: float


def lines_of_requests(lines: Iterable[Line], ids: Collection[str]) -> Iterator[Line]:
    """Newest first, as `lines` are: those that name one of the ids, and those that belong to such a request."""
    windows: list[_Window] = []
    group: deque[Line] = deque(maxlen=LONGEST_GROUP)
    for line in lines:
        found = _SERVER.match(line.text)
        if found is None:
            group.append(line)
            continue
        at, process = _seconds(found[1]), found[2]
        request = _REQUEST.search(line.text)
        if request is not None:
            ours = request[2] in ids
            if ours:
                windows.append(_Window(process, at - float(request[1]) / 1000, at))
            yield from (each for each in group if _alone(each, windows, ids))
        else:
            ours = _names(line, ids) or any(
                w.process == process and w.begin_s - SLACK_S <= at <= w.end_s + SLACK_S for w in windows
            )
            yield from (each for each in group if ours or _names(each, ids))
        group.clear()
        if ours:
            yield line
    yield from (each for each in group if _alone(each, windows, ids))


def _alone(line: Line, windows: Iterable[_Window], ids: Collection[str]) -> bool:
    """Of a line that follows none of the server's: by when it was taken in, or because it names the request."""
    if _names(line, ids):
        return True
    try:
        at = datetime.fromisoformat(line.at).timestamp()
    except ValueError:
        return False
    return any(w.begin_s - SLACK_S <= at <= w.end_s + PIPE_S for w in windows)


def _names(line: Line, ids: Collection[str]) -> bool:
    return any(id_ in line.text for id_ in ids)


def _seconds(text: str) -> float:
    try:
        return datetime.strptime(text, "%Y-%m-%d %H:%M:%S,%f").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return 0.0
