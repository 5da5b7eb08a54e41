"""Starting one container: the storage initializer lays model and code out, then the container is made and begins.

Runs on a thread and holds the lock of the instance's folder meanwhile; killed at any instant it leaves what the next
start picks up. Must not know deployments or the gateway.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from moorings.containers.host import DockerHost
from moorings.containers.reading import LOCAL_PREFIX
from moorings.engines import docker_config as cfg
from moorings.engines import layout, metadata, policy
from moorings.engines.base import CONTAINER_INITIALIZER, CONTAINER_PULLER, CONTAINER_SERVER, Phase, Private
from moorings.engines.bundle import COMPANION, COMPANION_MODULES
from moorings.engines.lastword import with_last_word
from moorings.engines.launch import outer_environment
from moorings.engines.output import Output
from moorings.engines.runtime import packed
from moorings.errors.exceptions import Failure, MooringsError, failure
from moorings.errors.sentence import sentence
from moorings.lib import atomic, procs
from moorings.lib.logfile import RotatingWriter, stamp
from moorings.lib.redaction import Redactor

logger = logging.getLogger(__name__)

POLL_S = 0.02
COMPANION_PATIENCE_S = 10.0
"""How long a companion may take to begin; then the server starts all the same, and asks for its tokens again."""
_AWAY = ("DockerEngineNotAvailable", "DockerAccessDenied")
_PORT_TAKEN = ("port is already allocated", "address already in use")


class Starter:
    """One start. `held`: the lock of the folder; it is released at the end."""

    def __init__(
        self, folder: Path, held: procs.Held, host: DockerHost, site: cfg.Site, private: Private
    ) -> None:
        self._folder = folder
        self._held = held
        self._host = host
        self._site = site
        self._private = private
        self._data = layout.read(folder / layout.INSTANCE)
        self._failures = 0
        self._failed_now = False

    def run(self) -> None:
        """Never raises: what goes wrong is written down, or left for the next `apply` when Docker is away. What is proven is
        tried again, later and later."""
        try:
            while not self._attempt() and self._data.get("proven") and self._wait():
                pass
        finally:
            self._held.release()

    def _wait(self) -> bool:
        """Before the next start; whether there is to be one."""
        self._failures += 1
        until = time.monotonic() + policy.delay_s(self._failures)
        while time.monotonic() < until and not self._is_to_stop():
            time.sleep(POLL_S)
        return not self._is_to_stop()

    def _attempt(self) -> bool:
        """Whether nothing has failed that is worth another start."""
        self._failed_now = False
        try:
            self._run()
        except MooringsError as problem:
            if problem.failure.code not in _AWAY:
                self._failed(CONTAINER_SERVER, _report(problem.failure))
        except OSError as problem:
            code = "DiskFull" if problem.errno in (errno.ENOSPC, errno.EDQUOT) else "ContainerCannotStart"
            self._failed(CONTAINER_SERVER, _report(failure(code, str(problem))))
        except Exception:
            logger.exception("starting %s failed", self._folder.name)
            said = failure("InternalServerError", "the container could not be started: see the daemon's log")
            self._failed(CONTAINER_SERVER, _report(said))
        return not self._failed_now

    def _run(self) -> None:
        if not self._lay_out() or self._is_to_stop():
            return
        image = self._data["template"]["container"]
        if self._host.image(image["image_id"]) is None:
            if image["image"].startswith(LOCAL_PREFIX):
                message = (
                    "the image of the environment is no longer on this machine, and there is no registry"
                )
                fix = sentence(
                    "Deploy again, which builds it anew: moor online-deployment update -f <deployment.yml>"
                )
                evidence = (f"{image['image']} ({image['image_id']})",)
                raise MooringsError(
                    failure("ImageNotFound", message, target=image["image"], evidence=evidence, fix=fix)
                )
            found = self._host.ensure_image(image["image"], self._pulled)
            if found.id != image["image_id"]:
                message = f"{image['image']} is another image now than when the deployment was made"
                raise MooringsError(
                    failure("ImageNotFound", message, target=image["image"], fields={"image": image["image"]})
                )
        if not self._data["template"]["container"]["routes"]:
            self._prepare_run_folder()
        name = cfg.container_name(self._site.workspace_id, self._data["id"])
        beside = cfg.companion_name(self._site.workspace_id, self._data["id"])
        for last in (False, True):
            self._host.remove(name)
            self._host.remove(beside)
            try:
                container = self._host.create(name, self._config(self._companion(beside)))
                if not self._is_to_stop():
                    self._host.start(container)
                return
            except MooringsError as problem:
                self._host.remove(name)
                self._host.remove(beside)
                taken = any(sign in problem.failure.message for sign in _PORT_TAKEN)
                if last or not taken:
                    raise
                self._choose_other_ports()

    def _companion(self, name: str) -> cfg.Beside | None:
        """Beside a container with a server of its own, what serves it its tokens; it has begun to. None: it has no
        identity, or there is nothing to run it with."""
        routes, told = self._data["template"]["container"]["routes"], self._told()
        if not routes or told["identity"] is None:
            return None
        try:
            runtime = packed(Path(self._site.runtime_root), Path(self._site.bundle), COMPANION_MODULES)
        except (OSError, ValueError, subprocess.SubprocessError) as problem:
            logger.error("%s gets no tokens for its identity: %s", self._data["id"], problem)
            return None
        port, header = cfg.metadata_port(routes), metadata.new_header()
        folder = self._fresh_run_folder()
        note = {"identity": told["identity"], "header": header, "port": port}
        self._hand_over(folder, {layout.PRIVATE: note})
        command = runtime.command(cfg.RUNTIME, COMPANION.format(bundle=cfg.BUNDLE, folder=cfg.RUN))
        config = cfg.companion_config(
            self._site, self._data, runtime=str(runtime.folder), command=command, run_folder=str(folder)
        )
        container = self._host.create(name, config)
        self._host.start(container)
        deadline = time.monotonic() + COMPANION_PATIENCE_S
        while not (folder / layout.STATUS).exists() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        return cfg.Beside(container, metadata.variables(port, header))

    def _config(self, beside: cfg.Beside | None) -> dict[str, Any]:
        return cfg.config_of(
            self._site,
            self._data,
            folder=str(self._folder),
            run_folder=self._data["run_folder"],
            secrets=self._private.variables,
            beside=beside,
        )

    def _lay_out(self) -> bool:
        """The storage initializer, with a log of its own; whether it succeeded."""
        template = self._data["template"]
        if not template["code_digest"] and template["model"] is None:
            return True
        app, model = self._folder / "app", template["model"]
        plan = {
            "store": self._data["store_root"],
            "code": {"digest": template["code_digest"], "target": str(app / template["code_folder"])}
            if template["code_digest"]
            else None,
            "model": None
            if model is None
            else {
                "digest": model["digest"],
                "target": str(app / "azureml-models" / model["name"] / model["version"]),
            },
        }
        atomic.write(self._folder / layout.PLAN, json.dumps(plan).encode())
        path = self._log_path(CONTAINER_INITIALIZER)
        env = {**outer_environment(os.environ), "MOORINGS_ROLE": CONTAINER_INITIALIZER}
        rate, log = self._data["log_bytes_per_s"], self._log(path)
        output = Output(log, redact=Redactor().redact, bytes_per_s=rate)
        try:
            process = subprocess.Popen(
                [*self._data["initializer_argv"], str(self._folder / layout.PLAN)],
                env=env,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=output.writer,
                stderr=output.writer,
                umask=0o022,  # the user inside is another one; the folder around is ours alone
                pass_fds=(self._held.fd,),  # should we be killed, nobody begins anew before it has ended
            )
            while (code := process.poll()) is None:
                if self._is_to_stop():
                    process.kill()
                output.pump()
                time.sleep(POLL_S)
            output.drain()
        finally:
            output.close()
            log.close()
        if code != 0 and not self._is_to_stop():
            report = with_last_word(None, path)
            self._failed(
                CONTAINER_INITIALIZER,
                report,
                code=code if code >= 0 else None,
                signum=-code if code < 0 else None,
            )
        return code == 0

    def _pulled(self, line: str) -> None:
        log = self._log(self._log_path(CONTAINER_PULLER))
        log.write(stamp(time.time()) + Redactor().text(line).encode() + b"\n")
        log.close()

    def _log_path(self, container: str) -> Path:
        logs = Path(self._data["logs"])
        logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        return logs / f"{container}.log"

    def _log(self, path: Path) -> RotatingWriter:
        return RotatingWriter(path, file_bytes=self._data["log_file_bytes"], files=self._data["log_files"])

    def _prepare_run_folder(self) -> None:
        """The folder of sockets, with what the supervisor reads."""
        folder = self._fresh_run_folder()
        self._hand_over(folder, {layout.INSTANCE: cfg.inside(self._data), layout.PRIVATE: self._told()})

    def _fresh_run_folder(self) -> Path:
        folder = Path(self._data["run_folder"])
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def _hand_over(self, folder: Path, files: Mapping[str, Mapping[str, Any]]) -> None:
        """Files of a run folder, which then belongs to who runs inside."""
        for name, content in files.items():
            atomic.write(folder / name, json.dumps(content).encode())
        wish = layout.read(self._folder / layout.STOP)
        if wish:
            atomic.write(folder / layout.STOP, json.dumps(wish).encode(), mode=0o644)
        if os.getuid() == 0:
            uid, gid = (int(part) for part in self._site.user.split(":"))
            for path in (*(folder / name for name in files), folder):
                os.chown(path, uid, gid)

    def _told(self) -> dict[str, Any]:
        """What the instance alone is told, with paths of the container."""
        told = self._private.to_json()
        if told["identity"] is not None:
            if not self._site.identity_folder:
                return {**told, "identity": None}
            name = Path(told["identity"]["socket"]).name
            told["identity"] = {**told["identity"], "socket": f"{cfg.IDENTITY}/{name}"}
        return told

    def _choose_other_ports(self) -> None:
        routes = self._data["template"]["container"]["routes"]
        self._data = {**self._data, "ports": free_ports(cfg.ports_of(routes))}
        atomic.write(self._folder / layout.INSTANCE, json.dumps(self._data).encode())

    def _is_to_stop(self) -> bool:
        return (self._folder / layout.STOP).exists()

    def _failed(
        self,
        step: str,
        report: Mapping[str, Any],
        *,
        code: int | None = None,
        signum: int | None = None,
    ) -> None:
        ended = {
            "code": code,
            "signal": signum,
            "at": time.time(),
            "report": report,
            "step": step,
            "oom": False,
        }
        self._failed_now = True
        # Should we be killed before the next start, whoever looks then is to begin anew.
        phase = Phase.BACKOFF if self._data.get("proven") else Phase.FAILED
        status = {"phase": phase, "started_at": time.time(), "exit": ended}
        with contextlib.suppress(OSError):  # a full disk: then it is begun again instead
            atomic.write(self._folder / layout.STATUS, json.dumps(status).encode())


def free_ports(wanted: Iterable[int]) -> dict[str, int]:
    """For each port of a container one of this machine's loopback that nobody uses now.

    Chosen by us and not by the engine, so that it stays the same when the container starts again.
    """
    held: list[socket.socket] = []
    try:
        for _ in wanted:
            listener = socket.socket()
            held.append(listener)
            listener.bind((cfg.LOOPBACK, 0))
        return {str(port): s.getsockname()[1] for port, s in zip(wanted, held, strict=True)}
    finally:
        for listener in held:
            listener.close()


def _report(failed: Failure) -> dict[str, Any]:
    return {
        "outcome": "failed",
        "kind": layout.KIND_CANNOT_START,
        "code": failed.code,
        "message": failed.message,
        "evidence": list(failed.evidence),
        "remedy": failed.remedy.to_json(),
    }
