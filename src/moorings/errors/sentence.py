"""What is said to people, as a value: a template in English and the values in it. It can be stored and sent, and is put
into words only where somebody reads it, in that reader's language. Knows neither failures nor terminals."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from moorings.errors.language import ENGLISH, context, said

KIND = "said"
"""Of the templates of `sentence` in the catalogues."""
_FIELD = re.compile(r"{{|}}|{(\w+)}")


@dataclass(frozen=True)
class Sentence:
    """One sentence, or several. False where nothing is said."""

    template: str
    """English, with `{name}` where a value comes and `{{` for a brace: the text that is translated."""
    values: Mapping[str, str | Sentence] = field(default_factory=dict, hash=False)
    """Commands, paths, names: the same in every language; or a sentence within this one. One that is not there is shown
    as `<name>`."""
    context: str = ""
    """Under what the template stands in the catalogues; empty for what `sentence` was given."""

    def said(self, language: str) -> str:
        """In that language; in English where the template has no translation."""
        words = said(language, self.context or context(KIND, self.template), self.template)
        return _FIELD.sub(lambda found: self._filled(found, language), words)

    def __str__(self) -> str:
        return self.said(ENGLISH)

    def __bool__(self) -> bool:
        return bool(self.template)

    def mapped(self, change: Callable[[str], str]) -> Sentence:
        """With every value changed, those of inner sentences too."""
        values = {
            name: value.mapped(change) if isinstance(value, Sentence) else change(value)
            for name, value in self.values.items()
        }
        return replace(self, values=values)

    def knowing(self, **values: str) -> Sentence:
        """With these values where the sentence, or one within it, has none of its own by that name."""
        inner = {
            name: value.knowing(**values) if isinstance(value, Sentence) else value
            for name, value in self.values.items()
        }
        needed = {name: value for name, value in values.items() if f"{{{name}}}" in self.template}
        return replace(self, values={**needed, **inner})

    def to_json(self) -> dict[str, Any]:
        values = {
            name: value.to_json() if isinstance(value, Sentence) else value
            for name, value in self.values.items()
        }
        return {
            "template": self.template,
            "values": values,
            **({"context": self.context} if self.context else {}),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Sentence:
        """Whatever is given becomes a sentence: what an instance reports may be anything."""
        given = data.get("values")
        values = {
            str(name): Sentence.from_json(value) if isinstance(value, Mapping) else str(value)
            for name, value in (given.items() if isinstance(given, Mapping) else ())
        }
        return Sentence(str(data.get("template", "")), values, str(data.get("context", "")))

    def _filled(self, found: re.Match[str], language: str) -> str:
        name = found[1]
        if name is None:
            return found[0][0]
        value = self.values.get(name)
        if value is None:
            return f"<{name}>"
        return value.said(language) if isinstance(value, Sentence) else value


def sentence(template: str, /, **values: object) -> Sentence:
    """A sentence of ours. The template is written out where it is said, since `errors.translate` collects it from there;
    whatever differs from time to time is a value."""
    return Sentence(template, {name: v if isinstance(v, Sentence) else str(v) for name, v in values.items()})


def verbatim(text: str) -> Sentence:
    """What needs no translation: a command alone, or the words of somebody who knew the reader's language."""
    return Sentence("{text}", {"text": text}) if text else NOTHING


def listed(names: Sequence[str]) -> Sentence:
    """`a`, `a and b`, `a, b and c`; there is at least one."""
    *others, last = names
    return sentence("{names} and {last}", names=", ".join(others), last=last) if others else verbatim(last)


NOTHING = Sentence("")
