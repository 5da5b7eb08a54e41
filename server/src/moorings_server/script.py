"""Loading a scoring script: put its folders on the path, import it, check `init` and `run`, call `init`, and
choose once how `run` is to be called. Every way in which that can fail ends in a BootFailure; nothing here
knows HTTP.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import sys
from importlib.machinery import SourceFileLoader
from types import ModuleType
from typing import Any, Callable, Iterator, List, Optional, Set

from moorings_server import aml, contract
from moorings_server.batching import MARK, BatchOptions
from moorings_server.inputs import Prepare, prepare_arguments, prepare_raw, prepare_text
from moorings_server.report import (
    MOST_EXCEPTIONS,
    BootFailure,
    cause_of,
    context_of,
    is_unreadable,
    said,
    words_of,
)
from moorings_server.routing import routes_of
from moorings_server.settings import Settings

MODULE_NAME = "entry_script"
HEADERS_PARAMETER = "request_headers"
SCHEMA_MODULE = "inference_schema.schema_util"
TOP_LEVEL = "The top level of the scoring script"
TEXT, RAW, SCHEMA = "text", "raw", "schema"


class UserScript:
    """A checked script: `init()`, `run`, and the shape of the call.

    `mode`: "text", "raw" (`@rawhttp`) or "schema" (`@input_schema`). `wants_headers`: run has a parameter
    `request_headers`. `is_async`: run must be awaited, or is an async generator. `batch`: run takes lists.
    `routes`: paths besides /score that run answers.
    """

    def __init__(
        self,
        path: str,
        init: Callable[[], Any],
        run: Callable[..., Any],
        data_parameters: List[inspect.Parameter],
        wants_headers: bool,
        mode: str = TEXT,
        batch: Optional[BatchOptions] = None,
    ) -> None:
        self.path = path
        self.init = init
        self.run = run
        self.wants_headers = wants_headers
        self.is_async = inspect.iscoroutinefunction(run) or inspect.isasyncgenfunction(run)
        self.mode = mode
        self.batch = batch
        self.routes = routes_of(run)
        self.parameters = data_parameters

    @property
    def takes_data_only(self) -> bool:
        """Whether `run(data)` is all there is to a call."""
        by_name = self.parameters[0].kind is inspect.Parameter.KEYWORD_ONLY
        return not (self.wants_headers or by_name or self.mode == SCHEMA)

    def caller(self) -> Callable[[Any, Any], Any]:
        """`call(data, headers)`: the only thing that happens per request; what can be decided is decided
        here."""
        run, name = self.run, self.parameters[0].name
        if self.mode == SCHEMA:
            if self.wants_headers:
                return lambda data, headers: run(**dict(data, **{HEADERS_PARAMETER: headers}))
            return lambda data, headers: run(**data)
        if self.wants_headers:  # by name, for either may be declared first
            return lambda data, headers: run(**{name: data, HEADERS_PARAMETER: headers})
        if self.parameters[0].kind is inspect.Parameter.KEYWORD_ONLY:
            return lambda data, headers: run(**{name: data})
        return lambda data, headers: run(data)

    def prepare(self) -> Prepare:
        """What makes the data for one call of a request."""
        if self.mode == SCHEMA:
            return prepare_arguments(self.parameters)
        return prepare_raw if self.mode == RAW else prepare_text

    def described(self) -> str:
        """One line for the log: how run() will be called."""
        if self.mode == SCHEMA:
            names = ", ".join(parameter.name for parameter in self.parameters)
            how = "run() is decorated with a schema. The server will call it with the arguments: %s" % names
        elif self.mode == RAW:
            how = "run() is decorated with @rawhttp. The server will call it with the request"
        else:
            how = "run() is not decorated. The server will call it with the request's body as text"
        if self.routes:
            how += " (also for %s and below)" % ", ".join(route.decode("ascii") for route in self.routes)
        if self.batch is not None:
            how += ", up to %d requests in one call" % self.batch.max_size
        return how + (" (on the event loop: it is an async function)" if self.is_async else "")


def prepare_path(settings: Settings) -> None:
    """Put the script's folder, the source directory and the app root at the front of `sys.path`, in this
    order."""
    wanted = [settings.script_folder, settings.source_directory, settings.app_root]
    for folder in reversed(wanted):
        if folder and folder not in sys.path:
            sys.path.insert(0, folder)


def load(settings: Settings) -> UserScript:
    """Import the script and check it. Raises BootFailure."""
    path = settings.entry_script
    if not os.path.isfile(path):
        raise BootFailure(
            contract.KIND_SCRIPT_MISSING,
            "The scoring script %s does not exist (No such file or directory). The app root %s holds: %s"
            % (path, settings.app_root, _names(settings.app_root)),
            missing=path,
            file=path,
        )
    prepare_path(settings)
    aml.install_aliases()
    module = _import(path, settings)
    return inspect_module(module, path, settings)


def _names(folder: str, limit: int = 50) -> str:
    try:
        names = sorted(os.listdir(folder))
    except OSError as failure:
        return "(cannot be listed: %s)" % failure.strerror
    more = ", ... and %d more" % (len(names) - limit) if len(names) > limit else ""
    return (", ".join(names[:limit]) + more) or "nothing"


def _import(path: str, settings: Settings) -> ModuleType:
    loader = SourceFileLoader(MODULE_NAME, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(MODULE_NAME, loader))  # type: ignore[arg-type]
    sys.modules[MODULE_NAME] = module  # dataclasses and pickle look a class's module up by name
    try:
        loader.exec_module(module)
    except KeyboardInterrupt:
        raise
    except SyntaxError as failure:
        if not is_unreadable(failure, path):
            raise _raised(failure, settings, TOP_LEVEL, contract.KIND_SCRIPT_RAISED) from failure
        raise BootFailure(
            contract.KIND_SYNTAX_ERROR,
            "%s at %s line %s: %s"
            % (type(failure).__name__, failure.filename or path, failure.lineno or 1, failure.msg),
            cause=failure,
            file=path,
        ) from failure
    except ImportError as failure:
        raise BootFailure(
            contract.KIND_IMPORT_ERROR,
            "The scoring script %s is there, but an import in it failed: %s" % (path, words_of(failure)),
            cause=failure,
            missing=top_level_name(failure),
            file=path,
        ) from failure
    except BaseException as failure:  # even sys.exit() at the top level must end as a report
        raise _raised(failure, settings, TOP_LEVEL, contract.KIND_SCRIPT_RAISED) from failure
    return module


def top_level_name(failure: ImportError) -> Optional[str]:
    return failure.name.split(".")[0] if failure.name else None


def inspect_module(module: ModuleType, path: str, settings: Settings) -> UserScript:
    """Check that a loaded module has usable `init` and `run`. Raises BootFailure."""
    driver = getattr(module, "driver_module", None)
    inner = getattr(driver, "run", None) if isinstance(driver, ModuleType) else None
    functions = {"init": getattr(module, "init", None), "run": inner or getattr(module, "run", None)}
    absent = [name for name, function in functions.items() if not callable(function)]
    if absent:
        raise BootFailure(
            contract.KIND_FUNCTION_MISSING,
            "The scoring script %s defines no function %s."
            % (path, " and no function ".join(n + "()" for n in absent)),
            missing=", ".join(absent),
            file=path,
        )
    init, run = functions["init"], functions["run"]
    assert init is not None and run is not None
    try:
        parameters = list(inspect.signature(run).parameters.values())
    except (TypeError, ValueError) as failure:
        raise BootFailure(
            contract.KIND_BAD_SIGNATURE, "The parameters of run() cannot be read: %s" % failure, file=path
        ) from failure
    check_init(init, path)
    data = check_signature(parameters, path)
    wants_headers = any(p.name == HEADERS_PARAMETER for p in parameters)
    mode, batch = mode_of(run, path), batch_options(run, settings)
    if batch is not None:
        _check_batch(run, mode, path)
    if routes_of(run) and mode != RAW:
        raise BootFailure(
            contract.KIND_BAD_SIGNATURE,
            "run() in %s has @routes and not @rawhttp: only the request itself tells which path was asked for."
            % path,
            missing="run",
            file=path,
        )
    return UserScript(path, init, run, data, wants_headers, mode, batch)


def mode_of(run: Callable[..., Any], path: str) -> str:
    """Which of the three ways to call `run` its decorators ask for. Raises BootFailure when they ask for two."""
    schemas = sys.modules.get(SCHEMA_MODULE)  # a script that has a schema has imported it
    has_schema = schemas is not None and bool(schemas.is_schema_decorated(run))
    if not aml.wants_raw(run):
        return SCHEMA if has_schema else TEXT
    if has_schema:
        raise BootFailure(
            contract.KIND_BAD_SIGNATURE,
            "run() in %s has both @rawhttp and @input_schema; it can have only one of them." % path,
            missing="run",
            file=path,
        )
    return RAW


def batch_options(run: Callable[..., Any], settings: Settings) -> Optional[BatchOptions]:
    """What the decorator says, or the deployment's settings, which win."""
    marked = getattr(run, MARK, None)
    if marked is None and settings.batch_max_size is None:
        return None
    size = settings.batch_max_size or (marked or BatchOptions()).max_size
    wait_s = settings.batch_max_wait_s
    return BatchOptions(size, wait_s if wait_s is not None else (marked or BatchOptions()).max_wait_s)


