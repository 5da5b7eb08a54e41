"""Reference pages made from the catalogue: `python -m moorings.errors.reference OUT_DIR`. Derived from the entries
alone; a test keeps the pages in the repository equal to what is made here."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Entry, Step
from moorings.errors.language import LANGUAGES
from moorings.errors.pages import pages

ANSWERS = "scoring-answers.md"
CODES = "errors"
"""The folder of the pages of codes; below it one for each language."""

_HEAD = """# What an endpoint answers

Made from the error catalogue (`python -m moorings.errors.reference docs/reference`); do not edit.

| status | when |
|---|---|
| 200 | the model answered 200; the body is the model's |
| 424 | the model answered anything else. The body is the model's own, `ms-azureml-model-error-statuscode` its status |
| every other | the gateway answered, in the one shape below; `error.code` says why |

Every answer carries `x-request-id` (a GUID made here, whatever the request said), answers of a deployment carry
`azureml-model-deployment`, and `x-ms-client-request-id` comes back as it was sent: letters, digits, `-` and `_`, at
most 40 characters. `traceparent`, `tracestate` and `baggage` reach the container unchanged; `Authorization` never does.

```json
{"error": {"code": "RateLimited", "message": "the endpoint gets too many requests: the rate limit is 100 ...",
           "request_id": "7d2f...", "explain": "moor explain RateLimited", "limit": {"name": "the rate limit", "value": 100,
           "setting": "properties.moorings.rate_limit_per_s of the endpoint"}}}
```

`explain` is the command that says what the code means and what to do.

`limit` is there where a limit was met: its name, its value, and the setting that changes it. A 429 carries
`Retry-After` (seconds) and `ms-azureml-reject-reason`, so that clients that obey the one need not read the other.
"""


def all_pages() -> Mapping[str, str]:
    """Path below the folder of reference pages -> text, of every page."""
    codes = {
        f"{CODES}/{language}/{name}": text for language in LANGUAGES for name, text in pages(language).items()
    }
    return {ANSWERS: _answers(), **codes}


def write_pages(folder: Path) -> list[Path]:
    """Write every page below `folder`, and remove pages of codes that are gone; returns the files."""
    made = {folder / name: text for name, text in all_pages().items()}
    for file, text in made.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    for file in (folder / CODES).rglob("*.md"):
        if file not in made:
            file.unlink()
    return list(made)


def _answers() -> str:
    entries = [entry for entry in CATALOGUE.values() if entry.step is Step.SCORING]
    entries.append(CATALOGUE["EndpointNotFound"])
    entries.append(CATALOGUE["DeploymentNotFound"])
    ordered = sorted(entries, key=lambda entry: (entry.http_status, entry.code))
    rows = [
        f"| {e.http_status} | [`{e.code}`](#{e.code.lower()}) | {e.title} | {_again(e)} |" for e in ordered
    ]
    table = "\n".join(["| status | code | title | the same request again |", "|---|---|---|---|", *rows])
    return "\n".join([_HEAD, "## All codes", "", table, "", *(_section(entry) for entry in ordered)])


def _again(entry: Entry) -> str:
    return "may succeed" if entry.retryable else "ends the same"


def _section(entry: Entry) -> str:
    fix = entry.fix.replace("{{", "{").replace("}}", "}")
    more = f"[{entry.code} in other languages]({CODES}/en/{entry.code}.md)"
    heading = f"### {entry.code}\n\n{entry.http_status}: {entry.title}. {entry.cause}"
    return f"{heading}\n\n**What to do.** {fix}\n\n{more}\n"


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m moorings.errors.reference OUT_DIR")
    print(f"{len(write_pages(Path(sys.argv[1])))} pages")
