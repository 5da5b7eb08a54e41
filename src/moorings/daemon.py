"""Composition root of the control plane: settings in, running tasks out. The only place that constructs collaborators."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from moorings import __version__
from moorings.api.app import Api, create_app
from moorings.api.assets import Assets
from moorings.api.audited import Audited
from moorings.api.blob_routes import BlobApp
from moorings.api.blobs import Blobs
from moorings.api.callers import Callers
from moorings.api.capacity import MachineCapacity
from moorings.api.environments import EnvironmentBuilds
from moorings.api.guard import Guard
from moorings.api.identities import Identities
from moorings.api.instance_tokens import SOCKET, InstanceTokens
from moorings.api.listener import Listener, QuietServer
from moorings.api.logs import DeploymentLogs
from moorings.api.quota import Quotas
from moorings.api.resources import Resources
from moorings.api.rollouts import Rollouts
from moorings.api.secrets import Secrets
from moorings.api.standby import Standby
from moorings.assets.origins import Origins
from moorings.assets.store import AssetStore
from moorings.assets.uploads import Uploads
from moorings.autoscale.scaler import Scaler
from moorings.autoscale.usage import InstanceUsage
from moorings.containers.credentials import from_settings
from moorings.containers.host import DockerHost, kept_login
from moorings.containers.reading import registry_of
from moorings.containers.workspace import home_digest
from moorings.controller.access import Access
from moorings.controller.copies import Copies
from moorings.controller.deployment import DeploymentReconciler, Tools
from moorings.controller.endpoint import EndpointReconciler
from moorings.controller.health import Prober
from moorings.controller.leadership import Election
from moorings.controller.loops import Loops
from moorings.controller.marks import Marks
from moorings.controller.provision import ImageProvisioner, Provisioner
from moorings.controller.publisher import Publisher
from moorings.controller.rollout import RolloutReconciler
from moorings.controller.scoring import Scoring
from moorings.controller.trials import Trials
from moorings.controller.upkeep import LogKeeper, keep_directory, keep_gateway
from moorings.controller.verdict import Diagnoses, Verdicts
from moorings.engines.base import Engine
from moorings.engines.docker import DockerEngine, DockerEngineSettings
from moorings.engines.process import ProcessEngine, ProcessEngineSettings
from moorings.environments.image import ImageBuilder, ImageSettings
from moorings.environments.leases import Leases
from moorings.environments.venv import EnvironmentBuilder
from moorings.errors.exceptions import Failure, MooringsError, error, failure
from moorings.gateway.admin import Admin, AdminError
from moorings.gateway.control import GatewayControl, GatewaySettings
from moorings.lib import atomic, procs, sockets
from moorings.lib.timing import SystemClock
from moorings.observe.journal import Journal
from moorings.observe.stream import LogStream
from moorings.security.audit import AuditLog
from moorings.security.directory import Directory
from moorings.security.folders import private
from moorings.security.identity_tokens import ISSUER, LIFETIME_S, IdentityTokens
from moorings.security.places import Places
from moorings.security.tokens import TokenIssuer
from moorings.security.vault import Vault
from moorings.settings import DOCKER, FIRST_DAEMON, STATE_URL_VARIABLE, Settings, check_engine
from moorings.state.binding import open_bound
from moorings.state.database import Database, Fence
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, ROLLOUT

logger = logging.getLogger("moorings.daemon")

EXIT_ALREADY_RUNNING = 4
EXIT_CANNOT_START = 5
LOG_FILES = 4
"""Files of one log: a quarter of it goes at a time."""
KEEP_LOG_BYTES = 8 * 1024 * 1024


def _fetch(url: str) -> bytes:
    """GET, as the directory of users needs it. Raises OSError."""
    import httpx

    try:
        answer = httpx.get(url, timeout=10.0, follow_redirects=False)
        answer.raise_for_status()
    except httpx.HTTPError as problem:
        raise OSError(str(problem)) from None
    return answer.content


def _directory(settings: Settings, clock: SystemClock) -> Directory | None:
    known = settings.directory
    if not known.issuer:
        return None
    cache = settings.home / "directory-keys.json"
    return Directory(known.issuer, known.audience, known.keys, known.claim, cache, clock, _fetch)


def _database(settings: Settings, clock: SystemClock) -> Database:
    try:
        return Database.at(settings.state_place, clock)
    except ValueError as problem:
        message = f"{STATE_URL_VARIABLE} or state.url in settings.json: {problem}"
        raise error("SettingsInvalid", message, target="state.url") from None


class Daemon:
    """One workspace's control plane. Constructing acts on nothing; `run` does."""

    def __init__(self, settings: Settings, environ: Mapping[str, str]) -> None:
        """`environ`: what this process was started with, and would be started with again."""
        home = settings.home
        clock = SystemClock()
        self._settings = settings
        self._environ = environ
        self._database = _database(settings, clock)
        self._election: Election | None = None
        if self._database.on_server:
            fence = Fence()
            holder = settings.daemon_name or FIRST_DAEMON
            self._election = Election(self._database, fence, holder, clock)
            self._database = self._database.fenced(fence)
        self._store = AssetStore(home / "assets", home=home)
        vault = Vault(home / "secret.key")
        registry = settings.registry
        self._docker = DockerHost(
            settings.docker.host,
            from_settings(registry.repository, registry.user, registry.password_file),
            owner=home_digest(home),
        )
        self._leases = Leases()
        self._environments = self._provisioner()
        self._gateway = GatewayControl(
            GatewaySettings(
                home=home,
                dir=home / "gateway",
                run_dir=settings.run_dir,
                port=settings.gateway.port,
                bind=settings.gateway.bind,
                max_connections=settings.gateway.max_connections,
            )
        )
        self._tokens = TokenIssuer(home / "token-keys.json", clock)
        self._places = Places(
            settings.workspace.path,
            registry_of(f"{registry.repository}/x") if registry.repository else "",
        )
        self._identity_tokens = IdentityTokens(
            TokenIssuer(home / "identity-keys.json", clock, issuer=ISSUER, lifetime_s=LIFETIME_S)
        )
        self._directory = _directory(settings, clock)
        self._publisher = Publisher(
            self._database,
            self._gateway,
            vault,
            self._tokens,
            clock,
            rate_limit_per_s=settings.gateway.rate_limit_per_s,
            local_requires_key=settings.gateway.local_requires_key,
            scoring=Scoring(self._identity_tokens, self._places, self._directory),
        )
        self._vault = vault
        self._clock = clock
        identity_folder = settings.run_dir / "identity"
        self._callers = Callers(
            self._database,
            self._identity_tokens,
            self._directory.principal_name if self._directory is not None else lambda _token: None,
        )
        self._audit = AuditLog(home / "audit", settings.audit.file_mb * 1024 * 1024, settings.audit.files)
        self._instance_tokens = InstanceTokens(self._database, vault, self._identity_tokens, identity_folder)
        self._access = Access(self._database, vault, self._places, identity_folder / SOCKET, self._has_login)
        self._blobs = Blobs(self._database, Uploads(home / "uploads"), self._store)
        self._listener = Listener(home / "access", settings.clients.port, clock)
        self._journal = Journal(settings.deployment_logs)

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT. The data plane goes on without us."""
        settings = self._settings
        for folder in (settings.home, settings.run_dir, settings.logs_dir, self._audit.folder):
            private(folder)
        workspace_id = await asyncio.to_thread(open_bound, self._database, settings.home)
        check_engine(settings, settings.engine)
        engine = self._engine(workspace_id)
        deployments = self._controller(engine)
        app = self._app(engine, workspace_id)
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, stop.set)
        try:
            async with self._leading(app, stop):
                if not stop.is_set():
                    await self._lead(engine, app, stop, workspace_id)
        finally:
            await deployments.close()
            self._database.close()
        logger.info("stopped")

    @contextlib.asynccontextmanager
    async def _leading(self, app: ASGIApp, stop: asyncio.Event) -> AsyncIterator[None]:
        """Within it this daemon leads, or `stop` is set. Until then it answers on a socket of its own."""
        if self._election is None:
            yield
            return
        listener = sockets.listen(self._settings.own_socket)
        server = self._server(app)
        api = asyncio.create_task(server.serve(sockets=[listener]))
        tasks = [asyncio.create_task(self._election.win()), asyncio.create_task(stop.wait())]
        try:
            await asyncio.wait({api, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            if tasks[0].done():
                tasks[0].result()
                tasks.append(asyncio.create_task(self._election.keep(self._begin_anew)))
            else:
                stop.set()
            yield
        finally:
            for task in tasks:
                task.cancel()
            server.should_exit = True
            await asyncio.gather(api, *tasks, return_exceptions=True)
            self._settings.own_socket.unlink(missing_ok=True)
            with contextlib.suppress(MooringsError):  # then it runs out
                await asyncio.to_thread(self._election.end)

    def _begin_anew(self) -> None:
        """Another daemon leads: whatever this one is in the middle of ends now, as by a kill. It comes back as a standby."""
        os.execve(sys.executable, [sys.executable, "-P", "-m", "moorings.daemon"], dict(self._environ))  # noqa: S606

    async def _lead(self, engine: Engine, app: ASGIApp, stop: asyncio.Event, workspace_id: str) -> None:
        """Look after everything until `stop`."""
        settings = self._settings
        for folder in (settings.home, settings.home / "gateway"):
            await asyncio.to_thread(atomic.sweep, folder)
        await asyncio.to_thread(self._sweep_store)
        await asyncio.to_thread(self._blobs.sweep, self._clock.now())
        await asyncio.to_thread(self._environments.builder.sweep)
        await asyncio.to_thread(self._access.adopt)
        await self._loops.expect(engine)
        log_keeper = self._log_keeper(engine)
        # What a container's processes are called is not known here.
        usages = None if settings.engine == DOCKER else InstanceUsage(engine)
        scaler = Scaler(self._database.acting(), self._gateway, self._clock, self._loops.hinter(), usages)
        server = self._server(app)
        listener = sockets.listen(settings.api_socket)
        bound = sockets.number(settings.api_socket)
        logger.info("moorings %s serves %s, workspace %s", __version__, settings.api_socket, workspace_id)
        try:
            async with asyncio.TaskGroup() as tasks:
                background = [
                    tasks.create_task(self._loops.scan(), name="scan"),
                    tasks.create_task(keep_gateway(self._gateway.ensure_agent), name="gateway"),
                    tasks.create_task(self._listener.run(), name="listener"),
                    tasks.create_task(log_keeper.run(), name="logs"),
                    tasks.create_task(
                        keep_directory(self._directory, self._publisher.changed), name="directory"
                    ),
                    tasks.create_task(self._instance_tokens.run(), name="instance tokens"),
                    tasks.create_task(scaler.run(), name="scaler"),
                ]
                api = tasks.create_task(server.serve(sockets=[listener]), name="api")
                await asyncio.wait({api, tasks.create_task(stop.wait())}, return_when=asyncio.FIRST_COMPLETED)
                stop.set()
                server.should_exit = True
                for task in background:
                    task.cancel()
                await asyncio.gather(api, self._listener.close())
        finally:
            await self._loops.close()
            self._rollouts.close()
            sockets.remove(settings.api_socket, bound)

    def _has_login(self, registry: str) -> bool:
        """Whether this machine has credentials for a registry."""
        known = self._settings.registry
        credentials = from_settings(known.repository, known.user, known.password_file)
        with contextlib.suppress(MooringsError):
            return bool(credentials(registry) or kept_login(registry))
        return False

    def _sweep_store(self) -> None:
        with self._database.read() as tx:
            known = tx.asset_digests()  # the usual case, without a search through all rows for each
            self._store.sweep(lambda digest: digest in known or tx.mentions(digest))

    def _provisioner(self) -> Provisioner | ImageProvisioner:
        settings, home = self._settings, self._settings.home
        if settings.engine == DOCKER:
            images = ImageSettings(
                aliases=settings.image_aliases,
                repository=settings.registry.repository,
                build_network=settings.docker.build_network,
            )
            builder = ImageBuilder(
                home / "environments",
                self._docker,
                images,
                home=home,
                solver=settings.environments.conda_solver,
                leases=self._leases,
            )
            return ImageProvisioner(builder, self._store)
        return Provisioner(
            EnvironmentBuilder(
                home / "environments",
                uv=None,
                allow_python_download=settings.environments.allow_python_download,
                home=home,
                solver=settings.environments.conda_solver,
                leases=self._leases,
            ),
            self._store,
        )

    def _engine(self, workspace_id: str) -> Engine:
        home, parent = self._settings.home, self._settings.instances.cgroup_parent
        root = self._settings.instances_root(self._settings.engine)
        kept = self._settings.logs
        logs: dict[str, Any] = {
            "logs_root": self._settings.deployment_logs,
            "log_file_bytes": kept.instance_bytes // LOG_FILES,
            "log_files": LOG_FILES,
            "log_bytes_per_s": kept.instance_bytes_per_s,
        }
        if self._settings.engine == DOCKER:
            return DockerEngine(
                DockerEngineSettings(
                    root=root,
                    run_dir=self._settings.run_dir,
                    runtime_root=home / "runtime",
                    store_root=home / "assets",
                    **logs,
                    initializer_argv=(sys.executable, "-m", "moorings.assets.initializer"),
                    workspace_id=workspace_id,
                    home_digest=home_digest(home),
                    network=self._settings.docker.network,
                ),
                self._docker,
            )
        return ProcessEngine(
            ProcessEngineSettings(
                home=home,
                root=root,
                run_dir=self._settings.run_dir,
                store_root=home / "assets",
                **logs,
                initializer_argv=(sys.executable, "-m", "moorings.assets.initializer"),
                workspace_id=workspace_id,
                cgroup_parent=Path(parent) if parent else None,
            )
        )

    def _controller(self, engine: Engine) -> DeploymentReconciler:
        options, acting = self._settings.controller, self._database.acting()
        marks = Marks(acting, self._clock)
        prober = Prober(self._clock)
        verdicts = Verdicts(engine, prober, self._settings.home)
        self._diagnoses = Diagnoses(self._database, self._clock, verdicts)
        deployments = DeploymentReconciler(
            Tools(
                database=acting,
                marks=marks,
                clock=self._clock,
                engine=engine,
                environments=self._environments,
                store=self._store,
                access=self._access,
                publisher=self._publisher,
                prober=prober,
                verdicts=verdicts,
                trials=Trials(engine, self._clock),
                journal=self._journal,
                resync_s=options.resync_s,
                busy_s=options.busy_s,
                progress_deadline_s=options.progress_deadline_s,
            )
        )
        endpoints = EndpointReconciler(
            acting, marks, self._clock, self._publisher, options.resync_s, options.busy_s
        )
        self._rollouts = RolloutReconciler(
            acting,
            self._clock,
            self._gateway.settings.access_log,
            lambda kind, name: self._loops.wake(kind, name),
            self._answered,
            Copies(self._publisher.routed),
        )
        self._loops = Loops(
            acting,
            marks,
            self._publisher,
            {
                DEPLOYMENT: deployments.reconcile,
                ENDPOINT: endpoints.reconcile,
                ROLLOUT: self._rollouts.reconcile,
            },
        )
        return deployments

    async def _answered(self, cluster: str) -> Mapping[int, int]:
        try:
            return await Admin(self._gateway.settings.admin_socket).answered(cluster)
        except AdminError as problem:
            raise OSError(str(problem)) from problem

    def _log_keeper(self, engine: Engine) -> LogKeeper:
        kept, loops = self._settings.logs, self._loops
        return LogKeeper(
            engine,
            self._journal,
            loops.deployments,
            self._clock,
            kept_days=kept.kept_days,
            kept_bytes=kept.kept_bytes,
        )

    def _app(self, engine: Engine, workspace_id: str) -> ASGIApp:
        workspace = self._settings.workspace
        resources = Resources(
            self._database,
            self._vault,
            self._tokens,
            workspace.path,
            self._places,
            self._loops.hinter(),
            Quotas(self._database, self._capacity()),
        )
        rollouts = Rollouts(self._database, self._loops.hinter())
        api = Api(
            resources=resources,
            assets=Assets(
                self._database,
                self._store,
                origins=Origins(self._settings.datastores_file),
                uploaded=self._blobs.tree,
            ),
            blobs=self._blobs,
            logs=DeploymentLogs(
                resources,
                LogStream(
                    engine,
                    self._journal,
                    self._gateway.settings.access_log,
                    (resources.secret_values,),
                    self._clock.now,
                ),
            ),
            build_logs=self._environments,
            environment_builds=EnvironmentBuilds(
                database=self._database,
                inventory=self._environments.builder.inventory(),
                engine=engine,
                key_of=self._environments.key_of,
            ),
            callers=self._callers,
            audit=self._audit,
            identities=Identities(self._database, self._places),
            secrets=Secrets(self._database, self._vault, self._places),
            workspace_path=workspace.path,
            workspace_name=workspace.name,
            workspace_id=workspace_id,
            gateway_url=self._settings.gateway_url,
            rate_limit_per_s=self._settings.gateway.rate_limit_per_s,
            local_requires_key=self._settings.gateway.local_requires_key,
            facts=self._facts,
            diagnoses=self._diagnoses,
            rollouts=rollouts,
            listener=self._listener,
        )
        app = create_app(api)
        keys, clock = self._listener.keys, self._clock
        door = Guard(app, BlobApp(self._blobs, keys, clock), keys, clock, workspace.path, self._callers)
        self._listener.serve(Audited(door, self._audit, clock, "tls"))
        audited: ASGIApp = Audited(app, self._audit, clock, "socket")
        election = self._election
        if election is None:
            return audited
        return Standby(audited, lambda: election.leads, lambda: election.leader)

    def _server(self, app: ASGIApp) -> QuietServer:
        config = uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=5
        )
        return QuietServer(config)

    def _capacity(self) -> MachineCapacity:
        options = self._settings.capacity
        return MachineCapacity(
            vcpus=options.vcpus,
            memory_gib=options.memory_gib,
            gpus=options.gpus,
            cpu_overcommit=options.cpu_overcommit,
            memory_overcommit=options.memory_overcommit,
            engine_facts=self._docker.facts if self._settings.engine == DOCKER else None,
        )

    def _facts(self) -> Mapping[str, Any]:
        status = self._gateway.status()
        return {
            "home": str(self._settings.home),
            "clients": self._listener.base_url,
            "engine": self._settings.engine,
            "state": self._database.shown,
            "leader": self._election.leader if self._election is not None else None,
            "gateway": {
                "ready": bool(status and status.ready),
                "failure": status.failure if status else "the gateway agent has not reported yet",
                "problem": status.problem.to_json() if status and status.problem else None,
                "rejected": dict(status.rejected) if status else {},
            },
        }


def _trim_log(path: Path) -> None:
    """Our output is appended to `path` by whoever started us; start it anew when it has grown large."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > KEEP_LOG_BYTES:
            path.replace(path.with_suffix(".log.1"))
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            os.dup2(fd, 1)
            os.dup2(fd, 2)
            os.close(fd)


