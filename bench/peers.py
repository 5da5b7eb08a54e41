"""Who is measured: what each server needs installed, how it is started for a workload, what it does not offer.

Values and command lines; it starts nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.plan import BENTOML, MLFLOW, PLAIN, V1, V2, Protocol

ADAPTERS = Path(__file__).parent / "adapters"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Start:
    """What one server of a cell is told."""

    workload: str
    workers: int
    port: int
    python: Path
    """The interpreter of the peer's own environment."""
    scratch: Path
    """A new folder of this server's own."""
    clients: int
    """The most clients it will see."""

    @property
    def tools(self) -> Path:
        return self.python.parent


@dataclass(frozen=True)
class Launch:
    argv: list[str]
    env: dict[str, str] = field(default_factory=dict)
    before: list[list[str]] = field(default_factory=list)
    """Commands that prepare it and are not measured."""


@dataclass(frozen=True)
class Peer:
    name: str
    title: str
    venv: str
    requires: tuple[str, ...]
    package: str
    """The distribution whose version the table shows."""
    launch: Callable[[Start], Launch] | None
    """None: it is the whole of Moorings, which `bench.workspace` starts."""
    protocol: Protocol = PLAIN
    missing: dict[str, str] = field(default_factory=dict)
    """Workload -> why it is not run there."""
    script: str = "score.py"
    stream_path: str = ""
    """Where its stream is, if elsewhere than the other answers."""


NO_BATCH = {"matmul-batch": "no batching of requests"}
NO_STREAM = {"stream": "no streamed answers"}


def script_for(workload: str, plain: str = "score.py") -> str:
    return {"matmul-batch": "score_batch.py", "stream": "score_stream.py"}.get(workload, plain)


def _moorings(start: Start) -> Launch:
    most = {"wait": 32, "matmul-batch": 64}.get(start.workload, 1)
    argv = [str(start.tools / "moorings-server"), "--entry-script", script_for(start.workload)]
    argv += ["--port", str(start.port), "--worker-count", str(start.workers)]
    return Launch(argv, {"MOORINGS_MAX_CONCURRENT": str(most)})


def _azureml(start: Start) -> Launch:
    argv = [str(start.tools / "azmlinfsrv"), "--entry_script", "score.py"]
    return Launch([*argv, "--port", str(start.port), "--worker_count", str(start.workers)])


def _azureml_threads(start: Start) -> Launch:
    return Launch(_azureml(start).argv, {"GUNICORN_CMD_ARGS": "--worker-class gthread --threads 32"})


def _uvicorn(app: str, *extra: str) -> Callable[[Start], Launch]:
    def launch(start: Start) -> Launch:
        argv = [str(start.python), "-m", "uvicorn", f"{app}:app", "--port", str(start.port)]
        return Launch([*argv, "--workers", str(start.workers), *extra])

    return launch


def _kserve(start: Start) -> Launch:
    argv = [str(start.python), str(ADAPTERS / "kserve_app.py"), "--http_port", str(start.port)]
    return Launch([*argv, "--workers", str(start.workers)])


def _mlserver(start: Start) -> Launch:
    number = start.port
    settings = (
        f'{{"host": "127.0.0.1", "http_port": {number}, "grpc_port": {number + 1}, "metrics_port": {number + 2},'
        f' "parallel_workers": {start.workers if start.workers > 1 else 0}}}'
    )
    batching = ', "max_batch_size": 64, "max_batch_time": 0.002' if start.workload == "matmul-batch" else ""
    (start.scratch / "settings.json").write_text(settings)
    (start.scratch / "model-settings.json").write_text(
        f'{{"name": "m", "implementation": "mlserver_app.Served"{batching}}}'
    )
    return Launch([str(start.tools / "mlserver"), "start", str(start.scratch)])


def _bentoml(start: Start) -> Launch:
    argv = [str(start.tools / "bentoml"), "serve", "bentoml_app:Served", "--working-dir", str(ADAPTERS)]
    return Launch([*argv, "--host", "127.0.0.1", "--port", str(start.port)], {"BENTOML_DO_NOT_TRACK": "1"})


def _program(file: str, env: dict[str, str]) -> Callable[[Start], Launch]:
    def launch(start: Start) -> Launch:
        argv = [str(start.python), str(ADAPTERS / file), str(start.port), str(start.workers)]
        return Launch(argv, env)

    return launch


