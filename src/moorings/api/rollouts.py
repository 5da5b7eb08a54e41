"""Rollouts as resources: started, listed, told to pause, go on or go back. What becomes of one is the controller's. No HTTP
here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moorings.api.errors import body_of
from moorings.errors.exceptions import Failure, MooringsError, error, failure
from moorings.errors.sentence import Sentence, sentence
from moorings.lib.timing import rfc3339
from moorings.observe.pairs import comparison_from, report_of
from moorings.spec.rollout import (
    ABORT,
    PAUSED,
    RUN,
    Phase,
    RolloutSpec,
    check_rollout,
    goes_on,
    is_rollout_name,
    rollout_from,
)
from moorings.state.database import Database
from moorings.state.transaction import DEPLOYMENT, ENDPOINT, ROLLOUT, Resource, Transaction

KEPT = 20
"""Rollouts of an endpoint that are kept, the newest; one that goes on is never dropped."""
LATEST = "latest"
"""In the place of a name: the newest of the endpoint."""
_WISHES = {"pause": PAUSED, "resume": RUN, "abort": ABORT}


@dataclass(frozen=True)
class Rollouts:
    database: Database
    hint: Callable[[str, str], None]

    def start(self, endpoint: str, name: str, body: Mapping[str, Any]) -> Resource:
        """Accept a rollout. Raises RolloutInvalid (all problems at once), RolloutConflict, EndpointNotFound."""
        spec, problems = check_rollout(endpoint, body)
        if name and not is_rollout_name(name):
            problems.append(("name", f"found {name[:60]!r}; expected letters, digits and hyphens"))
        with self.database.write() as tx:
            row = _endpoint(tx, endpoint)
            known = {d.name.partition("/")[2]: d for d in tx.resources(DEPLOYMENT, below=endpoint)}
            actual = {each.lower(): each for each in known}
            names = {key: str(body.get(key) or "").strip() for key in ("from", "to")}
            for key, given in names.items():
                if given and given.lower() not in actual:
                    problems.append((key, f"endpoint {endpoint} has no deployment {given}"))
            if problems or spec is None:
                raise _invalid(endpoint, problems, sorted(known))
            source, target = (known[actual[names[key].lower()]] for key in ("from", "to"))
            spec = _named(spec, row, source, target)
            _check_ready(row, spec, source, target)
            earlier = tx.resources(ROLLOUT, below=endpoint)
            going = next((each for each in earlier if not has_ended(each)), None)
            if going is not None:
                at = going.name.partition("/")[2]
                fix = sentence(
                    "Wait for it: moor rollout wait -e {endpoint}   (or end it: moor rollout abort -e {endpoint})",
                    endpoint=endpoint,
                )
                raise _conflict(endpoint, f"rollout {at} of endpoint {endpoint} goes on", fix)
            name = name or _free_name(earlier)
            key = f"{endpoint}/{name}"
            if any(each.name == key for each in earlier):
                fix = sentence("Give it another name (`--name`), or none.")
                raise _conflict(endpoint, f"endpoint {endpoint} had a rollout {name} before", fix)
            ended = sorted(earlier, key=lambda each: each.created_at)
            for old in ended[: max(0, len(ended) - KEPT + 1)]:
                tx.forget(old)
            made = tx.put(ROLLOUT, key, spec.to_json())
        self.hint(ROLLOUT, key)
        return made

    def rollouts(self, endpoint: str) -> list[Resource]:
        """The newest first."""
        with self.database.read() as tx:
            _endpoint(tx, endpoint)
            return _newest(tx, endpoint)

    def rollout(self, endpoint: str, name: str) -> Resource:
        """`latest` is the newest. Raises RolloutNotFound."""
        with self.database.read() as tx:
            _endpoint(tx, endpoint)
            return _find(tx, endpoint, name)

    def report(self, endpoint: str, name: str) -> dict[str, Any]:
        """What a rollout's copies of requests came to. Raises RolloutNotFound, also for one that did not begin with any."""
        row = self.rollout(endpoint, name)
        step = next((s for s in reversed(row.status.get("steps", ())) if s.get("mirror")), None)
        short = row.name.partition("/")[2]
        if step is None:
            text = f"rollout {short} of endpoint {endpoint} has made no copies of requests"
            fix = sentence(
                "Start one that does: moor rollout start -e {endpoint} --from {source} --to {target} --mirror-first 10%:5m",
                endpoint=endpoint,
                source=row.spec["from"],
                target=row.spec["to"],
            )
            raise error("RolloutNotFound", text, target=row.name, fix=fix)
        return {
            "rollout": short,
            "from": row.spec["from"],
            "to": row.spec["to"],
            "mirror": step["mirror"],
            "tolerance": row.spec["tolerance"],
            "since": rfc3339(step["setAt"]),
            "until": _when(step["endedAt"]),
            **report_of(comparison_from(step.get("comparison"))),
        }

    def wish(self, endpoint: str, name: str, verb: str) -> Resource:
        """`pause`, `resume` or `abort`. Raises RolloutNotFound, RolloutEnded."""
        with self.database.write() as tx:
            _endpoint(tx, endpoint)
            row = _find(tx, endpoint, name)
            if has_ended(row):
                text = (
                    f"rollout {row.name.partition('/')[2]} of endpoint {endpoint} has ended: {phase_of(row)}"
                )
                raise error("RolloutEnded", text, target=row.name, fields={"endpoint": endpoint})
            spec = rollout_from(row.spec)
            if verb != "pause" or spec.wish != PAUSED:
                row = tx.put(ROLLOUT, row.name, spec.wished(_WISHES[verb]).to_json())
        self.hint(ROLLOUT, row.name)
        return row