def _unusable(problem: OSError) -> Failure:
    """What the machine does not let us do with the workspace folder."""
    path = problem.filename or os.environ.get("MOORINGS_HOME") or "~/.moorings"
    message = f"the workspace cannot be used: {problem}"
    return failure("FolderNotPrivate", message, target=str(path), fields={"path": path})


def main() -> int:
    """`python -m moorings.daemon`: run in the foreground, log to stdout. Exit 4: one is running already."""
    os.umask(0o077)
    try:
        settings = Settings.load()
        environ = dict(os.environ)
        os.environ.pop(STATE_URL_VARIABLE, None)  # no process that we start is to find the password in there
        private(settings.home)
        procs.reap_inherited()
        held = procs.try_lock(settings.daemon_lock)
        if held is None:
            named = f" under the name {settings.daemon_name}" if settings.daemon_name else ""
            print(f"a daemon of {settings.home} is running already{named}", file=sys.stderr)
            return EXIT_ALREADY_RUNNING
        _trim_log(settings.daemon_log)
        os.write(held.fd, f"{os.getpid()}\n".encode())
        logging.Formatter.converter = time.gmtime
        logging.basicConfig(
            level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
        )
        asyncio.run(Daemon(settings, environ).run())
    except (MooringsError, OSError) as problem:
        failed = problem.failure if isinstance(problem, MooringsError) else _unusable(problem)
        lines = [f"({failed.code}) {failed.message}", *failed.evidence, failed.fix]
        print("\n".join(filter(None, lines)), file=sys.stderr)
        return EXIT_CANNOT_START
    return 0


if __name__ == "__main__":
    sys.exit(main())
