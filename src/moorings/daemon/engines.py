"""Which engine runs the instances, who makes their environments, and how much there is of the machine. The only place that
names an engine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from moorings.api.capacity import MachineCapacity
from moorings.assets.store import AssetStore
from moorings.autoscale.usage import InstanceUsage
from moorings.containers.host import DockerHost
from moorings.containers.workspace import home_digest
from moorings.controller.provision import ImageProvisioner, Provisioner
from moorings.engines.base import Engine
from moorings.engines.docker import DockerEngine, DockerEngineSettings
from moorings.engines.process import ProcessEngine, ProcessEngineSettings
from moorings.environments.image import ImageBuilder, ImageSettings
from moorings.environments.leases import Leases
from moorings.environments.venv import EnvironmentBuilder
from moorings.settings import DOCKER, Settings

LOG_FILES = 4
"""Files of one log: a quarter of it goes at a time."""


def engine_of(settings: Settings, docker: DockerHost, workspace_id: str) -> Engine:
    home, parent = settings.home, settings.instances.cgroup_parent
    root = settings.instances_root(settings.engine)
    kept = settings.logs
    logs: dict[str, Any] = {
        "logs_root": settings.deployment_logs,
        "log_file_bytes": kept.instance_bytes // LOG_FILES,
        "log_files": LOG_FILES,
        "log_bytes_per_s": kept.instance_bytes_per_s,
    }
    if settings.engine == DOCKER:
        return DockerEngine(
            DockerEngineSettings(
                root=root,
                run_dir=settings.run_dir,
                runtime_root=home / "runtime",
                store_root=home / "assets",
                **logs,
                initializer_argv=(sys.executable, "-m", "moorings.assets.initializer"),
                workspace_id=workspace_id,
                home_digest=home_digest(home),
                network=settings.docker.network,
            ),
            docker,
        )
    return ProcessEngine(
        ProcessEngineSettings(
            home=home,
            root=root,
            run_dir=settings.run_dir,
            store_root=home / "assets",
            **logs,
            initializer_argv=(sys.executable, "-m", "moorings.assets.initializer"),
            workspace_id=workspace_id,
            cgroup_parent=Path(parent) if parent else None,
        )
    )


def provisioner(
    settings: Settings, docker: DockerHost, leases: Leases, store: AssetStore
) -> Provisioner | ImageProvisioner:
    home = settings.home
    if settings.engine == DOCKER:
        images = ImageSettings(
            aliases=settings.image_aliases,
            repository=settings.registry.repository,
            build_network=settings.docker.build_network,
        )
        builder = ImageBuilder(
            home / "environments",
            docker,
            images,
            home=home,
            solver=settings.environments.conda_solver,
            leases=leases,
        )
        return ImageProvisioner(builder, store)
    return Provisioner(
        EnvironmentBuilder(
            home / "environments",
            uv=None,
            allow_python_download=settings.environments.allow_python_download,
            home=home,
            solver=settings.environments.conda_solver,
            leases=leases,
        ),
        store,
    )


def capacity_of(settings: Settings, docker: DockerHost) -> MachineCapacity:
    options = settings.capacity
    return MachineCapacity(
        vcpus=options.vcpus,
        memory_gib=options.memory_gib,
        gpus=options.gpus,
        cpu_overcommit=options.cpu_overcommit,
        memory_overcommit=options.memory_overcommit,
        engine_facts=docker.facts if settings.engine == DOCKER else None,
    )


def usages_of(settings: Settings, engine: Engine) -> InstanceUsage | None:
    """What instances use of the machine; None: what their processes are called is not known here."""
    return None if settings.engine == DOCKER else InstanceUsage(engine)