def _check_batch(run: Callable[..., Any], mode: str, path: str) -> None:
    generator = inspect.isgeneratorfunction(run) or inspect.isasyncgenfunction(run)
    if mode == TEXT and not generator:
        return
    why = "yields its results" if generator else "has @rawhttp" if mode == RAW else "has @input_schema"
    raise BootFailure(
        contract.KIND_BAD_SIGNATURE,
        "run() in %s %s and cannot take batches as well: batching is for a run() that takes the bodies' texts as a "
        "list and returns a list. Remove @batch (or MOORINGS_BATCH_MAX_SIZE), or the other." % (path, why),
        missing="run",
        file=path,
    )


def check_init(init: Callable[..., Any], path: str) -> None:
    """Raises BootFailure when `init` cannot be called without arguments."""
    try:
        parameters = inspect.signature(init).parameters.values()
    except (TypeError, ValueError):
        return  # what cannot be looked at is called, and says so itself
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    wanted = [p.name for p in parameters if p.default is p.empty and p.kind not in variable]
    if wanted:
        raise BootFailure(
            contract.KIND_BAD_SIGNATURE,
            "init() in %s wants %s; it is called without arguments." % (path, ", ".join(wanted)),
            missing="init",
            file=path,
        )


def check_signature(parameters: List[inspect.Parameter], path: str) -> List[inspect.Parameter]:
    """The data parameters of `run`. Raises BootFailure when run() cannot be called with a request."""
    refused = {
        inspect.Parameter.POSITIONAL_ONLY: "a positional-only parameter",
        inspect.Parameter.VAR_POSITIONAL: "*args",
        inspect.Parameter.VAR_KEYWORD: "**kwargs",
    }
    for parameter in parameters:
        if parameter.kind in refused:
            raise BootFailure(
                contract.KIND_BAD_SIGNATURE,
                "run() in %s has %s (%r); only ordinary and keyword-only parameters are allowed."
                % (path, refused[parameter.kind], parameter.name),
                missing=parameter.name,
                file=path,
            )
    data = [parameter for parameter in parameters if parameter.name != HEADERS_PARAMETER]
    if not data:
        raise BootFailure(
            contract.KIND_BAD_SIGNATURE,
            "run() in %s needs at least one parameter for the request's data, besides %s."
            % (path, HEADERS_PARAMETER),
            file=path,
        )
    return data