def _mlflow(start: Start) -> Launch:
    saved = start.scratch / "model"
    save = [str(start.python), str(ADAPTERS / "mlflow_app.py"), str(saved)]
    argv = [str(start.tools / "mlflow"), "models", "serve", "-m", str(saved), "--env-manager", "local"]
    argv += ["--host", "127.0.0.1", "--port", str(start.port), "--workers", str(start.workers)]
    return Launch(argv, {"MLFLOW_TRACKING_URI": f"sqlite:///{start.scratch}/mlflow.db"}, [save])


SERVER = (str(ROOT / "server"), "orjson")
WAIT_ONLY = dict.fromkeys(
    ("echo", "sklearn-1", "sklearn-100", "matmul", "matmul-batch", "large", "stream"),
    "only measured where requests wait",
)
LARGE_ONLY = dict.fromkeys(
    ("echo", "sklearn-1", "sklearn-100", "wait", "matmul", "matmul-batch", "stream"),
    "only measured where reading the body is the work",
)
NOT_AS_ASYNC = {"wait": "the plain function is the better one here", **NO_BATCH, **NO_STREAM}

PEERS = {
    each.name: each
    for each in (
        Peer("moorings", "Moorings, whole gateway", "moorings", SERVER, "moorings-server", None),
        Peer(
            "moorings-async",
            "Moorings, whole gateway, `async def run`",
            "moorings",
            SERVER,
            "moorings-server",
            None,
            missing=NOT_AS_ASYNC,
            script="score_async.py",
        ),
        Peer(
            "moorings-orjson",
            "Moorings, whole gateway, script with orjson",
            "moorings",
            SERVER,
            "moorings-server",
            None,
            missing=LARGE_ONLY,
            script="score_orjson.py",
        ),
        Peer("worker", "Moorings, worker alone", "moorings", SERVER, "moorings-server", _moorings),
        Peer(
            "azureml",
            "azureml-inference-server-http",
            "azureml",
            ("azureml-inference-server-http",),
            "azureml-inference-server-http",
            _azureml,
            missing={**NO_BATCH, **NO_STREAM},
        ),
        Peer(
            "azureml-threads",
            "azureml-inference-server-http, 32 threads",
            "azureml",
            ("azureml-inference-server-http",),
            "azureml-inference-server-http",
            _azureml_threads,
            missing=WAIT_ONLY,
        ),
        Peer(
            "fastapi",
            "FastAPI + uvicorn",
            "fastapi",
            ("fastapi", "uvicorn[standard]"),
            "fastapi",
            _uvicorn("fastapi_app"),
            missing=NO_BATCH,
        ),
        Peer(
            "fastapi-async",
            "FastAPI + uvicorn, `async def`, no access log",
            "fastapi",
            ("fastapi", "uvicorn[standard]"),
            "fastapi",
            _uvicorn("fastapi_async_app", "--no-access-log"),
            missing=NOT_AS_ASYNC,
        ),
        Peer(
            "kserve",
            "KServe model server",
            "kserve",
            ("kserve",),
            "kserve",
            _kserve,
            V1,
            missing={"matmul-batch": "batching is a part of its Kubernetes agent", **NO_STREAM},
        ),
        # Its worker processes end at start with later event loops.
        Peer(
            "mlserver",
            "MLServer",
            "mlserver",
            ("mlserver", "uvloop<0.22"),
            "mlserver",
            _mlserver,
            V2,
            missing={"stream": "streams text generation only"},
        ),
        Peer("bentoml", "BentoML", "bentoml", ("bentoml",), "bentoml", _bentoml, BENTOML),
        Peer(
            "litserve",
            "LitServe",
            "litserve",
            ("litserve",),
            "litserve",
            _program("litserve_app.py", {}),
        ),
        Peer(
            "mlflow",
            "MLflow",
            "mlflow",
            ("mlflow",),
            "mlflow",
            _mlflow,
            MLFLOW,
            missing={**NO_BATCH, **NO_STREAM},
        ),
        Peer(
            "ray",
            "Ray Serve",
            "ray",
            ("ray[serve]",),
            "ray",
            _program("ray_app.py", {"RAY_USAGE_STATS_ENABLED": "0"}),
        ),
    )
}
