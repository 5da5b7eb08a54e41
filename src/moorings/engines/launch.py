"""What a worker process is started with: its environment, folder and command. Values in, values out.

It must not start anything, and it must stay small (every supervisor imports it).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moorings import contract
from moorings.engines import layout

PASSED_ON = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"),
        *("http_proxy", "https_proxy", "no_proxy", "all_proxy"),
    }
)
"""Variables of the outer environment that an instance sees; everything else (keys, tokens, PYTHONPATH)
stays out."""
PASSED_ON_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "MKL_", "OPENBLAS_")
DEFAULT_PATH = "/usr/local/bin:/usr/bin:/bin"

TIMEOUT_MARGIN_MS = 1000
"""The instance gives a request up this long after the gateway has: were both as fast, the caller would get the one's
408 or the other's error by chance."""


class Launch:
    """`instance.json` as the supervisor reads it.

    `in_container`: we are the first process of a container. Model and code are laid out and mounted already, the
    limits and the log are the runtime's, and the environment around us is the image's and nobody else's.
    """

    def __init__(
        self, folder: Path, data: Mapping[str, Any], private: Mapping[str, Any] | None = None
    ) -> None:
        """`private`: `engines.base.Private` as JSON."""
        template = data["template"]
        self.folder = folder
        self.id: str = data["id"]
        self.owner: str = data["owner"]
        self.revision: str = data["revision"]
        self.ordinal: int = data["ordinal"]
        self.workspace_id: str = data["workspace_id"]
        self.in_container: bool = data.get("in_container", False)
        self.home: str | None = data.get("home")
        self.grace_s: float = data["grace_s"]
        self.proven: bool = data.get("proven", False)
        """Others of its revision have served: it is tried again whatever comes."""
        self.python: str = template["python"]
        self.worker_argv: list[str] = [self.python, *data["worker_argv"]]
        self.initializer_argv: list[str] = data.get("initializer_argv", [])
        self.store_root: str = data.get("store_root", "")
        self.sockets = [Path(path) for path in data["sockets"]]
        self.logs = Path(data.get("logs", "/nonexistent"))
        self.log_file_bytes: int = data.get("log_file_bytes", 0)
        self.log_files: int = data.get("log_files", 0)
        self.log_bytes_per_s: int = data.get("log_bytes_per_s", layout.LOG_BYTES_PER_S)
        self.cgroup_parent: str | None = data.get("cgroup_parent")
        self.cgroup_name: str = data.get("cgroup_name") or self.id
        self.apps = Path(data.get("apps") or folder / "app")
        """The folder of the code folder and of `azureml-models`."""
        self.cpus: float | None = template["cpus"]
        self.memory_bytes: int | None = template["memory_bytes"]
        self.liveness: Mapping[str, Any] = template["liveness"]
        self.template: Mapping[str, Any] = template
        self.variables: dict[str, str] = {k: str(v) for k, v in template["environment_variables"].items()}
        self.identity: Mapping[str, Any] | None = (private or {}).get("identity")
        self.metadata: dict[str, str] = {}
        """Variables that lead to tokens of the identity; the supervisor sets them before workers start."""
        self.secrets: dict[str, str] = dict((private or {}).get("variables") or {})
        """Variables that take the place of references to secrets."""

    @property
    def app_root(self) -> Path:
        """The code folder: where scripts run, and `AML_APP_ROOT`."""
        return self.apps / str(self.template["code_folder"])

    @property
    def model_dir(self) -> Path | None:
        """The folder that contains the model: `AZUREML_MODEL_DIR`."""
        model = self.template["model"]
        if model is None:
            return None
        return self.apps / "azureml-models" / str(model["name"]) / str(model["version"])

    def boot_report(self, worker: int) -> Path:
        return self.folder / f"boot-{worker}.json"

    def plan(self) -> dict[str, Any]:
        """What the storage initializer is asked for."""
        model = self.template["model"]
        return {
            "store": self.store_root,
            "code": {"digest": self.template["code_digest"], "target": str(self.app_root)},
            "model": None if model is None else {"digest": model["digest"], "target": str(self.model_dir)},
        }

    def boot_budget_s(self) -> float:
        """Seconds a worker may take to become ready: what its liveness probe allows, or less where the user
        says so."""
        probe = self.liveness
        budget = float(probe["initial_delay_s"] + probe["period_s"] * probe["failure_threshold"])
        asked = self.variables.get(contract.ENV_WORKER_TIMEOUT_S, "").strip()
        return min(budget, float(asked)) if asked.isdigit() and int(asked) > 0 else budget

    def worker_environment(self, outer: Mapping[str, str], worker: int) -> dict[str, str]:
        """Outer allow-list < product < the user's < the runtime contract."""
        env = dict(outer) if self.in_container else outer_environment(outer)
        env["PATH"] = f"{Path(self.python).parent}:{env.get('PATH', DEFAULT_PATH)}"
        env.update(self._product())
        env.update(self.metadata)
        env.update(self.variables)
        env.update(self.secrets)
        gates = layout.shares(int(self.template["max_concurrent_requests"]), len(self.sockets))
        env.update(
            {
                **({"MOORINGS_HOME": self.home} if self.home else {}),
                "MOORINGS_ROLE": f"worker-{worker}",
                contract.ENV_SOCKET: str(self.sockets[worker]),
                contract.ENV_MAX_CONCURRENT: str(gates[worker]),
                contract.ENV_WORKER_INDEX: str(worker),
                contract.ENV_INSTANCE_ID: self.id,
                contract.ENV_OWNER: self.owner,
                contract.ENV_WORKSPACE_ID: self.workspace_id,
                contract.ENV_BOOT_REPORT: str(self.boot_report(worker)),
                contract.ENV_DRAIN_S: f"{self.grace_s:g}",
            }
        )
        return env

    def _product(self) -> dict[str, str]:
        product = {
            contract.ENV_APP_ROOT: str(self.app_root),
            contract.ENV_ENTRY_SCRIPT: str(self.template["scoring_script"]),
            contract.ENV_WORKER_COUNT: str(len(self.sockets)),
            contract.ENV_SCORING_TIMEOUT_MS: str(self.template["request_timeout_ms"] + TIMEOUT_MARGIN_MS),
            "PYTHONUNBUFFERED": "1",  # what a crashing script printed last must reach its log
        }
        if self.model_dir is not None:
            product[contract.ENV_MODEL_DIR] = str(self.model_dir)
        return product


def outer_environment(outer: Mapping[str, str]) -> dict[str, str]:
    """The part of this machine's environment that an instance may see."""
    return {k: v for k, v in outer.items() if k in PASSED_ON or k.startswith(PASSED_ON_PREFIXES)}


def private_of(folder: Path, fds: list[str]) -> dict[str, Any]:
    """What the supervisor alone is told: from a descriptor, which ends here; in a container from a file (0600) of its folder."""
    if not fds:
        return layout.read(folder / layout.PRIVATE)
    with os.fdopen(int(fds[0]), "rb") as told:
        found: dict[str, Any] = json.loads(told.read())
    return found