def call_init(script: UserScript, settings: Settings, await_: Callable[[Any], Any]) -> None:
    """Call `init()` (and `await_` its result, if it is a coroutine). Raises BootFailure, also for
    `sys.exit()`."""
    try:
        result = script.init()
        if inspect.iscoroutine(result):
            await_(result)
    except KeyboardInterrupt:
        raise
    except BaseException as failure:
        raise _raised(failure, settings, "init()", contract.KIND_INIT_RAISED) from failure


def _raised(failure: BaseException, settings: Settings, where: str, kind: str) -> BootFailure:
    described = said(failure)
    path = missing_model_path(failure, settings.model_dir)
    if path is not None:
        return BootFailure(
            contract.KIND_MODEL_PATH,
            "%s asked for %s in the model folder, and could not open it: %s" % (where, path, described),
            cause=failure,
            missing=path,
            file=settings.entry_script,
        )
    missing = top_level_name(failure) if issubclass(type(failure), ImportError) else None  # type: ignore[arg-type]
    return BootFailure(
        kind, "%s raised %s" % (where, described), cause=failure, missing=missing, file=settings.entry_script
    )


def missing_model_path(failure: BaseException, model_dir: Optional[str]) -> Optional[str]:
    """The path below `model_dir` that user code asked for in vain, if that is what `failure` (or what caused
    it) says."""
    if not model_dir:
        return None
    roots = {os.path.abspath(model_dir), os.path.realpath(model_dir)}
    for part in _chain(failure):
        if issubclass(type(part), (FileNotFoundError, NotADirectoryError, IsADirectoryError)):
            name = getattr(part, "filename", None)
            if isinstance(name, bytes):
                name = os.fsdecode(name)
            if isinstance(name, str):
                path = os.path.abspath(name)
                if any(path == root or path.startswith(os.path.join(root, "")) for root in roots):
                    return path
    return None


def _chain(failure: BaseException) -> Iterator[BaseException]:
    """It and what led to it; by identity, since user code says what is equal, and of a very long chain the newest."""
    seen: Set[int] = set()
    part: Optional[BaseException] = failure
    while part is not None and id(part) not in seen and len(seen) < MOST_EXCEPTIONS:
        yield part
        seen.add(id(part))
        part = cause_of(part) or context_of(part)
