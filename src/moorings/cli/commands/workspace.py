"""`moor workspace ...`: the processes of the local workspace."""

from __future__ import annotations

import shlex
from typing import Any

import click

from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.client import clients, daemon_control
from moorings.errors.exceptions import MooringsError, error
from moorings.errors.sentence import verbatim
from moorings.lib import procs
from moorings.security.folders import private
from moorings.settings import DAEMON_VARIABLE, DOCKER, ENGINES, Settings, choose_engine

CONTAINER_PATIENCE_S = 20.0
"""How long containers may take to finish their requests when the workspace is stopped."""

COLUMNS: Columns = (
    ("Role", lambda p: p["role"]),
    ("Pid", lambda p: p["pid"]),
    ("Memory", lambda p: f"{p['rss_bytes'] / 2**20:.0f} MiB"),
    ("Up", lambda p: duration(p["uptime_s"])),
    ("Of", lambda p: p["owner"]),
)


@leaf(
    "start",
    "Start the workspace. Other commands do so by themselves.",
    click.Option(
        ["--engine"],
        type=click.Choice(ENGINES),
        help="What runs instances from now on: processes of this machine (at first), or Docker containers.",
    ),
    click.Option(
        ["--standby"],
        metavar="NAME",
        help="Start one more control process of this name, which takes over when the one that leads ends. "
        "For a workspace with its state in PostgreSQL.",
    ),
)
def start(session: Session, engine: str | None, standby: str | None) -> None:
    settings = session.settings
    spare = None if standby is None else _settings_of_standby(session, standby)
    if engine is not None and engine != settings.engine:
        _change_engine(session, engine)
    started = daemon_control.ensure_running(settings, settings.workspace.path, session.say)
    if standby is not None and spare is not None:
        begun = daemon_control.start_standby(spare, standby, settings.workspace.path)
        word = "is started" if begun else "is running already"
        session.say(f"{standby} {word}, and reads: {spare.own_socket}")
        return
    ready = daemon_control.wait_for_gateway(settings, settings.workspace.path)
    session.say("The workspace is started." if started else "The workspace is running already.")
    if not ready:
        session.warn(f"the gateway is not ready yet; its log is below {settings.home / 'gateway'}")
    _print(session, daemon_control.status(settings, settings.workspace.path))


def _settings_of_standby(session: Session, name: str) -> Settings:
    settings = Settings.load({**session.environ, DAEMON_VARIABLE: name})
    if not settings.state.url:
        message = "a second control process needs the state of the workspace in PostgreSQL (state.url)"
        raise error("SettingsInvalid", message, target="state.url")
    return settings


def _change_engine(session: Session, engine: str) -> None:
    settings = session.settings
    if procs.is_locked(settings.daemon_lock):
        message = f"the workspace runs with the engine {settings.engine!r}"
        fix = verbatim(f"moor workspace stop && moor workspace start --engine {engine}")
        raise error("WorkspaceEngineFixed", message, target="--engine", fix=fix)
    private(settings.home)
    choose_engine(settings, engine)
    session.say(f"Instances are run by: {engine} (kept in {settings.settings_file})")


@leaf("stop", "End all processes of the workspace, deployed models too. What is stored stays.")
def stop_(session: Session) -> None:
    ended = daemon_control.stop(session.settings, session.say)
    if session.settings.engine == DOCKER:
        _stop_containers(session)
    killed = [e for e in ended if e.killed]
    for process in killed:
        session.warn(f"{process.role} (pid {process.pid}) did not end when asked and was killed")
    text = (
        "The workspace was not running."
        if not ended
        else f"The workspace is stopped ({len(ended)} processes)."
    )
    session.say(text)
    if ended:
        session.say("Start it again, with its deployments: moor workspace start")
    if _structured(session):
        session.emit([{"role": e.role, "pid": e.pid, "owner": e.owner, "killed": e.killed} for e in ended])


def _stop_containers(session: Session) -> None:
    from moorings.containers.credentials import from_settings
    from moorings.containers.host import DockerHost
    from moorings.containers.workspace import stop_containers

    host = DockerHost(session.settings.docker.host, from_settings("", "", ""))
    try:
        count, killed = stop_containers(host, session.settings.home, patience_s=CONTAINER_PATIENCE_S)
    except MooringsError as problem:
        session.warn(f"the containers of the workspace were not stopped: {problem}")
        return
    if count:
        session.say(
            f"{count} container{'' if count == 1 else 's'} ended" + (f", {killed} killed" if killed else "")
        )


@leaf("status", "Show the processes of the workspace, their memory, and its addresses. Starts nothing.")
def status_(session: Session) -> None:
    settings = session.settings
    _print(session, daemon_control.status(settings, settings.workspace.path))


@leaf(
    "env",
    "Print the variables that lead the ecosystem's own clients (azure-ai-ml) to this workspace, as shell exports; "
    'use it as: eval "$(moor workspace env)". The first time it opens a listener on loopback, which stays.',
    click.Option(["--off"], is_flag=True, help="Close the listener, and forget its secrets."),
)
def env(session: Session, off: bool) -> None:
    if off:
        session.client.client_access(on=False)
        session.say("The listener for clients is closed. What was exported opens nothing any more.")
        return
    access = session.client.client_access(on=True)
    clients.wait_until_answered(access)
    variables = clients.variables(access, session.environ)
    if _structured(session):
        session.emit(variables)
        return
    for name, value in variables.items():
        click.echo(f"export {name}={shlex.quote(value)}")


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3 h 10 min`, `5 d 2 h`."""
    minutes = int(seconds // 60)
    if minutes < 1:
        return f"{int(seconds)} s"
    hours, days = minutes // 60, minutes // 1440
    if hours < 1:
        return f"{minutes} min"
    return f"{days} d {hours % 24} h" if days else f"{hours} h {minutes % 60} min"


def _structured(session: Session) -> bool:
    return session.options.output not in (None, "table") or session.options.query is not None


def _print(session: Session, status: dict[str, Any]) -> None:
    if _structured(session):
        session.emit(status)
        return
    facts = status["facts"]
    gateway = facts.get("gateway") or {}
    session.say(f"Home     {status['home']}")
    session.say(f"Daemon   {status['daemon']}")
    if facts.get("leader"):
        session.say(f"Leader   {facts['leader']}")
    if facts.get("state"):
        session.say(f"State    {facts['state']}")
    session.say(f"Engine   {facts.get('engine') or session.settings.engine}")
    state = "ready" if gateway.get("ready") else gateway.get("failure") or "not known"
    session.say(f"Gateway  {status['gateway_url']} ({state})")
    if facts.get("clients"):
        session.say(f"Clients  {facts['clients']} (moor workspace env)")
    session.say(f"Memory   {status['rss_bytes'] / 2**20:.0f} MiB in {len(status['processes'])} processes")
    session.emit(status["processes"], COLUMNS, usual="table")
