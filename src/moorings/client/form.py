"""Make an endpoint with its deployments and traffic what one file says: in which order, and what stands when a
part fails. Reads no files and draws nothing.

New deployments come up first, then traffic goes where the file says, then what the file no longer lists is
deleted. A step that fails leaves the later ones undone and says so; the same request again goes on from there.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from moorings.client.client import Accepted, Client, is_missing
from moorings.client.deploy import create_or_update_deployment
from moorings.errors.exceptions import Failure, MooringsError, error
from moorings.errors.sentence import sentence
from moorings.spec.arm import deployment_from_arm, endpoint_from_arm, endpoint_to_arm
from moorings.spec.deployment import DeploymentSpec
from moorings.spec.endpoint import EndpointSpec
from moorings.spec.validate import endpoint_problems


class Terminal(Protocol):
    """What is told, and how operations are waited for."""

    def say(self, line: str) -> None: ...

    def warn(self, line: str) -> None: ...

    def follow(self, accepted: Accepted, title: str, *, watch: str) -> object:
        """Wait for one; raises what it failed with."""

    def follow_all(
        self, accepted: Mapping[str, Accepted], title: str, *, watch: str
    ) -> Mapping[str, MooringsError]:
        """Wait for all, each under its name; returns what failed."""


@dataclass(frozen=True)
class Present:
    """What there is of an endpoint now."""

    endpoint: EndpointSpec
    deployments: tuple[DeploymentSpec, ...]
    """In the order in which the workspace lists them, which is by name."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(each.name for each in self.deployments)


@dataclass(frozen=True)
class Wish:
    """What there shall be."""

    endpoint: EndpointSpec
    """With the traffic that holds in the end."""
    deployments: tuple[DeploymentSpec, ...]
    """To be created or replaced."""
    remove: tuple[str, ...] = ()
    """Deployments to delete when all else has been done."""
    command: str = ""
    """What to type to try again."""


def present(client: Client, name: str) -> Present:
    """The endpoint and its deployments; raises EndpointNotFound."""
    endpoint = endpoint_from_arm(name, client.endpoint(name), check=False)
    found = client.deployments(name)
    deployments = tuple(deployment_from_arm(name, str(body.get("name")), body, check=False) for body in found)
    return Present(endpoint, deployments)


def present_or_none(client: Client, name: str) -> Present | None:
    try:
        return present(client, name)
    except MooringsError as problem:
        if is_missing(problem):
            return None
        raise


def replaced(now: EndpointSpec, wanted: EndpointSpec) -> EndpointSpec:
    """`now` with every key that `wanted` was given, each as a whole; how it was made (`local`) stays unless said."""
    given = {key: getattr(wanted, key) for key in wanted.model_fields_set - {"schema_", "name"}}
    own = wanted.properties.moorings
    if "properties" in given and "local" not in own.model_fields_set:
        kept = own.model_copy(update={"local": now.properties.moorings.local})
        given["properties"] = wanted.properties.model_copy(update={"moorings": kept})
    return now.model_copy(update=given)


def check(now: Present | None, wish: Wish) -> None:
    """Raise TrafficInvalid when traffic could not be set in the end, so that nothing is begun: shares that do not
    add up, a deployment that is not there, or one that is to be deleted."""
    name, wanted = wish.endpoint.name, wish.endpoint
    fix = sentence("Correct the traffic, then: {command}", command=wish.command)
    wrong = [
        problem for problem in endpoint_problems(wanted) if problem.path[0] in ("traffic", "mirror_traffic")
    ]
    if wrong:
        raise error("TrafficInvalid", f"endpoint {name}: {wrong[0].message}", target="traffic", fix=fix)
    before = now.names if now is not None else ()
    there = {each.lower() for each in (*before, *(spec.name for spec in wish.deployments))}
    leaving = {each.lower() for each in wish.remove}
    for table in (wanted.traffic, wanted.mirror_traffic):
        for deployment, share in table.items():
            if deployment in leaving:
                message = (
                    f"endpoint {name} sends traffic to {deployment}={share}, which is to be deleted; "
                    "say in `traffic` where it goes instead"
                )
                raise error("TrafficInvalid", message, target="traffic", fix=fix)
            if deployment not in there:
                near = difflib.get_close_matches(deployment, sorted(there), n=1)
                hint = f"; did you mean {near[0]}?" if near else ""
                message = f"traffic names {deployment}: endpoint {name} has no such deployment{hint}"
                evidence = (f"deployments of {name}: {', '.join(sorted(there)) or 'none'}",)
                raise error("TrafficInvalid", message, target="traffic", evidence=evidence, fix=fix)


