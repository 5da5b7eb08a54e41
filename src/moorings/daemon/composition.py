"""Puts controller and API together from the parts and an engine. It must not start any of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp

from moorings.api.app import Api, create_app
from moorings.api.assets import Assets
from moorings.api.audited import Audited
from moorings.api.blob_routes import BlobApp
from moorings.api.environments import EnvironmentBuilds
from moorings.api.guard import Guard
from moorings.api.identities import Identities
from moorings.api.logs import DeploymentLogs
from moorings.api.quota import Quotas
from moorings.api.resources import Resources
from moorings.api.rollouts import Rollouts
from moorings.api.secrets import Secrets
from moorings.api.standby import Standby
from moorings.assets.origins import Origins
from moorings.controller.copies import Copies
from moorings.controller.deployment import DeploymentReconciler, Tools
from moorings.controller.endpoint import EndpointReconciler
from moorings.controller.health import Prober
from moorings.controller.loops import Loops
from moorings.controller.marks import Marks
from moorings.controller.rollout import RolloutReconciler
from moorings.controller.trials import Trials
from moorings.controller.upkeep import LogKeeper
from moorings.controller.verdict import Diagnoses, Verdicts
from moorings.daemon.engines import capacity_of
from moorings.daemon.parts import Parts
from moorings.engines.base import Engine
from moorings.gateway.admin import Admin, AdminError
from moorings.observe.stream import LogStream
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, ROLLOUT


@dataclass(frozen=True)
class Controller:
    """What looks after all that is desired."""

    deployments: DeploymentReconciler
    rollouts: RolloutReconciler
    loops: Loops
    diagnoses: Diagnoses


def controller_of(parts: Parts, engine: Engine) -> Controller:
    options, acting = parts.settings.controller, parts.database.acting()
    marks = Marks(acting, parts.clock)
    prober = Prober(parts.clock)
    verdicts = Verdicts(engine, prober, parts.settings.home)
    diagnoses = Diagnoses(parts.database, parts.clock, verdicts)
    deployments = DeploymentReconciler(
        Tools(
            database=acting,
            marks=marks,
            clock=parts.clock,
            engine=engine,
            environments=parts.environments,
            store=parts.store,
            access=parts.access,
            publisher=parts.publisher,
            prober=prober,
            verdicts=verdicts,
            trials=Trials(engine, parts.clock),
            journal=parts.journal,
            resync_s=options.resync_s,
            busy_s=options.busy_s,
            progress_deadline_s=options.progress_deadline_s,
        )
    )
    endpoints = EndpointReconciler(
        acting, marks, parts.clock, parts.publisher, options.resync_s, options.busy_s
    )

    async def answered(cluster: str) -> Mapping[int, int]:
        try:
            return await Admin(parts.gateway.settings.admin_socket).answered(cluster)
        except AdminError as problem:
            raise OSError(str(problem)) from problem

    rollouts = RolloutReconciler(
        acting,
        parts.clock,
        parts.gateway.settings.access_log,
        lambda kind, name: loops.wake(kind, name),
        answered,
        Copies(parts.publisher.routed),
    )
    loops = Loops(
        acting,
        marks,
        parts.publisher,
        {
            DEPLOYMENT: deployments.reconcile,
            ENDPOINT: endpoints.reconcile,
            ROLLOUT: rollouts.reconcile,
        },
    )
    return Controller(deployments, rollouts, loops, diagnoses)


def log_keeper_of(parts: Parts, loops: Loops, engine: Engine) -> LogKeeper:
    kept = parts.settings.logs
    return LogKeeper(
        engine,
        parts.journal,
        loops.deployments,
        parts.clock,
        kept_days=kept.kept_days,
        kept_bytes=kept.kept_bytes,
    )


def app_of(parts: Parts, controller: Controller, engine: Engine, workspace_id: str) -> ASGIApp:
    workspace = parts.settings.workspace
    resources = Resources(
        parts.database,
        parts.vault,
        parts.tokens,
        workspace.path,
        parts.places,
        controller.loops.hinter(),
        Quotas(parts.database, capacity_of(parts.settings, parts.docker)),
    )
    rollouts = Rollouts(parts.database, controller.loops.hinter())
    api = Api(
        resources=resources,
        assets=Assets(
            parts.database,
            parts.store,
            origins=Origins(parts.settings.datastores_file),
            uploaded=parts.blobs.tree,
        ),
        blobs=parts.blobs,
        logs=DeploymentLogs(
            resources,
            LogStream(
                engine,
                parts.journal,
                parts.gateway.settings.access_log,
                (resources.secret_values,),
                parts.clock.now,
            ),
        ),
        build_logs=parts.environments,
        environment_builds=EnvironmentBuilds(
            database=parts.database,
            inventory=parts.environments.builder.inventory(),
            engine=engine,
            key_of=parts.environments.key_of,
        ),
        callers=parts.callers,
        audit=parts.audit,
        identities=Identities(parts.database, parts.places),
        secrets=Secrets(parts.database, parts.vault, parts.places),
        workspace_path=workspace.path,
        workspace_name=workspace.name,
        workspace_id=workspace_id,
        gateway_url=parts.settings.gateway_url,
        rate_limit_per_s=parts.settings.gateway.rate_limit_per_s,
        local_requires_key=parts.settings.gateway.local_requires_key,
        facts=parts.facts,
        diagnoses=controller.diagnoses,
        rollouts=rollouts,
        listener=parts.listener,
    )
    app = create_app(api)
    keys, clock = parts.listener.keys, parts.clock
    door = Guard(app, BlobApp(parts.blobs, keys, clock), keys, clock, workspace.path, parts.callers)
    parts.listener.serve(Audited(door, parts.audit, clock, "tls"))
    audited: ASGIApp = Audited(app, parts.audit, clock, "socket")
    election = parts.election
    if election is None:
        return audited
    return Standby(audited, lambda: election.leads, lambda: election.leader)
