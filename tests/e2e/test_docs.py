"""The commands the documents tell people to type are typed here."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r"<!-- quick-start: [^>]*-->\n```bash\n(.*?)```", re.DOTALL)
PAGES_OF_CODES = ROOT / "docs" / "reference" / "errors"
MARK = "<!-- executed by tests/e2e/test_docs.py -->"
TUTORIAL = re.compile(r"```bash\n(.*?)```", re.DOTALL)


def run(workspace: Any, script: str, folder: Path) -> str:
    import sys

    path = f"{Path(sys.executable).parent}:{workspace.env['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env={**workspace.env, "PATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_the_quick_start_of_the_readme(workspace: Any) -> None:
    found = BLOCK.search((ROOT / "README.md").read_text())
    assert found, "the README has lost its quick start"
    out = run(workspace, found[1], workspace.files)
    assert "6" in out.splitlines()[-1] and "sum" in out


def _executed() -> list[str]:
    """The documents that promise to be run from top to bottom."""
    pages = sorted(ROOT.glob("docs/**/*.md"))
    return [str(page.relative_to(ROOT)) for page in pages if MARK in page.read_text()]


@pytest.mark.parametrize("page", ["docs/tutorial/first-endpoint.md", *_executed()])
def test_a_page_from_top_to_bottom(workspace: Any, page: str) -> None:
    from_top_to_bottom(workspace, page, {})


def test_the_page_of_postgresql_from_top_to_bottom(new_workspace: Any, postgres: Any) -> None:
    workspace = new_workspace()
    workspace.env["PATH"] = f"{postgres.bin}:{workspace.env['PATH']}"
    workspace.env.update(postgres.variables())
    address = f"postgresql://moorings@127.0.0.1:{postgres.port}/moorings"
    asked = "postgresql://moorings@db.example/moorings?sslmode=verify-full"
    from_top_to_bottom(workspace, "docs/how-to/postgresql.md", {asked: address})
    with postgres.connect("moorings") as connection:
        assert connection.execute("SELECT count(*) FROM resources WHERE name = 'shop'").fetchone() == (1,)


def from_top_to_bottom(workspace: Any, page: str, other: Mapping[str, str]) -> None:
    """`other`: what stands on the page -> what is said for it here."""
    text = (ROOT / page).read_text()
    blocks = TUTORIAL.findall(text)
    assert len(blocks) >= 2
    folder = workspace.files / Path(page).stem
    folder.mkdir()
    script = "\n".join(blocks).replace("8650", str(workspace.port))
    for said, meant in other.items():
        assert said in script
        script = script.replace(said, meant)
    out = run(workspace, script, folder)
    for promised in re.findall(r"<!-- prints: (.*?) -->", text):
        assert promised in out, f"the page promises {promised!r}; printed: {out}"


def test_the_pages_that_are_run_are_found() -> None:
    assert len(_executed()) >= 4


@pytest.mark.parametrize(
    "link",
    sorted(
        {
            (str(doc.relative_to(ROOT)), target)
            for doc in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")]
            if PAGES_OF_CODES
            not in doc.parents  # made, more than a thousand; tests/unit/errors looks at their links
            for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", doc.read_text())
        }
    ),
    ids=lambda link: f"{link[0]} -> {link[1]}",
)
def test_links_between_documents_lead_somewhere(link: tuple[str, str]) -> None:
    document, target = link
    assert ((ROOT / document).parent / target).exists()
