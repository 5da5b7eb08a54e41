"""Quota over HTTP, in the shape of the ecosystem: usages, quotas, updateQuotas and vmSizes of a location, and whether a
deployment would fit. What they mean is in `quota.py`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter

from moorings.api.bodies import Json, JsonBody
from moorings.api.errors import body_of
from moorings.api.quota import MAX_LIMIT, Quotas, Usage
from moorings.errors.exceptions import Failure, MooringsError, error, failure
from moorings.spec import quota
from moorings.spec.deployment import MAX_INSTANCES
from moorings.spec.instance_types import GIB, INSTANCE_TYPES, InstanceType
from moorings.spec.own_settings import MAX_SURGE, MAX_UNAVAILABLE, problem_of
from moorings.spec.quota import MEMORY, REGION, Fit, Holding, Line

LOCATION_PREFIX = (
    "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"
)
_TYPE = "Microsoft.MachineLearningServices/workspaces"
MIB = 1 << 20


def location_router(quotas: Quotas, workspace_path: str) -> APIRouter:
    """Below `LOCATION_PREFIX`: what clients ask of a region."""
    router = APIRouter()

    @router.get("/usages")
    def usages(location: str) -> Json:
        _known(location)
        return {"value": [usage_json(one, workspace_path) for one in quotas.usages()]}

    @router.get("/quotas")
    def limits(location: str) -> Json:
        _known(location)
        found = quotas.limits()
        return {"value": [_limit_json(n, found[n], workspace_path) for n in quota.LIMITABLE if n in found]}

    @router.post("/updateQuotas")
    def update(location: str, body: JsonBody) -> Json:
        """All entries are set, or none: the answer to a wrong one is an error that names each."""
        _known(location)
        wanted = _wanted(body)
        quotas.set_limits(wanted)
        done = [{**_limit_json(n, limit, workspace_path), "status": "Success"} for n, limit in wanted.items()]
        return {"value": done}

    @router.get("/vmSizes")
    def sizes(location: str) -> Json:
        _known(location)
        return {"value": [size_json(size) for size in INSTANCE_TYPES]}

    return router


def workspace_router(quotas: Quotas) -> APIRouter:
    """Below the path of the workspace."""
    router = APIRouter()

    @router.post("/onlineEndpoints/{endpoint}/deployments/{deployment}/checkQuota")
    def check(endpoint: str, deployment: str, body: JsonBody | None = None) -> Json:
        given = body or {}
        beside = {f"{endpoint}/{name}": spec for name, spec in _beside(given).items()}
        found, refused = quotas.would_fit(f"{endpoint}/{deployment}", _asked(given), beside)
        return fit_json(found, refused)

    return router


def usage_json(usage: Usage, workspace_path: str) -> Json:
    return {
        **_named(usage.name, workspace_path, "usages"),
        "unit": "Bytes" if usage.name == MEMORY else "Count",
        "currentValue": usage.used,
        "limit": usage.limit,
        "moorings": {
            "free": max(0, usage.limit - usage.used),
            "quota": usage.quota,
            "holders": [
                {"deployment": one.deployment, "amount": much, "instances": holding_json(one)["parts"]}
                for one, much in usage.holders
            ],
        },
    }


def holding_json(holding: Holding) -> Json:
    parts = [
        {"instanceType": p.size.name, "family": p.size.family, "wanted": p.wanted, "counted": p.counted}
        for p in holding.parts
    ]
    return {"amounts": holding.amounts, "parts": parts, "said": holding.said()}


def fit_json(fit: Fit, refused: Failure | None) -> Json:
    """Whether it fits, what it needs, every limit with what is free and who holds it, and the refusal."""
    return {
        "fits": fit.fits,
        "deployment": fit.needs.deployment,
        "needs": holding_json(fit.needs),
        "limits": [_line_json(line, short=line in fit.short) for line in fit.lines],
        "error": body_of(refused) if refused else None,
    }


def size_json(size: InstanceType) -> Json:
    """As `vmSizes` of the ecosystem has it, without prices."""
    return {
        "name": size.name,
        "family": size.family,
        "vCPUs": size.vcpus,
        "gpus": size.gpus,
        "memoryGB": size.memory_bytes / GIB,
        "maxResourceVolumeMB": None if size.disk_bytes is None else size.disk_bytes // MIB,
        "osVhdSizeMB": None,
        "lowPriorityCapable": False,
        "premiumIO": False,
        "supportedComputeTypes": ["OnlineEndpoint"],
        "moorings": {"reservedForOne": quota.reserved(size, 1, rolling=False), "exempt": size.exempt},
    }


def _line_json(line: Line, *, short: bool) -> Json:
    return {
        "name": line.name,
        "source": "quota" if line.is_quota else "machine",
        "limit": line.limit,
        "used": line.used,
        "free": line.free,
        "needed": line.needed,
        "short": short,
        "holders": [{"deployment": who, "amount": much} for who, much in line.holders],
    }


def _named(name: str, workspace_path: str, kind: str) -> Json:
    return {
        "id": f"{workspace_path}/{kind}/{name}",
        "type": f"{_TYPE}/{kind}",
        "amlWorkspaceLocation": REGION,
        "name": {"value": name, "localizedValue": quota.localized(name)},
    }


def _limit_json(name: str, limit: int | None, workspace_path: str) -> Json:
    return {**_named(name, workspace_path, "quotas"), "limit": limit, "unit": "Count"}


def _known(location: str) -> None:
    if location.lower() != REGION:
        message = f"no region {location}: this workspace is in {REGION}"
        raise error("ResourceNotFound", message, target=location)


def _wanted(body: Mapping[str, Any]) -> dict[str, int | None]:
    """`{"value": [{"id": ".../quotas/<name>", "limit": 24}]}`; a limit of null takes the quota away."""
    entries = body.get("value")
    if not isinstance(entries, list) or not entries:
        raise error("RequestInvalid", "value: expected a list of quotas", target="value")
    found: dict[str, int | None] = {}
    problems = []
    for number, entry in enumerate(entries):
        where = f"value[{number}]"
        id_ = entry.get("id") if isinstance(entry, Mapping) else None
        if not isinstance(id_, str) or not id_.strip("/"):
            problems.append(failure("RequestInvalid", f"{where}.id: expected an id", target=f"{where}.id"))
            continue
        limit = entry.get("limit")
        if limit is not None and (isinstance(limit, bool) or not isinstance(limit, int)):
            message = f"{where}.limit: expected a whole number from 0 to {MAX_LIMIT}, or null"
            problems.append(failure("RequestInvalid", message, target=f"{where}.limit"))
            continue
        name = id_.rstrip("/").rpartition("/")[2]
        if name in found:
            problems.append(failure("RequestInvalid", f"{where}: {name} is named twice", target=where))
        found[name] = limit
    if problems:
        first = problems[0]
        raise MooringsError(failure("RequestInvalid", first.message, target=first.target, details=problems))
    return found


def _beside(body: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """`"beside": [{"deployment": "blue", "instanceType": ..., "instanceCount": 2}]`: others of the endpoint that are to be
    made before it."""
    entries = body.get("beside") or []
    if not isinstance(entries, list) or not all(
        isinstance(each, Mapping) and isinstance(each.get("deployment"), str) for each in entries
    ):
        message = "beside: expected a list, each item with the name of a deployment"
        raise error("RequestInvalid", message, target="beside")
    return {each["deployment"]: _asked(each) or {"instance_count": 1} for each in entries}


def _asked(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """`instanceType`, `instanceCount`, `maxInstances`, `maxSurge`, `maxUnavailable` in the keys of a spec;
    None when none of them is given."""
    problems = []
    kind = body.get("instanceType")
    if kind is not None and not isinstance(kind, str):
        problems.append(failure("RequestInvalid", "instanceType: expected text", target="instanceType"))
    counts: dict[str, int] = {}
    for key in ("instanceCount", "maxInstances"):
        value = body.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_INSTANCES:
            message = f"{key}: expected a whole number from 1 to {MAX_INSTANCES}"
            problems.append(failure("RequestInvalid", message, target=key))
        else:
            counts[key] = value
    pace: dict[str, str] = {}
    for key, name in (("maxSurge", MAX_SURGE), ("maxUnavailable", MAX_UNAVAILABLE)):
        value = body.get(key)
        if value is None:
            continue
        wrong = problem_of(name, value) if isinstance(value, str) else "expected text"
        if wrong:
            problems.append(failure("RequestInvalid", f"{key}: {wrong}", target=key))
        else:
            pace[name] = str(value)
    if problems:
        first = problems[0]
        raise MooringsError(failure("RequestInvalid", first.message, target=first.target, details=problems))
    if kind is None and not counts and not pace:
        return None
    asked: dict[str, Any] = {"instance_count": counts.get("instanceCount", 1)}
    if kind is not None:
        asked["instance_type"] = kind
    asked["scale_settings"] = {"max_instances": counts.get("maxInstances", 1)}
    asked["properties"] = pace
    return asked
