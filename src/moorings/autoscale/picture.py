"""What a simulation came to, as a picture (SVG text): load, instances and refused requests over the same time. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from moorings.autoscale.simulation import Outcome, Row

WIDTH, PANEL, GAP, LEFT, TOP, RIGHT = 960, 150, 46, 64, 46, 20
COLUMNS = 480
"""Points that are drawn at most: of what lies closer together the largest counts."""

_STYLE = (
    "text{font:12px sans-serif;fill:#24292f}.h{font-size:15px;font-weight:600}.s{fill:#57606a}"
    ".g{stroke:#d0d7de;stroke-width:1}.a{fill:#ddf4ff;stroke:#0969da;stroke-width:1.5}"
    ".w{fill:none;stroke:#8250df;stroke-width:1.5;stroke-dasharray:4 3}.i{fill:#dafbe1;stroke:#1a7f37;stroke-width:1.5}"
    ".r{fill:#cf222e}.t{fill:#bf8700}"
)


def picture(outcome: Outcome, title: str) -> str:
    """The SVG document: three panels above one another, and a line that says the totals."""
    rows = _thinned(outcome.rows)
    height = TOP + 3 * (PANEL + GAP)
    body = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img" aria-label="{escape(title)}">',
        f"<style>{_STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text class="h" x="{LEFT}" y="22">{escape(title)}</text>',
        f'<text class="s" x="{LEFT}" y="38">{escape(totals(outcome))}</text>',
    ]
    if rows:
        start, end = outcome.rows[0].at_s, outcome.rows[-1].at_s
        panels = _Panels(start, max(end - start, 1e-9))
        body += panels.area(0, "requests a second", rows, "a", lambda row: row.rate_per_s)
        body += panels.area(1, "instances (dashed: wanted)", rows, "i", lambda row: row.serving, step=True)
        body += panels.line(1, rows, "w", lambda row: row.wanted, lambda row: row.serving)
        body += panels.bars(2, "refused a look: 429 red, 408 and 503 yellow", rows)
        body += panels.times()
    return "\n".join([*body, "</svg>", ""])


def totals(outcome: Outcome) -> str:
    """One line: requests, refused, instances."""
    share = 100 * (outcome.rejected + outcome.timed_out) / max(outcome.requests, 1)
    return (
        f"{outcome.requests} requests, {outcome.rejected} rejected (429), {outcome.timed_out} timed out, "
        f"{share:.2f} % refused; at most {outcome.most} instances, {outcome.instance_seconds / 3600:.2f} instance "
        f"hours, {len(outcome.changes)} changes"
    )


def _thinned(rows: Sequence[Row]) -> list[Row]:
    size = math.ceil(len(rows) / COLUMNS) or 1
    return [_largest(rows[at : at + size]) for at in range(0, len(rows), size)]


def _largest(rows: Sequence[Row]) -> Row:
    return Row(
        rows[0].at_s,
        max(row.rate_per_s for row in rows),
        max(row.in_flight for row in rows),
        max(row.wanted for row in rows),
        max(row.serving for row in rows),
        sum(row.rejected for row in rows),
        sum(row.timed_out for row in rows),
    )


Value = Callable[[Row], float]


class _Panels:
    def __init__(self, start_s: float, length_s: float) -> None:
        self._start_s, self._length_s = start_s, length_s

    def area(
        self, number: int, label: str, rows: Sequence[Row], style: str, value: Value, *, step: bool = False
    ) -> list[str]:
        most = max((value(row) for row in rows), default=0) or 1
        points = self._points(number, rows, value, most, step=step)
        bottom = self._bottom(number)
        path = f"M{points[0][0]:.1f},{bottom} L" + " L".join(f"{x:.1f},{y:.1f}" for x, y in points)
        shape = f'<path class="{style}" d="{path} L{points[-1][0]:.1f},{bottom} Z"/>'
        return [*self._frame(number, label, most), shape]

    def line(self, number: int, rows: Sequence[Row], style: str, value: Value, beside: Value) -> list[str]:
        """On the scale of the panel that `beside` has drawn."""
        most = max((beside(row) for row in rows), default=0) or 1
        points = self._points(number, rows, lambda row: min(value(row), most), most, step=True)
        return [f'<polyline class="{style}" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>']

    def bars(self, number: int, label: str, rows: Sequence[Row]) -> list[str]:
        most = max((row.rejected + row.timed_out for row in rows), default=0) or 1
        wide = max((WIDTH - LEFT - RIGHT) / len(rows), 1.0)
        drawn = self._frame(number, label, most)
        for row in rows:
            base = float(self._bottom(number))
            for style, much in (("r", row.rejected), ("t", row.timed_out)):
                if much:
                    high = PANEL * much / most
                    base -= high
                    box = f'x="{self._x(row.at_s):.1f}" y="{base:.1f}" width="{wide:.1f}" height="{high:.1f}"'
                    drawn.append(f'<rect class="{style}" {box}/>')
        return drawn

    def times(self) -> list[str]:
        y = self._bottom(2) + 16
        marks = [self._start_s + self._length_s * part / 6 for part in range(7)]
        return [
            f'<text class="s" x="{self._x(at):.1f}" y="{y}" text-anchor="middle">{_clock(at - self._start_s)}</text>'
            for at in marks
        ]

    def _frame(self, number: int, label: str, most: float) -> list[str]:
        bottom = self._bottom(number)
        lines = [f'<text x="{LEFT}" y="{bottom - PANEL - 6}">{escape(label)}</text>']
        for share in (0.0, 0.5, 1.0):
            y = bottom - PANEL * share
            lines.append(f'<line class="g" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
            text = f"{most * share:.3g}"
            lines.append(f'<text class="s" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
        return lines

    def _points(
        self, number: int, rows: Sequence[Row], value: Value, most: float, *, step: bool
    ) -> list[tuple[float, float]]:
        bottom = self._bottom(number)
        found: list[tuple[float, float]] = []
        for row in rows:
            x, y = self._x(row.at_s), bottom - PANEL * value(row) / most
            if step and found:
                found.append((x, found[-1][1]))
            found.append((x, y))
        return found

    def _bottom(self, number: int) -> int:
        return TOP + (number + 1) * (PANEL + GAP) - GAP + 20

    def _x(self, at_s: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * (at_s - self._start_s) / self._length_s


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
