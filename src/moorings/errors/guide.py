"""The troubleshooting guide in other languages: `python -m moorings.errors.guide docs/how-to`. Each is the English page with
its texts translated, and nothing else changed. The translations are in the same files as those of errors, under
`guide.<hash of the English>`: a changed paragraph is a new text, which has no translation until somebody writes one."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from moorings.errors.language import ENGLISH, LANGUAGES, NAMES, context, said

PAGE = "troubleshoot"
KIND = "guide"
"""Of its texts in the catalogues."""
SOURCE = Path(__file__).parents[3] / "docs" / "how-to" / f"{PAGE}.md"
"""The English page; it is there where the repository is, not where Moorings is installed."""
_FENCE = re.compile(r"^```")
_PREFIX = re.compile(r"^(#{1,6} |\d+\. |- )?(.*)$")
_WORDS = re.compile(r"[A-Za-z]{2,}")
_CODE = re.compile(r"`[^`]*`|\[[^\]]*\]\([^)]*\)")
_COMMENT = re.compile(r"^<!--.*-->$")


def texts(page: str) -> list[str]:
    """Everything of the page that is translated, in order, each once."""
    return list(dict.fromkeys(text for _, text in _pieces(page) if text is not None))


def translated(page: str, say: Callable[[str], str], language: str) -> str:
    """The page in another language. Comments, which promise what tests look at, are left out: they stand in the
    English page, whose commands are the same."""
    whole = "".join(raw if text is None else raw + say(text) for raw, text in _pieces(page))
    headings = zip(_headings(page), _headings(whole), strict=True)
    for english, other in headings:
        whole = whole.replace(f"](#{anchor(english)})", f"](#{anchor(other)})")
    whole = whole.replace("/errors/en/", f"/errors/{language}/")
    return re.sub(r"\n{3,}", "\n\n", re.sub(r"(?m)^<!--.*-->\n", "", whole))


def anchor(heading: str) -> str:
    """What a heading can be linked to by."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def pages(page: str) -> Mapping[str, str]:
    """File name -> text, of the guide in every language but English."""
    return {_file(language): _in(page, language) for language in LANGUAGES if language != ENGLISH}


def others(language: str) -> str:
    """The line of the page that leads to the same in other languages."""
    return " · ".join(
        NAMES[other] if other == language else f"[{NAMES[other]}]({_file(other)})" for other in LANGUAGES
    )


def _in(page: str, language: str) -> str:
    text = translated(page, lambda english: said(language, context(KIND, english), english), language)
    return text.replace(others(ENGLISH), others(language)).rstrip() + "\n"


def _file(language: str) -> str:
    return f"{PAGE}.md" if language == ENGLISH else f"{PAGE}.{language}.md"


def main(folder: Path) -> None:
    """Write the pages beside the English one."""
    for name, text in pages((folder / f"{PAGE}.md").read_text(encoding="utf-8")).items():
        (folder / name).write_text(text, encoding="utf-8")


def _headings(page: str) -> list[str]:
    fenced, found = False, []
    for line in page.splitlines():
        if _FENCE.match(line):
            fenced = not fenced
        elif not fenced and line.startswith("#"):
            found.append(line.lstrip("# "))
    return found


def _pieces(page: str) -> Iterator[tuple[str, str | None]]:
    """(what stays as it is, the text after it that is translated, if any): all of them together are the page."""
    fenced = False
    paragraph: list[str] = []
    for line in [*page.splitlines(), ""]:
        plain = bool(line) and not fenced and not _FENCE.match(line) and not _COMMENT.match(line)
        prefix, _ = _split(line)
        if paragraph and (not plain or prefix or line.startswith("|")):
            whole = " ".join(part.strip() for part in paragraph)
            head, text = _split(whole)
            if _has_words(text) and whole != others(ENGLISH):
                yield head, text
                yield "\n", None
            else:
                yield f"{whole}\n", None
            paragraph = []
        if _FENCE.match(line):
            fenced = not fenced
        if not plain:
            yield f"{line}\n", None
        elif line.startswith("|"):
            yield from _row(line)
        else:
            paragraph.append(line)


def _split(line: str) -> tuple[str, str]:
    found = _PREFIX.match(line)
    assert found is not None, "it matches every line"
    return found[1] or "", found[2]


def _has_words(text: str) -> bool:
    """Whether there is anything to translate, beside code and links."""
    return bool(_WORDS.search(_CODE.sub("", text)))


def _row(line: str) -> Iterator[tuple[str, str | None]]:
    for cell in re.split(r"(?<!\\)\|", line)[1:-1]:
        text = cell.strip()
        if _has_words(text):
            yield "| ", text
            yield " ", None
        else:
            yield f"|{cell}", None
    yield "|\n", None


if __name__ == "__main__":
    main(Path(sys.argv[1]))
