"""`moor workspace ...`: the processes of the local workspace."""

from __future__ import annotations

import shlex
from typing import Any

import click

from moorings.cli.framework import leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.client import clients, daemon_control

COLUMNS: Columns = (
    ("Role", lambda p: p["role"]),
    ("Pid", lambda p: p["pid"]),
    ("Memory", lambda p: f"{p['rss_bytes'] / 2**20:.0f} MiB"),
    ("Up", lambda p: duration(p["uptime_s"])),
    ("Of", lambda p: p["owner"]),
)


@leaf("start", "Start the workspace. Other commands do so by themselves.")
def start(session: Session) -> None:
    settings = session.settings
    started = daemon_control.ensure_running(settings, settings.workspace.path, session.say)
    ready = daemon_control.wait_for_gateway(settings, settings.workspace.path)
    session.say("The workspace is started." if started else "The workspace is running already.")
    if not ready:
        session.warn(f"the gateway is not ready yet; its log is below {settings.home / 'gateway'}")
    _print(session, daemon_control.status(settings, settings.workspace.path))


@leaf("stop", "End all processes of the workspace, deployed models too. What is stored stays.")
def stop_(session: Session) -> None:
    ended = daemon_control.stop(session.settings, session.say)
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
    state = "ready" if gateway.get("ready") else gateway.get("failure") or "not known"
    session.say(f"Gateway  {status['gateway_url']} ({state})")
    if facts.get("clients"):
        session.say(f"Clients  {facts['clients']} (moor workspace env)")
    session.say(f"Memory   {status['rss_bytes'] / 2**20:.0f} MiB in {len(status['processes'])} processes")
    session.emit(status["processes"], COLUMNS, usual="table")
