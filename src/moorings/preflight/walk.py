"""From a scoring script through the modules of its own folder to what it asks of the environment. Decides nothing about
the environment itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field

from moorings.errors.diagnosis.packages import NAMESPACES
from moorings.errors.sentence import Sentence, sentence
from moorings.preflight.code_folder import CodeFolder
from moorings.preflight.findings import Finding, Place, Severity, finding
from moorings.preflight.imports import Import, Runs, imports_of, moves_the_path
from moorings.preflight.source import Source, parse

MAX_FILES = 2000
"""Files that are followed; a code folder that holds more is not looked at to its end."""


@dataclass(frozen=True)
class Asked:
    """A module that is not in the code folder, and who asks for it."""

    module: str
    by: Import
    source: Source
    said: str = ""
    """In what words it asks, where that is no `import`."""


@dataclass
class Walk:
    """What a script and its local modules import."""

    folder: CodeFolder
    again: str
    python: str = ""
    """Version of the environment's Python (`3.12`); empty where it is not known."""
    asked: dict[str, Asked] = field(default_factory=dict)
    """Module -> the one who asks for it most surely, first in the text."""
    findings: list[Finding] = field(default_factory=list)
    moved: bool = False
    """Whether a file that was followed may add folders to `sys.path`."""
    _done: dict[str, Runs] = field(default_factory=dict)
    _sources: dict[str, Source | None] = field(default_factory=dict)

    def start(self, script: str, source: Source) -> None:
        """Follow the imports of the scoring script."""
        self._sources[script] = source
        pending = [(script, Runs.SURELY)]
        while pending and len(self._done) < MAX_FILES:
            file, runs = pending.pop(0)
            if self._done.get(file, Runs.NEVER - 1) >= runs:
                continue
            self._done[file] = runs
            pending += self._follow(file, runs, is_script=file == script)

    def ask(self, module: str, said: str, node: ast.AST, source: Source, *, surely: bool) -> None:
        """Something that is no statement asks for a module: a saved object."""
        local = self.folder.find(module)
        if local is None:
            runs = Runs.SURELY if surely else Runs.MAYBE
            self._ask(Asked(module, Import(module, (), 0, runs, node), source, said))

    def _follow(self, file: str, runs: Runs, *, is_script: bool) -> Iterator[tuple[str, Runs]]:
        source = self._source(file, runs)
        if source is None:
            return
        self.moved = self.moved or moves_the_path(source.tree)
        for found in imports_of(source.tree, entry=is_script, python=self.python):
            one = found.at_most(runs)
            for module in self._modules(one, file, source, is_script=is_script):
                local = self.folder.find(module)
                if local is None:
                    self._ask(Asked(module, one, source))
                    continue
                if not local.whole and one.runs is not Runs.NEVER:
                    self._lacking(module, one, source)
                for other in local.files:
                    yield other, one.runs

    def _modules(self, one: Import, file: str, source: Source, *, is_script: bool) -> list[str]:
        """The absolute names that an import asks for; of `from x import y` also `x.y`, where that is a local file."""
        module: str | None = one.module
        if one.level:
            if is_script:
                self._relative(one, source)
                return []
            module = self.folder.absolute(file, one.level, one.module)
        if module is None:
            return []
        inner = [f"{module}.{name}" for name in one.names]
        local = [name for name in inner if (at := self.folder.find(name)) is not None and at.whole]
        if module.partition(".")[0] in NAMESPACES and inner:
            return inner  # which package is meant shows in the name that is taken
        return [module, *local] if module else local

    def _source(self, file: str, runs: Runs) -> Source | None:
        if file not in self._sources:
            try:
                data = self.folder.read(file)
            except (OSError, KeyError):
                self._sources[file] = None
                return None
            parsed = parse(data, self.folder.shown(file), again=self.again, python=self.python)
            if isinstance(parsed, Finding):
                if runs is not Runs.SURELY:
                    parsed = Finding(Severity.WARNING, parsed.failure, parsed.place)
                self.findings.append(parsed)
                self._sources[file] = None
            else:
                self._sources[file] = parsed
        return self._sources[file]

    def _ask(self, asked: Asked) -> None:
        before = self.asked.get(asked.module)
        if before is None or before.by.runs < asked.by.runs:
            self.asked[asked.module] = asked

    def _relative(self, one: Import, source: Source) -> None:
        """The server loads the script as a module of its own, in no package."""
        dots = "." * one.level
        what = f"from {dots}{one.module} import {', '.join(one.names) or '*'}"
        message = f"`{what}`: a scoring script is in no package, so an import with a dot in front fails"
        fix = sentence(
            "Leave the dots out (`from {module} import ...`), then: {again}",
            module=one.module or "<module>",
            again=self.again,
        )
        self._note(one, source, message, fix)

    def _lacking(self, module: str, one: Import, source: Source) -> None:
        message = f"`import {module}`: the code folder has {module.partition('.')[0]}, and no {module} in it"
        fix = sentence("Add the file, or correct the name, then: {again}", again=self.again)
        self._note(one, source, message, fix)

    def _note(self, one: Import, source: Source, message: str, fix: Sentence) -> None:
        severity = Severity.ERROR if one.runs is Runs.SURELY else Severity.WARNING
        if one.runs is Runs.NEVER:
            return
        place: Place = source.place(one.node)
        self.findings.append(
            finding(
                severity,
                "UserScriptImportError",
                message,
                place=place,
                evidence=source.evidence(one.node),
                fix=fix,
            )
        )

    @property
    def sources(self) -> list[Source]:
        """The files that were followed and are Python."""
        return [source for source in self._sources.values() if source is not None]