def phase_of(row: Resource) -> str:
    return str(row.status.get("phase") or Phase.PENDING)


def has_ended(row: Resource) -> bool:
    return not goes_on(row.status)


def rollout_json(row: Resource, workspace: str) -> dict[str, Any]:
    """The document of a rollout: what was asked for, where it stands, and what each step was decided on."""
    endpoint, _, name = row.name.partition("/")
    status = row.status
    failed = status.get("failed")
    steps = [
        {**step, **{key: _when(step.get(key)) for key in ("setAt", "since", "endedAt")}}
        for step in status.get("steps", ())
    ]
    asked = {key: value for key, value in row.spec.items() if key != "endpoint"}
    return {
        "id": f"{workspace}/onlineEndpoints/{endpoint}/rollouts/{name}",
        "name": name,
        "properties": {
            **asked,
            "endpoint": endpoint,
            "phase": phase_of(row),
            "ended": has_ended(row),
            "step": status.get("step", 0),
            "traffic": status.get("setTo"),
            "waitingFor": status.get("waitingFor", ""),
            "error": body_of(Failure.from_json(failed)) if failed else None,
            "baseline": status.get("baseline"),
            "history": steps,
            "startedAt": rfc3339(row.created_at),
            "endedAt": _when(status.get("endedAt")),
        },
    }


def _when(at: float | None) -> str | None:
    return None if at is None else rfc3339(at)


def _newest(tx: Transaction, endpoint: str) -> list[Resource]:
    return sorted(tx.resources(ROLLOUT, below=endpoint), key=lambda each: -each.created_at)


def _find(tx: Transaction, endpoint: str, name: str) -> Resource:
    found = _newest(tx, endpoint)
    for each in found:
        if name in (LATEST, each.name.partition("/")[2]):
            return each
    text = f"endpoint {endpoint} has no rollout" + ("" if name == LATEST else f" {name}")
    raise error("RolloutNotFound", text, target=endpoint, fields={"endpoint": endpoint})


def _free_name(earlier: Sequence[Resource]) -> str:
    numbers = [
        int(n[1:]) for n in (e.name.partition("/")[2] for e in earlier) if n[:1] == "r" and n[1:].isdigit()
    ]
    return f"r{max(numbers, default=0) + 1}"


def _named(spec: RolloutSpec, endpoint: Resource, source: Resource, target: Resource) -> RolloutSpec:
    """With the deployments' own spelling, and where it begins."""
    name, other = (row.name.partition("/")[2] for row in (source, target))
    begins_at = int((endpoint.spec.get("traffic") or {}).get(name.lower(), 0))
    return replace(spec, source=name, target=other, begins_at=begins_at)


def _check_ready(endpoint: Resource, spec: RolloutSpec, source: Resource, target: Resource) -> None:
    """Raises RolloutConflict naming everything that is in the way."""
    traffic = endpoint.spec.get("traffic") or {}
    mirror = endpoint.spec.get("mirror_traffic") or {}
    mine, theirs = (int(traffic.get(name.lower(), 0)) for name in (spec.source, spec.target))
    found: list[tuple[str, str]] = []
    if mine < 2:
        fix = f'moor online-endpoint update -n {spec.endpoint} --traffic "{spec.source}=100"'
        found.append((f"{spec.source} takes {mine} % of the traffic: there is nothing to shift from it", fix))
    elif theirs:
        fix = f'moor online-endpoint update -n {spec.endpoint} --traffic "{spec.source}={mine + theirs}"'
        found.append((f"{spec.target} takes {theirs} % of the traffic already", fix))
    if mirror:
        fix = f'moor online-endpoint update -n {spec.endpoint} --mirror-traffic "{next(iter(mirror))}=0"'
        found.append(("the endpoint mirrors traffic, and a rollout does so by itself (--mirror-first)", fix))
    for row in (source, target):
        name = row.name.partition("/")[2]
        if row.deleting or not row.status.get("served"):
            fix = f"moor online-deployment show -e {spec.endpoint} -n {name}"
            found.append((f"{name} does not serve yet", fix))
    if found:
        details = [_failure(spec.endpoint, text, _first(fix)) for text, fix in found]
        raise MooringsError(
            failure(
                "RolloutConflict",
                "; ".join(d.message for d in details),
                target=spec.endpoint,
                details=details if len(details) > 1 else (),
                fields={"remedy": _first(found[0][1]), "endpoint": spec.endpoint},
            )
        )


def _first(command: str) -> Sentence:
    return sentence("First: {command}", command=command)


def _failure(endpoint: str, text: str, remedy: Sentence) -> Failure:
    return failure("RolloutConflict", text, target=endpoint, fields={"remedy": remedy, "endpoint": endpoint})


def _conflict(endpoint: str, text: str, remedy: Sentence) -> MooringsError:
    return MooringsError(_failure(endpoint, text, remedy))


def _invalid(endpoint: str, problems: Sequence[tuple[str, str]], known: Sequence[str]) -> MooringsError:
    fields = {"endpoint": endpoint}
    details = [failure("RolloutInvalid", f"{k}: {wrong}", target=k, fields=fields) for k, wrong in problems]
    evidence = (f"deployments of {endpoint}: {', '.join(known) or 'none'}",)
    return MooringsError(
        failure(
            "RolloutInvalid",
            "; ".join(d.message for d in details),
            target=details[0].target,
            evidence=evidence,
            details=details if len(details) > 1 else (),
            fields=fields,
        )
    )


def _endpoint(tx: Transaction, name: str) -> Resource:
    row = tx.resource(ENDPOINT, name)
    if row is None or row.deleting:
        raise error(
            "EndpointNotFound", f"endpoint {name} does not exist", target=name, fields={"endpoint": name}
        )
    return row
