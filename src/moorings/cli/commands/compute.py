"""`moor compute ...`: the instance types there are, and what is used of the workspace, as the ecosystem's tools list them."""

from __future__ import annotations

import click

from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.client import quota as remote
from moorings.spec.quota import MEMORY, figure

SIZES: Columns = (
    ("Name", lambda s: s["name"]),
    ("Family", lambda s: s["family"]),
    ("vCPUs", lambda s: s["v_cp_us"]),
    ("Memory", lambda s: f"{s['memory_gb']:g} GiB"),
    (
        "Disk",
        lambda s: "" if s["max_resource_volume_mb"] is None else f"{s['max_resource_volume_mb'] // 1024} GiB",
    ),
    ("GPUs", lambda s: s["gpus"] or ""),
    ("One counts as", lambda s: s["reserved_for_one"]),
)
USAGES: Columns = (
    ("Name", lambda u: u["name"]["localized_value"]),
    ("Used", lambda u: figure(u["name"]["value"], u["current_value"])),
    ("Limit", lambda u: figure(u["name"]["value"], u["limit"])),
    ("Unit", lambda u: "" if u["name"]["value"] == MEMORY else u["unit"]),
)


def _location() -> click.Option:
    return click.Option(["--location", "-l"], metavar="REGION", help="The region; there is one, local.")


@leaf(
    "list-sizes",
    "List the instance types a deployment can name. `instance_type` is the ceiling of each of its instances.",
    _location(),
    click.Option(["--type", "-t", "type_"], hidden=True),
)
def list_sizes(session: Session, location: str | None, type_: str | None) -> None:
    found = remote.sizes(session.client, region=location)
    session.emit(
        [
            {
                "name": one["name"],
                "family": one["family"],
                "v_cp_us": one["vCPUs"],
                "memory_gb": one["memoryGB"],
                "max_resource_volume_mb": one["maxResourceVolumeMB"],
                "gpus": one["gpus"],
                "reserved_for_one": one["moorings"]["reservedForOne"],
            }
            for one in found
        ],
        SIZES,
    )


@leaf(
    "list-usage",
    "List what is used of each limit of the workspace. Who uses it: moor quota list.",
    _location(),
)
def list_usage(session: Session, location: str | None) -> None:
    found = remote.usages(session.client, region=location)
    session.emit(
        [
            {
                "id": one["id"],
                "name": {
                    "value": one["name"]["value"],
                    "localized_value": one["name"]["localizedValue"],
                },
                "current_value": one["currentValue"],
                "limit": one["limit"],
                "unit": one["unit"],
                "aml_workspace_location": one["amlWorkspaceLocation"],
            }
            for one in found
        ],
        USAGES,
    )
