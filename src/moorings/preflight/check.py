"""All checks of one deployment, side by side: from a spec to findings. The only place that knows each of them.

Nothing of the user's runs, nothing is sent, nothing is built. What cannot be told from here is said, not guessed.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Protocol, TypeVar

from moorings.assets.intake import Listing, SourceFile, list_folder
from moorings.environments.conda import translate
from moorings.environments.interpreters import Interpreters, minor_of
from moorings.environments.mlflow import mlflow_environment, stored_reader
from moorings.errors.exceptions import Failure, MooringsError
from moorings.errors.sentence import Sentence, sentence, verbatim
from moorings.preflight.boot import Boot
from moorings.preflight.code_folder import CodeFolder, shown
from moorings.preflight.entry import entry_findings
from moorings.preflight.environment import Contents, Locate, Means, contents_of
from moorings.preflight.findings import Finding, Place, Severity, finding, of_failure, ordered
from moorings.preflight.index import Index
from moorings.preflight.judge import import_findings
from moorings.preflight.machine import Load, facts_of, machine_findings, room_findings
from moorings.preflight.model_content import HEAD_BYTES, Content, Read, content_findings, needed_modules
from moorings.preflight.model_paths import MODEL_DIR, ModelTree, end_findings, lookup_findings, path_findings
from moorings.preflight.source import Source, parse
from moorings.preflight.walk import Walk
from moorings.spec.assets import EnvironmentSpec, ModelSpec, ModelType
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.own_settings import BATCH_MAX_SIZE
from moorings.spec.problems import FieldPath
from moorings.spec.references import is_local_path

LISTING_LIMIT_S = 0.5
"""For the names of a model's or code's files, some 50,000."""
APP_MODELS = "/var/azureml-app/azureml-models"
T = TypeVar("T")
_BATCH_VARIABLE = "MOORINGS_BATCH_MAX_SIZE"


class Workspace(Protocol):
    """What a workspace that runs tells; None of everything where it cannot be asked."""

    def environment(self, reference: str) -> EnvironmentSpec | None:
        """The environment that a reference names. Raises AssetNotFound."""

    def model(self, reference: str) -> object | None:
        """The model that a reference names. Raises AssetNotFound."""

    def endpoint(self, name: str) -> object | None:
        """Raises EndpointNotFound."""

    def refusal(self, spec: DeploymentSpec, beside: Sequence[DeploymentSpec]) -> Failure | None:
        """Why there is no quota or no room for a deployment, when those beside it are made first."""


@dataclass(frozen=True)
class Surroundings:
    """What the checks are made with."""

    home: Path
    """Folder of the workspace, whose disk counts."""
    index: Index
    """Shared by all deployments of a command, and with it the time there is to ask."""
    interpreters: Interpreters
    conda_solver: str
    download_python: bool
    in_image: bool
    """Whether instances are containers."""
    script: bool = True
    """Whether the scoring script is looked at."""
    workspace: Workspace | None = None
    room: bool = True
    """Whether quota and capacity are asked for, which makes sense for a deployment that is whole."""
    beside: tuple[DeploymentSpec, ...] = ()
    """Deployments of the same file that come before this one, and take their part of the room."""
    endpoint: Severity | None = None
    """What it is that there is no such endpoint; None: it is not asked for."""


@dataclass(frozen=True)
class Report:
    """What was found, and what could not be looked at."""

    findings: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.severity is Severity.ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(one for one in self.findings if one.severity is Severity.WARNING)

    def __add__(self, other: Report) -> Report:
        notes = tuple(dict.fromkeys((*self.notes, *other.notes)))
        return Report(tuple(ordered((*self.findings, *other.findings))), notes)


def of_problem(failed: Failure) -> Report:
    """The problems of a spec, as findings."""
    return Report(tuple(ordered(of_failure(failed))))


def check_deployment(spec: DeploymentSpec, locate: Locate, around: Surroundings, *, again: str) -> Report:
    """Everything but the rules of the spec itself, which whoever read it has checked. `locate`: where a key of it stands;
    `again`: what to type once all is put right."""
    return _Check(spec, locate, around, again).run()


@dataclass
class _Check:
    spec: DeploymentSpec
    locate: Locate
    around: Surroundings
    again: str
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def run(self) -> Report:
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="preflight") as pool:
            model = self._model()
            environment = self._environment(model)
            answer: Future[Contents] | None = None
            if environment is not None:
                answer = pool.submit(self._contents, *environment)
            code = self._code()
            walk = self._script(code, model) if code is not None and self.around.script else None
            load = Load(
                None if model is None else sum(each.size_bytes for each in model.files),
                None if code is None else sum(each.size_bytes for each in code.files),
            )
            facts = facts_of(self.around.home)
            self.findings += machine_findings(self.spec, load, facts, self.locate, again=self.again)
            self._room()
            if answer is not None:
                contents = answer.result()
                self.findings += contents.findings
                self.notes += contents.notes
                self._imports(walk, contents, environment)
        return Report(tuple(ordered(self.findings)), tuple(dict.fromkeys(self.notes)))

    # --- the parts ---

    def _environment(self, files: Listing | None) -> tuple[EnvironmentSpec, FieldPath] | None:
        """The environment, and where it stands in the spec."""
        given = self.spec.environment
        if isinstance(given, EnvironmentSpec):
            return given, ("environment",)
        if isinstance(given, str):
            found = self._asked(given, ("environment",), lambda workspace: workspace.environment(given))
            return None if found is None else (found, ("environment",))
        model = self.spec.model
        if isinstance(model, ModelSpec) and model.type is ModelType.MLFLOW:
            return self._of_mlflow(files)
        return None

    def _of_mlflow(self, files: Listing | None) -> tuple[EnvironmentSpec, FieldPath] | None:
        """The environment that an MLflow model brings along."""
        if files is None:
            return None
        place = self.locate(("model", "path"))
        read = stored_reader({each.path: str(each.real) for each in files.files}, _text)
        try:
            return mlflow_environment(read), ("model", "path")
        except OSError:
            return None  # what may not be read was said with the files
        except MooringsError as problem:
            for one in of_failure(problem.failure):
                self.findings.append(Finding(one.severity, one.failure, Place.parse(place.target)))
        return None

    def _asked(self, reference: str, at: FieldPath, question: Callable[[Workspace], T | None]) -> T | None:
        """What the workspace says of something that is registered; None after a finding or a note."""
        workspace = self.around.workspace
        try:
            found = question(workspace) if workspace is not None else None
        except MooringsError as problem:
            self._refused(problem.failure, at, Severity.ERROR)
            return None
        if found is None:
            self.notes.append(f"{reference} is not looked at: no workspace tells what it is")
        return found

    def _refused(self, failed: Failure, at: FieldPath, severity: Severity) -> None:
        located = self.locate(at)
        failed = replace(failed, target=located.target, evidence=(*located.evidence, *failed.evidence))
        self.findings.append(Finding(severity, failed, Place.parse(located.target)))

    def _room(self) -> None:
        workspace, severity = self.around.workspace, self.around.endpoint
        if workspace is None:
            return
        if severity is not None:
            try:
                workspace.endpoint(self.spec.endpoint_name)
            except MooringsError as problem:
                self._refused(problem.failure, ("endpoint_name",), severity)
        if self.around.room:
            self.findings += room_findings(workspace.refusal(self.spec, self.around.beside), self.locate)

    def _contents(self, spec: EnvironmentSpec, at: FieldPath) -> Contents:
        around = self.around
        means = Means(
            around.index,
            around.interpreters,
            around.conda_solver,
            in_image=around.in_image,
            download_python=around.download_python,
        )
        return contents_of(spec, means, self._locate_from(at), at=at, again=self.again)

    def _locate_from(self, at: FieldPath) -> Locate:
        """What an MLflow model says has no line of the spec."""
        return self.locate if at == ("environment",) else lambda _: self.locate(at)

    def _model(self) -> Listing | None:
        model = self.spec.model
        if isinstance(model, str):
            if self._asked(model, ("model",), lambda workspace: workspace.model(model)) is not None:
                self.notes.append(
                    f"the files of the model {model} are not looked at: it is registered already"
                )
            return None
        if model is None or model.path is None or not is_local_path(model.path):
            return None
        return self._listing(Path(model.path), ("model", "path"), use_ignore=False)

    def _code(self) -> Listing | None:
        code = self.spec.code_configuration
        if code is None:
            return None
        if not is_local_path(code.code):
            self.notes.append(f"the script in {code.code} is not looked at: it is registered already")
            return None
        return self._listing(Path(code.code), ("code_configuration", "code"), use_ignore=True)

    def _listing(self, path: Path, at: FieldPath, *, use_ignore: bool) -> Listing | None:
        """The files that will be stored, their paths beginning with the name of a model's folder or file."""
        place = Place.parse(self.locate(at).target)
        try:
            if not path.is_absolute() or not path.exists():
                return None  # which was said when the spec was read
            if path.is_file():
                return Listing([SourceFile(path.name, path, path.stat().st_size)])
            until = time.monotonic() + LISTING_LIMIT_S
            return list_folder(path.resolve(), use_ignore=use_ignore, go_on=lambda: time.monotonic() < until)
        except TimeoutError:
            self.notes.append(f"{path} holds too much to be listed within {LISTING_LIMIT_S:g} s")
            return None
        except MooringsError as problem:
            for one in of_failure(problem.failure):
                self.findings.append(Finding(one.severity, one.failure, place))
        except (OSError, ValueError, RuntimeError):
            return None  # it went meanwhile, or no file can have such a name
        return None

    def _script(self, code: Listing, model: Listing | None) -> Walk | None:
        configuration = self.spec.code_configuration
        assert configuration is not None
        script = str(PurePosixPath(configuration.scoring_script))
        files = {each.path: each.real for each in code.files}
        folder = CodeFolder(Path(configuration.code), files, script)
        if script not in files:
            self._script_missing(folder, script)
            return None
        python = self._python()
        try:
            data = folder.read(script)
        except OSError as problem:
            message = f"{folder.shown(script)}: {problem.strerror}"
            fields: dict[str, object] = {"path": folder.shown(script)}
            self.findings.append(
                finding(
                    Severity.ERROR,
                    "ScriptUnreadable",
                    message,
                    place=Place(folder.shown(script)),
                    fields=fields,
                )
            )
            return None
        source = parse(data, folder.shown(script), again=self.again, python=python)
        if isinstance(source, Finding):
            self.findings.append(source)
            return None
        self.findings += entry_findings(source, again=self.again, batch_setting=self._asks_for_batches())
        walk = Walk(folder, self.again, python)
        walk.start(script, source)
        self.findings += walk.findings
        self._paths(source, model, walk)
        return walk

    def _script_missing(self, folder: CodeFolder, script: str) -> None:
        """It is on the disk (the spec was read), so an ignore file leaves it out."""
        try:
            if not (folder.folder / script).is_file():
                return
        except (OSError, ValueError):
            return  # a name that no file can have, which was said when the spec was read
        located = self.locate(("code_configuration", "scoring_script"))
        message = (
            f"{folder.shown(script)} is there, but .amlignore or .gitignore leaves it out of the code folder"
        )
        fix = sentence("Take it out of the ignore file, then: {again}", again=self.again)
        self.findings.append(
            finding(
                Severity.ERROR,
                "ScriptMissing",
                message,
                place=Place.parse(located.target),
                evidence=located.evidence,
                fix=fix,
            )
        )

    def _paths(self, source: Source, model: Listing | None, walk: Walk) -> None:
        spec = self.spec.model
        if isinstance(spec, ModelSpec) and model is not None and spec.path is not None:
            tree = model_tree(spec, model)
            boot = Boot(source.tree, {**self._variables(), MODEL_DIR: tree.root}, files=tree)
            boot.follow()
            self.findings += path_findings(source, boot, tree, again=self.again)
            read = _reader(dict(zip(tree.files, (each.real for each in model.files), strict=True)))
            self.findings += content_findings(source, boot, tree, read, again=self.again)
            for load, inside, module in needed_modules(boot, tree, read):
                said = f"${MODEL_DIR}/{inside} holds objects of {module}"
                walk.ask(module, said, load.node, source, surely=load.surely)
        else:
            unset = frozenset({MODEL_DIR}) if spec is None else frozenset()
            boot = Boot(source.tree, self._variables(), unset)
            boot.follow()
            self.findings += lookup_findings(source, boot, again=self.again)
        self.findings += end_findings(source, boot, again=self.again)

    def _imports(
        self,
        walk: Walk | None,
        contents: Contents,
        environment: tuple[EnvironmentSpec, FieldPath] | None,
    ) -> None:
        if walk is None or environment is None:
            return
        named = self._where_to_add(*environment)
        judge = partial(
            import_findings, walk.asked.values(), again=self.again, environment=named, moved=walk.moved
        )
        found = judge(contents)
        sure = any(one.severity is Severity.ERROR for one in found)
        if sure and contents.channels and self.around.index.channels_problem(contents.channels) is None:
            # What conda brings along is not known from the package index.
            found = judge(replace(contents, whole=False))
        self.findings += found

    # --- what the spec says ---

    def _where_to_add(self, environment: EnvironmentSpec, at: FieldPath) -> Sentence:
        """How the user names what a package is to be added to."""
        given = self.spec.environment
        if isinstance(given, str):
            return sentence("a new version of {reference}", reference=given)
        if at != ("environment",):
            return sentence("the conda.yaml of the model")
        if environment.conda_file is None:
            return sentence("a conda_file of the environment")
        where = Place.parse(self.locate((*at, "conda_file", "dependencies")).target)
        return verbatim("environment.conda_file" if where.line is None else shown(where.file))

    def _python(self) -> str:
        """The version of Python that a conda file pins, for messages about syntax."""
        given = self.spec.environment
        conda = given.conda_file if isinstance(given, EnvironmentSpec) else None
        found = translate(conda).python if conda is not None else []
        return minor_of(",".join(found)) or ""

    def _asks_for_batches(self) -> bool:
        setting = self.spec.properties.get(BATCH_MAX_SIZE, "0")
        variable = self.spec.environment_variables.get(_BATCH_VARIABLE, "0")
        return any(text.isdigit() and int(text) > 0 for text in (setting, variable))

    def _variables(self) -> dict[str, str]:
        """Those whose values are plain: a reference is a secret's, which nobody tells us."""
        return {k: v for k, v in self.spec.environment_variables.items() if "${{" not in v}


def model_tree(spec: ModelSpec, listing: Listing) -> ModelTree:
    """What will lie below `AZUREML_MODEL_DIR`: a file as it is, a folder with its own name."""
    assert spec.path is not None
    path = Path(spec.path)
    root = f"{APP_MODELS}/{spec.name or 'model'}/{spec.version or '1'}"
    prefix = "" if path.is_file() else f"{path.name}/"
    files = tuple(f"{prefix}{each.path}" for each in listing.files)
    empty = tuple(f"{prefix}{each}" for each in listing.empty_folders)
    return ModelTree(root, files, empty or ((path.name,) if prefix and not files else ()))


def _reader(files: Mapping[str, Path]) -> Read:
    """`files`: path below the model folder -> where its content is."""

    def read(inside: str) -> Content | None:
        try:
            with files[inside].open("rb") as handle:
                return Content(os.fstat(handle.fileno()).st_size, handle.read(HEAD_BYTES))
        except (OSError, KeyError):
            return None

    return read


def _text(file: str, most: int) -> str:
    with Path(file).open("rb") as handle:
        return handle.read(most).decode("utf-8", "replace")