def apply(
    client: Client, now: Present | None, wish: Wish, terminal: Terminal, *, no_wait: bool = False
) -> None:
    """Bring it about. Raises the failure of a deployment (several: DeploymentsFailed), after all that does not
    depend on it has been done; with `no_wait`, once everything is accepted."""
    name = wish.endpoint.name
    _settings(client, now, wish.endpoint, terminal, no_wait=no_wait)
    accepted, failed = _ask(client, wish.deployments, terminal)
    if not no_wait:
        title = f"Waiting for {_list(accepted)}" if accepted else ""
        watch = f"moor endpoint show -n {name}"
        failed |= terminal.follow_all(accepted, title, watch=watch)
    try:
        left = _traffic(client, now, wish, failed, terminal, no_wait=no_wait)
    except MooringsError as problem:
        if not failed:
            raise
        left = f"traffic could not be set: {problem}"
    if failed:
        _raise(wish, failed, left)
    for gone in wish.remove:
        removal = client.delete_deployment(name, gone)
        if not no_wait:
            terminal.follow(removal, f"Deleting deployment {gone} of endpoint {name}", watch=_watch(name))


def _settings(
    client: Client, now: Present | None, wanted: EndpointSpec, terminal: Terminal, *, no_wait: bool
) -> None:
    """The endpoint without a change of its traffic, which must wait for the deployments."""
    traffic = {} if now is None else now.endpoint.traffic
    mirrored = {} if now is None else now.endpoint.mirror_traffic
    first = wanted.model_copy(update={"traffic": traffic, "mirror_traffic": mirrored})
    if now is not None and first == now.endpoint:
        return
    verb = "Creating" if now is None else "Updating"
    accepted = client.put_endpoint(wanted.name, endpoint_to_arm(first))
    if not no_wait:
        terminal.follow(accepted, f"{verb} endpoint {wanted.name}", watch=_watch(wanted.name))


def _ask(
    client: Client, specs: Sequence[DeploymentSpec], terminal: Terminal
) -> tuple[dict[str, Accepted], dict[str, MooringsError]]:
    """Ask for every deployment; what is refused of one keeps none of the others."""
    accepted: dict[str, Accepted] = {}
    failed: dict[str, MooringsError] = {}
    for spec in specs:
        terminal.say(f"Deployment {spec.name} of endpoint {spec.endpoint_name}")
        try:
            accepted[spec.name] = create_or_update_deployment(client, spec, _indented(terminal.say))
        except MooringsError as problem:
            failed[spec.name] = problem
    return accepted, failed


def _traffic(
    client: Client,
    now: Present | None,
    wish: Wish,
    failed: Mapping[str, MooringsError],
    terminal: Terminal,
    *,
    no_wait: bool,
) -> str:
    """Set the traffic that is wished for, if it goes to deployments that are ready; returns why it was not."""
    name, wanted = wish.endpoint.name, wish.endpoint
    before = ({}, {}) if now is None else (now.endpoint.traffic, now.endpoint.mirror_traffic)
    if before == (wanted.traffic, wanted.mirror_traffic):
        return ""
    table = " ".join(f"{key}={share}" for key, share in wanted.traffic.items())
    shares = {*wanted.traffic, *wanted.mirror_traffic}
    waiting = [each for each in failed if each.lower() in shares]
    if waiting:
        return f"traffic was left as it was, because it is to go to {_list(waiting)}"
    if no_wait and now is not None and before[0]:
        terminal.warn(
            f"the traffic of {name} is left as it is until what is new is ready; then: "
            f'moor endpoint update -n {name} --traffic "{table}"'
        )
        return ""
    accepted = client.put_endpoint(name, endpoint_to_arm(wanted))
    if not no_wait:
        terminal.follow(
            accepted, f"Setting the traffic of endpoint {name}: {table or 'none'}", watch=_watch(name)
        )
    return ""


def _raise(wish: Wish, failed: Mapping[str, MooringsError], left: str) -> None:
    name = wish.endpoint.name
    stands = [spec.name for spec in wish.deployments if spec.name not in failed]
    notes = [f"{_list(stands)} {'stands' if len(stands) == 1 else 'stand'}" if stands else "", left]
    if wish.remove:
        notes.append(f"not deleted: {_list(wish.remove)}")
    rest = "; ".join(note for note in notes if note)
    message = f"endpoint {name} is there, but {_list(failed)} failed" + (f"; {rest}" if rest else "")
    details: list[Failure] = []
    for deployment, problem in failed.items():
        details.append(replace(problem.failure, target=f"deployment {deployment}"))
    raise error(
        "DeploymentsFailed",
        message,
        target=f"endpoint {name}",
        details=details,
        fields={"command": wish.command},
    )


def _list(names: Sequence[str] | Mapping[str, object]) -> str:
    found = list(names)
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def _watch(name: str) -> str:
    return f"moor endpoint show -n {name}"


def _indented(say: Callable[[str], None]) -> Callable[[str], None]:
    return lambda line: say(f"  {line}")
