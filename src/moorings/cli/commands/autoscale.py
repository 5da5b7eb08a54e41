"""`moor autoscale ...`: settings, rules and profiles, with the flags of the ecosystem's `monitor autoscale`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from moorings.cli.commands import flags
from moorings.cli.framework import DefaultedOption, SeveralOption, leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.client import autoscale as remote
from moorings.errors.exceptions import error
from moorings.spec.autoscale import AutoscaleSetting, Profile, Rule, setting_to_arm
from moorings.spec.autoscale_text import parse_profiles, parse_rule, returns_to
from moorings.spec.deployment import MAX_INSTANCES

DEFAULT = "default"
_DEPLOYMENT = re.compile(r".*/onlineEndpoints/([^/]+)/deployments/([^/]+)/?", re.IGNORECASE)

SETTINGS: Columns = (
    ("Name", lambda s: s["name"]),
    ("Enabled", lambda s: "yes" if s["enabled"] else "no"),
    ("Deployment", lambda s: "/".join(_parts(s["target_resource_uri"]))),
    ("Profiles", lambda s: len(s["profiles"])),
    ("Instances", lambda s: _bounds(s["profiles"][0])),
)
PROFILES: Columns = (
    ("Name", lambda p: p["name"]),
    ("Instances", lambda p: _bounds(p)),
    ("Rules", lambda p: len(p["rules"])),
    ("When", lambda p: p["when"]),
)
RULES: Columns = (
    ("Index", lambda r: r["index"]),
    ("Condition", lambda r: r["condition"]),
    ("Scale", lambda r: r["scale"]),
    ("Cooldown", lambda r: f"{r['cooldown_minutes']:g} min"),
)


def _count(name: str, help_text: str, *, required: bool = False) -> click.Option:
    return click.Option([name], type=click.IntRange(1, MAX_INSTANCES), required=required, help=help_text)


def _name(help_text: str = "Name of the setting.", *, required: bool = True) -> click.Option:
    return click.Option(["--name", "-n", "name"], metavar="NAME", required=required, help=help_text)


def _autoscale_name() -> click.Option:
    return click.Option(
        ["--autoscale-name", "autoscale_name"], metavar="NAME", required=True, help="Name of the setting."
    )


def _profile_name(name: str = "--profile-name") -> click.Option:
    return click.Option([name, "profile_name"], default=DEFAULT, show_default=True, help="Which profile.")


# --- settings -----------------------------------------------------------------------------------------------
@leaf(
    "create",
    "Have rules and schedules scale a deployment. Quota is held for its --max-count at once.",
    _name("Name of the setting; that of the deployment otherwise.", required=False),
    click.Option(["--resource"], metavar="ID", help="Id of the deployment, or ENDPOINT/DEPLOYMENT."),
    DefaultedOption(
        ["--endpoint-name", "-e", "endpoint_name"],
        metavar="NAME",
        help="Name of the endpoint, in place of --resource.",
        default_key="endpoint",
    ),
    click.Option(
        ["--deployment-name", "-d", "deployment_name"], metavar="NAME", help="Name of the deployment."
    ),
    _count("--count", "Instances while nothing can be measured.", required=True),
    _count("--min-count", "Fewest instances; --count otherwise."),
    _count("--max-count", "Most instances; --count otherwise."),
    click.Option(["--disabled"], is_flag=True, help="Keep the setting, and do nothing yet."),
    *(
        click.Option([name], hidden=True)
        for name in ("--resource-type", "--resource-namespace", "--resource-parent")
    ),
    click.Option(["--action", "-a"], multiple=True, hidden=True),
)
def create(
    session: Session,
    name: str | None,
    resource: str | None,
    endpoint_name: str | None,
    deployment_name: str | None,
    count: int,
    min_count: int | None,
    max_count: int | None,
    disabled: bool,
    **unused: Any,
) -> None:
    endpoint, deployment = _target(session, resource, endpoint_name, deployment_name)
    target = f"{session.client.workspace_path}/onlineEndpoints/{endpoint}/deployments/{deployment}"
    least, most = min_count or count, max_count or count
    setting = AutoscaleSetting(
        name or deployment, target, (Profile(DEFAULT, least, most, count),), enabled=not disabled
    )
    session.emit(view(remote.put(session.client, setting)))
    session.say(
        f'Next: moor autoscale rule create --autoscale-name {setting.name} --condition "..." --scale out 1'
    )


@leaf("show", "Show an autoscale setting.", _name())
def show(session: Session, name: str) -> None:
    session.emit(view(remote.document(session.client, name)), SETTINGS)


@leaf("list", "List the autoscale settings.")
def list_(session: Session) -> None:
    session.emit([view(one) for one in remote.documents(session.client)], SETTINGS)


@leaf(
    "update",
    "Change bounds of the default profile, or switch the setting on and off. Off, the deployment stays as it is.",
    click.Option(
        ["--name", "--autoscale-name", "-n", "name"], metavar="NAME", required=True, help="Its name."
    ),
    _count("--count", "Instances while nothing can be measured."),
    _count("--min-count", "Fewest instances."),
    _count("--max-count", "Most instances."),
    click.Option(["--enabled"], type=click.BOOL, help="Whether it does anything."),
)
def update(
    session: Session,
    name: str,
    count: int | None,
    min_count: int | None,
    max_count: int | None,
    enabled: bool | None,
) -> None:
    if count is min_count is max_count is enabled is None:
        fields = {"command": f"moor autoscale update -n {name} --max-count 5"}
        raise error(
            "NothingToUpdate", "none of --count, --min-count, --max-count, --enabled was given", fields=fields
        )
    found = remote.setting(session.client, name)
    profile = _profile(found, DEFAULT)
    changed = replace(
        profile,
        least=profile.least if min_count is None else min_count,
        most=profile.most if max_count is None else max_count,
        default=profile.default if count is None else count,
    )
    found = replace(_with(found, changed), enabled=found.enabled if enabled is None else enabled)
    session.emit(view(remote.put(session.client, found)), SETTINGS)


@leaf(
    "delete", "Delete an autoscale setting. The deployment keeps the instances it has.", _name(), flags.yes()
)
def delete(session: Session, name: str, yes: bool) -> None:
    if not remote.delete(session.client, name):
        session.say(f"There is no autoscale setting {name}.")
        return
    session.say(f"Autoscale setting {name} is deleted.")


# --- rules --------------------------------------------------------------------------------------------------
@leaf(
    "create",
    "Add a rule. Instances are added if one rule says so, and taken away only if all rules that would do so agree.",
    _autoscale_name(),
    _profile_name(),
    click.Option(
        ["--condition"], required=True, metavar="TEXT", help='Such as "CpuUtilizationPercentage > 70 avg 5m".'
    ),
    SeveralOption(
        ["--scale"], required=True, metavar="{out|in|to} N[%]", help="What then: out 2, in 50%, to 3."
    ),
    click.Option(
        ["--cooldown"],
        type=click.IntRange(0),
        default=5,
        show_default=True,
        help="Minutes that it waits after any change.",
    ),
    click.Option(
        ["--resource"], metavar="ID", help="The endpoint, where the metric is that of all its deployments."
    ),
    SeveralOption(["--timegrain"], hidden=True),
)
def rule_create(
    session: Session,
    autoscale_name: str,
    profile_name: str,
    condition: str,
    scale: tuple[str, ...],
    cooldown: int,
    resource: str | None,
    timegrain: tuple[str, ...],
) -> None:
    rule = parse_rule(autoscale_name, condition, scale, cooldown, resource)
    found = remote.setting(session.client, autoscale_name)
    profile = _profile(found, profile_name)
    remote.put(session.client, _with(found, replace(profile, rules=(*profile.rules, rule))))
    session.emit(_rule_view(len(profile.rules), rule), RULES)


@leaf("list", "List the rules of a profile.", _autoscale_name(), _profile_name())
def rule_list(session: Session, autoscale_name: str, profile_name: str) -> None:
    profile = _profile(remote.setting(session.client, autoscale_name), profile_name)
    session.emit([_rule_view(number, rule) for number, rule in enumerate(profile.rules)], RULES)


def _index() -> click.Option:
    return SeveralOption(
        ["--index"], required=True, metavar="N ...", help="Numbers of rules, as the list has them; or *."
    )


@leaf("delete", "Take rules away.", _autoscale_name(), _profile_name(), _index())
def rule_delete(session: Session, autoscale_name: str, profile_name: str, index: tuple[str, ...]) -> None:
    found = remote.setting(session.client, autoscale_name)
    profile = _profile(found, profile_name)
    chosen = _chosen(profile, index)
    rules = tuple(rule for number, rule in enumerate(profile.rules) if number not in chosen)
    remote.put(session.client, _with(found, replace(profile, rules=rules)))
    session.say(f"{len(chosen)} rule{'' if len(chosen) == 1 else 's'} taken away.")


@leaf(
    "copy",
    "Copy rules from one profile to another.",
    _autoscale_name(),
    click.Option(["--source-schedule"], default=DEFAULT, show_default=True, help="The profile they are of."),
    click.Option(["--dest-schedule"], required=True, metavar="NAME", help="The profile that gets them."),
    _index(),
)
def rule_copy(
    session: Session, autoscale_name: str, source_schedule: str, dest_schedule: str, index: tuple[str, ...]
) -> None:
    found = remote.setting(session.client, autoscale_name)
    source, goal = _profile(found, source_schedule), _profile(found, dest_schedule)
    rules = tuple(source.rules[number] for number in sorted(_chosen(source, index)))
    remote.put(session.client, _with(found, replace(goal, rules=(*goal.rules, *rules))))
    session.say(f"{len(rules)} rule{'' if len(rules) == 1 else 's'} copied.")


# --- profiles -----------------------------------------------------------------------------------------------
@leaf(
    "create",
    "Add a profile: other bounds and rules on certain days, or between two dates.",
    _autoscale_name(),
    _name("Name of the profile."),
    _count("--count", "Instances while nothing can be measured.", required=True),
    _count("--min-count", "Fewest instances; --count otherwise."),
    _count("--max-count", "Most instances; --count otherwise."),
    SeveralOption(["--recurrence", "-r"], metavar="week DAY ...", help="Such as week sat sun."),
    click.Option(["--start"], metavar="WHEN", help="Time of day (06:30), or a date (2026-12-24)."),
    click.Option(["--end"], metavar="WHEN", help="The same, for its end."),
    click.Option(["--timezone"], default="UTC", show_default=True, help="Such as Europe/Berlin."),
    click.Option(["--copy-rules"], metavar="PROFILE", help="Give it the rules of this profile."),
)
def profile_create(
    session: Session,
    autoscale_name: str,
    name: str,
    count: int,
    min_count: int | None,
    max_count: int | None,
    recurrence: tuple[str, ...],
    start: str | None,
    end: str | None,
    timezone: str,
    copy_rules: str | None,
) -> None:
    found = remote.setting(session.client, autoscale_name)
    rules = _profile(found, copy_rules).rules if copy_rules else ()
    base = Profile(name, min_count or count, max_count or count, count, rules)
    always = next(p for p in found.profiles if p.recurrence is None and p.fixed_date is None)
    made = parse_profiles(autoscale_name, base, recurrence, start, end, timezone, always)
    found = replace(found, profiles=(*found.profiles, *made))
    remote.put(session.client, found)
    session.emit(next(p for p in view(setting_to_arm(found))["profiles"] if p["name"] == name), PROFILES)


@leaf("list", "List the profiles of a setting.", _autoscale_name())
def profile_list(session: Session, autoscale_name: str) -> None:
    session.emit(view(remote.document(session.client, autoscale_name))["profiles"], PROFILES)


@leaf("show", "Show a profile.", _autoscale_name(), _name("Name of the profile."))
def profile_show(session: Session, autoscale_name: str, name: str) -> None:
    found = remote.setting(session.client, autoscale_name)
    _profile(found, name)
    shown = view(setting_to_arm(found))["profiles"]
    session.emit(next(p for p in shown if p["name"] == name), PROFILES)


@leaf("delete", "Delete a profile with its rules.", _autoscale_name(), _name("Name of the profile."))
def profile_delete(session: Session, autoscale_name: str, name: str) -> None:
    found = remote.setting(session.client, autoscale_name)
    _profile(found, name)
    ending = f'"for":"{name}"'
    kept = tuple(p for p in found.profiles if p.name != name and ending not in p.name)
    remote.put(session.client, replace(found, profiles=kept))
    session.say(f"Profile {name} is deleted.")


@leaf(
    "list-timezones",
    "List the time zones that a profile can name.",
    click.Option(["--query-examples"], hidden=True),
)
def profile_list_timezones(session: Session, query_examples: str | None) -> None:
    from zoneinfo import available_timezones

    session.emit([{"name": name} for name in sorted(available_timezones())])


# --- views --------------------------------------------------------------------------------------------------
def view(body: dict[str, Any]) -> dict[str, Any]:
    """The document as the command line shows it."""
    properties = body.get("properties") or {}
    return {
        "id": body.get("id"),
        "name": body["name"],
        "location": body.get("location"),
        "tags": body.get("tags") or {},
        "enabled": properties.get("enabled"),
        "target_resource_uri": properties.get("targetResourceUri"),
        "profiles": [_profile_view(profile) for profile in properties.get("profiles") or ()],
    }


def _profile_view(body: dict[str, Any]) -> dict[str, Any]:
    recurrence, fixed = body.get("recurrence"), body.get("fixedDate")
    when = "always"
    if recurrence:
        schedule = recurrence["schedule"]
        days = ", ".join(day[:3] for day in schedule["days"])
        when = (
            f"from {schedule['hours'][0]:02}:{schedule['minutes'][0]:02} on {days} ({schedule['timeZone']})"
        )
    if fixed:
        when = f"{fixed['start']} to {fixed['end']} ({fixed['timeZone']})"
    return {
        "name": body["name"],
        "capacity": body["capacity"],
        "rules": body["rules"],
        "recurrence": recurrence,
        "fixed_date": fixed,
        "when": when,
    }


def _rule_view(index: int, rule: Rule) -> dict[str, Any]:
    return {
        "index": index,
        "condition": rule.condition,
        "scale": rule.action,
        "cooldown_minutes": rule.cooldown_s / 60,
        "resource": rule.resource,
    }


def _bounds(profile: Mapping[str, Any]) -> str:
    capacity = profile["capacity"]
    return f"{capacity['minimum']} to {capacity['maximum']}, else {capacity['default']}"


def _parts(resource: str) -> tuple[str, str]:
    found = _DEPLOYMENT.fullmatch(resource)
    if found is not None:
        return found[1], found[2]
    endpoint, _, deployment = resource.partition("/")
    return endpoint, deployment


def _target(
    session: Session, resource: str | None, endpoint_name: str | None, deployment_name: str | None
) -> tuple[str, str]:
    if resource is not None:
        endpoint, deployment = _parts(resource)
        if not deployment or "/" in deployment:
            message = f"--resource: found {resource[:80]!r}; expected the id of a deployment, or ENDPOINT/DEPLOYMENT"
            fields = {"name": "<name>"}
            raise error(
                "AutoscaleRuleInvalid", message, target="--resource", evidence=(message,), fields=fields
            )
        return endpoint, deployment
    if deployment_name is None:
        raise click.UsageError("give --resource, or -e and -d")
    return session.endpoint_name(endpoint_name, "--endpoint-name"), deployment_name


def _profile(setting: AutoscaleSetting, name: str) -> Profile:
    for profile in setting.profiles:
        if profile.name.lower() == name.lower():
            return profile
    message = f"the autoscale setting {setting.name} has no profile {name}"
    names = ", ".join(profile.name for profile in setting.profiles)
    raise error("AutoscaleNotFound", message, target=name, evidence=(f"profiles: {names}",))


def _with(setting: AutoscaleSetting, changed: Profile) -> AutoscaleSetting:
    """The setting with the profile changed, and with it those that go back to it when a recurring one ends."""

    def now(profile: Profile) -> Profile:
        if profile.name == changed.name:
            return changed
        if returns_to(profile.name) != changed.name:
            return profile
        return replace(
            profile, least=changed.least, most=changed.most, default=changed.default, rules=changed.rules
        )

    return replace(setting, profiles=tuple(now(profile) for profile in setting.profiles))


def _chosen(profile: Profile, index: Sequence[str]) -> set[int]:
    words = [part for word in index for part in word.split()]
    if words == ["*"]:
        return set(range(len(profile.rules)))
    wrong = [
        word for word in words if not (word.isascii() and word.isdigit() and int(word) < len(profile.rules))
    ]
    if wrong:
        message = f"profile {profile.name} has {len(profile.rules)} rules, and none of the number {', '.join(wrong)}"
        raise error("AutoscaleNotFound", message, target="--index")
    return {int(word) for word in words}
