"""What one worker process is told: values read once from the environment (and a config file, if one is named
or found).

Pure but for reading that file. Knows the names of `contract.py` and nothing about scripts, sockets or HTTP.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any, Dict, Mapping, Optional, Tuple

from moorings_server import contract

DEFAULT_SCORING_TIMEOUT_MS = 3_600_000
DEFAULT_DRAIN_S = 30.0
DEFAULT_WORKER_TIMEOUT_S = 300.0
LEAST_PATIENCE_S = 2.0
"""Where nothing else can run beside a call, it may take as long again as its timeout, and at least so much longer: nobody
waits for it any more."""
UNIX_PATH_BYTES = 107  # what the kernel stores of a socket's path, without its closing NUL
CONFIG_KEYS = frozenset(
    {
        "AZUREML_SOURCE_DIRECTORY",
        "AZUREML_ENTRY_SCRIPT",
        "SERVICE_NAME",
        "WORKSPACE_NAME",
        "SERVICE_PATH_PREFIX",
        "SERVICE_VERSION",
        "SCORING_TIMEOUT_MS",
        "AZUREML_LOG_LEVEL",
        "APP_INSIGHTS_LOG_RESPONSE_ENABLED",
        "AZUREML_MODEL_DIR",
        "HOSTNAME",
        "AZUREML_DEBUG_PORT",
    }
)


class SettingsError(ValueError):
    """A setting cannot be used; the message says which one, what it holds and what it may hold."""


@dataclass(frozen=True)
class Settings:
    """All settings of one worker. Paths are absolute. `exports` must be put into the process environment,
    because scripts read them there (values that came from a config file); `ignored_keys` are those of the file that
    mean nothing there. `worker_timeout_s`: None for no limit. `insights`: export to Application Insights was asked
    for."""

    app_root: str
    entry_script: str
    source_directory: Optional[str]
    model_dir: Optional[str]
    socket_path: Optional[str]
    max_concurrent: int
    worker_index: int
    boot_report: Optional[str]
    drain_s: float
    scoring_timeout_ms: int
    version_header: bool
    service_name: str
    service_version: str
    service_path_prefix: str
    parser: str
    event_loop: str
    worker_timeout_s: Optional[float] = DEFAULT_WORKER_TIMEOUT_S
    """After so long one call costs the worker; None: never."""
    hung_after_s: Optional[float] = DEFAULT_WORKER_TIMEOUT_S
    """After so long calls cost it that take every place it has, or keep it from answering at all."""
    batch_max_size: Optional[int] = None
    batch_max_wait_s: Optional[float] = None
    cors_origins: str = ""
    debug_port: Optional[int] = None
    insights: bool = False
    config_path: Optional[str] = None
    ignored_keys: Tuple[str, ...] = ()
    exports: Tuple[Tuple[str, str], ...] = ()

    @property
    def script_folder(self) -> str:
        return os.path.dirname(self.entry_script)


def read(environ: Mapping[str, str], cwd: str) -> Settings:
    """Settings from `environ`; relative paths start at the app root, which itself starts at `cwd`.

    Raises SettingsError: the deployment's fault.
    """
    app_root = os.path.abspath(os.path.join(cwd, environ.get(contract.ENV_APP_ROOT) or "."))
    named = environ.get(contract.ENV_ENTRY_SCRIPT)
    script_folder = os.path.dirname(os.path.join(app_root, named)) if named else None
    config_path, content = _config_file(environ, cwd, app_root, script_folder)
    from_file = _honoured(content)
    values: Dict[str, str] = dict(from_file)
    values.update(environ)

    socket_path = values.get(contract.ENV_SOCKET) or None
    if socket_path is not None:
        socket_path = os.path.join(cwd, socket_path)
        if len(os.fsencode(socket_path)) > UNIX_PATH_BYTES:
            raise SettingsError(
                "%s is longer than the %d bytes a unix socket path may have: %s"
                % (contract.ENV_SOCKET, UNIX_PATH_BYTES, socket_path)
            )
    model_dir = values.get(contract.ENV_MODEL_DIR)
    source = values.get("AZUREML_SOURCE_DIRECTORY") or None
    max_wait = values.get(contract.ENV_BATCH_MAX_WAIT_MS, "").strip()
    debug_port = _integer(values, "AZUREML_DEBUG_PORT", 0, least=0)
    scoring_timeout_ms = _integer(
        values, contract.ENV_SCORING_TIMEOUT_MS, DEFAULT_SCORING_TIMEOUT_MS, least=1
    )
    worker_timeout_s = _seconds(values, contract.ENV_WORKER_TIMEOUT_S, DEFAULT_WORKER_TIMEOUT_S) or None
    hung_after_s = worker_timeout_s
    if not values.get(contract.ENV_WORKER_TIMEOUT_S, "").strip():
        timeout_s = scoring_timeout_ms / 1000
        hung_after_s = min(DEFAULT_WORKER_TIMEOUT_S, timeout_s + max(timeout_s, LEAST_PATIENCE_S))
    return Settings(
        app_root=app_root,
        # Without a name the script is `main.py` of the app root, as it is for `import main`.
        entry_script=os.path.abspath(
            os.path.join(app_root, values.get(contract.ENV_ENTRY_SCRIPT) or "main.py")
        ),
        source_directory=os.path.abspath(os.path.join(app_root, source)) if source else None,
        model_dir=os.path.join(cwd, model_dir) if model_dir else None,
        socket_path=socket_path,
        max_concurrent=_integer(values, contract.ENV_MAX_CONCURRENT, 1, least=1),
        worker_index=_integer(values, contract.ENV_WORKER_INDEX, 0, least=0),
        boot_report=values.get(contract.ENV_BOOT_REPORT) or None,
        drain_s=_seconds(values, contract.ENV_DRAIN_S, DEFAULT_DRAIN_S),
        scoring_timeout_ms=scoring_timeout_ms,
        version_header=values.get("SERVER_VERSION_LOG_RESPONSE_ENABLED", "true").strip().lower() != "false",
        service_name=values.get("SERVICE_NAME") or "ML service",
        service_version=values.get("SERVICE_VERSION") or "1.0",
        service_path_prefix=values.get("SERVICE_PATH_PREFIX") or "",
        parser=_choice(values, "MOORINGS_SERVER_PARSER", ("auto", "httptools", "python")),
        event_loop=_choice(values, "MOORINGS_SERVER_LOOP", ("auto", "uvloop", "asyncio")),
        worker_timeout_s=worker_timeout_s,
        hung_after_s=hung_after_s,
        batch_max_size=_integer(values, contract.ENV_BATCH_MAX_SIZE, 0, least=0) or None,
        batch_max_wait_s=_seconds(values, contract.ENV_BATCH_MAX_WAIT_MS, 0.0) / 1000 if max_wait else None,
        cors_origins=values.get("AML_CORS_ORIGINS", "").strip(),
        debug_port=debug_port or None,
        insights=values.get("AML_APP_INSIGHTS_ENABLED", "").strip().lower() == "true",
        config_path=config_path,
        ignored_keys=tuple(sorted(key for key in content if key not in CONFIG_KEYS)),
        exports=tuple(sorted((key, value) for key, value in from_file.items() if key not in environ)),
    )


def _config_file(
    environ: Mapping[str, str], cwd: str, app_root: str, script_folder: Optional[str]
) -> Tuple[Optional[str], Dict[str, Any]]:
    """(path, content) of the config file. A `config.json` that merely lies there (a model's, say) counts
    only when it is a JSON object with at least one of our keys; one that was named must be usable."""
    named = environ.get("AZUREML_CONFIG_FILE")
    if named:
        path = os.path.join(cwd, named)
        try:
            content = _json_object(path)
        except (OSError, ValueError) as failure:
            raise SettingsError("The config file %s cannot be used: %s" % (path, failure)) from failure
        return path, content
    for folder in (app_root, script_folder):
        path = os.path.join(folder, "config.json") if folder else ""
        if path and os.path.isfile(path):
            try:
                content = _json_object(path)
            except (OSError, ValueError):
                continue
            if _honoured(content):
                return path, content
    return None, {}


def _json_object(path: str) -> Dict[str, Any]:
    with open(path, encoding="utf-8") as handle:
        content = json.load(handle)
    if not isinstance(content, dict):
        raise ValueError("it holds no JSON object")  # noqa: TRY004 - as for text that is no JSON
    return content


def _honoured(content: Mapping[str, Any]) -> Dict[str, str]:
    return {key: str(value) for key, value in content.items() if key in CONFIG_KEYS and value is not None}


def _integer(values: Mapping[str, str], name: str, default: int, *, least: int) -> int:
    text = values.get(name, "").strip()
    if not text:
        return default
    try:
        number = int(text)
    except ValueError:
        number = least - 1
    if number < least:
        raise SettingsError("%s is %r; it must be a whole number of at least %d" % (name, text, least))
    return number


def _seconds(values: Mapping[str, str], name: str, default: float) -> float:
    text = values.get(name, "").strip()
    if not text:
        return default
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise SettingsError("%s is %r; it must be a number of seconds, 0 or more" % (name, text))
    return number


def _choice(values: Mapping[str, str], name: str, allowed: Tuple[str, ...]) -> str:
    text = values.get(name, "").strip().lower() or allowed[0]
    if text not in allowed:
        raise SettingsError("%s is %r; it may be one of %s" % (name, text, ", ".join(allowed)))
    return text
