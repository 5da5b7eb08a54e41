"""What a Dockerfile copies: plain paths are looked for, everything else is left to the build."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from moorings.preflight.build_context import copies, copy_findings
from moorings.preflight.findings import Severity


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("COPY a b /srv/", ["a", "b"]),
        ("copy --chown=1:1 --chmod=644 a /srv/", ["a"]),
        ('ADD ["a", "b c", "/srv/"]', ["a", "b c"]),
        ("COPY \\\n  a \\\n  # a comment\n\n  b \\\n  /srv/", ["a", "b"]),
        ("# COPY a /srv", []),
        ("COPY --from=base /opt /opt", []),
        ("ADD https://nowhere.invalid/a.tgz /srv/", []),
        ("ADD git@nowhere.invalid:a/b.git /srv/", []),
        ("COPY $NAME /srv/", []),
        ("COPY *.py /srv/", []),
        ("COPY <<EOF /srv/a\nCOPY b /srv\nEOF\nCOPY c /srv", ["c"]),
        ("RUN <<END\nCOPY b /srv\nEND\nCOPY c /srv", ["c"]),
        ('COPY "a b" /srv', []),
        ("ONBUILD COPY a /srv", []),
        ("# escape=`\nCOPY a /srv", []),
        ("COPY a", []),
        ("COPY", []),
    ],
)
def test_plain_sources(text: str, sources: list[str]) -> None:
    assert [one.source for one in copies(text)] == sources


def test_what_is_not_in_the_context_is_told_at_its_line(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    (tmp_path / "Dockerfile").write_text("FROM base\nCOPY a ./b /srv/\nCOPY / /all\nCOPY . ../c /srv/\n")
    (one,) = copy_findings(tmp_path, "Dockerfile", again="again")
    assert (one.severity, one.failure.code) == (Severity.ERROR, "ImageBuildFailure")
    assert one.place is not None and one.place.line == 2 and one.failure.message.endswith("has no b")
    (tmp_path / "Dockerfile").write_text("FROM base AS x\nCOPY b /srv/\nFROM base\n")
    (one,) = copy_findings(tmp_path, "Dockerfile", again="again")
    assert one.severity is Severity.WARNING, "a stage that nothing needs is not built"
    assert copy_findings(tmp_path, "absent", again="again") == []


@given(
    st.text(max_size=200)
    | st.lists(st.sampled_from(["COPY", "a", " ", "\\\n", "<<E", "\n", "[", '"', "--x"])).map("".join)
)
def test_any_text_is_read(text: str) -> None:
    list(copies(text))
