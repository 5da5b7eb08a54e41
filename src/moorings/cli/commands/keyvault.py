"""`moor keyvault ...`: vaults, their access policies and secrets; flags in, client calls, result out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from moorings.cli.commands import flags
from moorings.cli.framework import SeveralOption, leaf
from moorings.cli.output import Columns
from moorings.cli.session import Session
from moorings.errors.exceptions import error

VAULTS: Columns = (
    ("Name", lambda v: v.get("name")),
    ("Access", lambda v: "roles" if v["properties"]["enableRbacAuthorization"] else "access policies"),
    ("Policies", lambda v: len(v["properties"]["accessPolicies"])),
    ("Uri", lambda v: v["properties"]["vaultUri"]),
)
SECRETS: Columns = (
    ("Name", lambda s: s.get("name")),
    ("Version", lambda s: s.get("version")),
    ("Enabled", lambda s: s["attributes"]["enabled"]),
    ("Created", lambda s: s["attributes"]["created"]),
)


def _vault_name(*, secrets: bool = False) -> click.Option:
    names = ["--vault-name"] if secrets else ["--name", "-n", "vault_name"]
    return click.Option(names, metavar="VAULT", required=True, help="Name of the vault.")


def _secret_name() -> click.Option:
    return click.Option(["--name", "-n", "name"], metavar="NAME", required=True, help="Name of the secret.")


def _secret_version(*, required: bool = False) -> click.Option:
    return click.Option(
        ["--version", "-v"], metavar="VERSION", required=required, help="Its version; else the newest."
    )


def _principal() -> click.Option:
    return click.Option(
        ["--object-id", "--principal", "object_id"],
        metavar="PRINCIPAL",
        required=True,
        help="Principal id, client id or name.",
    )


@leaf(
    "create",
    "Create a vault. Applied again it keeps its secrets and every access policy.",
    _vault_name(),
    click.Option(
        ["--enable-rbac-authorization"],
        type=click.BOOL,
        help="true: roles say who may read (the default); false: its access policies do.",
    ),
    flags.tags(),
    click.Option(
        ["--replace-policies"],
        is_flag=True,
        help="Take away every access policy: what repeating a template does elsewhere.",
    ),
)
def create(
    session: Session,
    vault_name: str,
    enable_rbac_authorization: bool | None,
    tags: tuple[str, ...],
    replace_policies: bool,
) -> None:
    properties: dict[str, Any] = {}
    if enable_rbac_authorization is not None:
        properties["enableRbacAuthorization"] = enable_rbac_authorization
    if replace_policies:
        properties["createMode"] = "replace"
    body: dict[str, Any] = {"properties": properties}
    if tags:
        body["tags"] = dict(_pair(tag) for tag in tags)
    session.emit(session.access.put_vault(vault_name, body), VAULTS)


@leaf("show", "Show a vault and its access policies.", _vault_name())
def show(session: Session, vault_name: str) -> None:
    session.emit(session.access.vault(vault_name), VAULTS)


@leaf("list", "List the vaults.")
def list_(session: Session) -> None:
    session.emit(session.access.vaults(), VAULTS)


@leaf("delete", "Delete a vault with all its secrets.", _vault_name(), flags.yes())
def delete(session: Session, vault_name: str, yes: bool) -> None:
    command = f"moor keyvault delete -n {vault_name} --yes"
    session.confirm(f"Delete the vault {vault_name} with all its secrets?", yes=yes, command=command)
    if not session.access.delete_vault(vault_name):
        session.say(f"There was no vault {vault_name}.")


@leaf(
    "set-policy",
    "Say what somebody may do with the secrets of a vault, in place of what it might before.",
    _vault_name(),
    _principal(),
    SeveralOption(
        ["--secret-permissions"],
        required=True,
        metavar="PERMISSION ...",
        help="get, list, set, delete, or all.",
    ),
)
def set_policy(
    session: Session, vault_name: str, object_id: str, secret_permissions: tuple[str, ...]
) -> None:
    vault = session.access.set_policy(vault_name, object_id, secret_permissions)
    if vault["properties"]["enableRbacAuthorization"]:
        session.warn(
            f"the vault {vault_name} goes by roles, not by its access policies; change that with: "
            f"moor keyvault create -n {vault_name} --enable-rbac-authorization false"
        )
    session.emit(vault, VAULTS)


@leaf(
    "delete-policy",
    "Take away what somebody may do with the secrets of a vault.",
    _vault_name(),
    _principal(),
)
def delete_policy(session: Session, vault_name: str, object_id: str) -> None:
    session.emit(session.access.delete_policy(vault_name, object_id), VAULTS)


@leaf(
    "set",
    "Set a secret: a new version. Give its value by a file or on standard input, so that no list of processes shows it.",
    _vault_name(secrets=True),
    _secret_name(),
    click.Option(["--file", "-f"], metavar="PATH", help="File with the value; `-`: standard input."),
    click.Option(
        ["--value"], metavar="TEXT", help="The value itself; other users may see it while this runs."
    ),
    click.Option(["--content-type", "--description", "content_type"], default="", help="What it is."),
    flags.tags(),
)
def secret_set(
    session: Session,
    vault_name: str,
    name: str,
    file: str | None,
    value: str | None,
    content_type: str,
    tags: tuple[str, ...],
) -> None:
    properties = {"value": _value(session, file, value), "contentType": content_type}
    body = {"properties": properties, "tags": dict(_pair(tag) for tag in tags)}
    session.emit(session.access.set_secret(vault_name, name, body), SECRETS)


@leaf("show", "Print a secret, its value too.", _vault_name(secrets=True), _secret_name(), _secret_version())
def secret_show(session: Session, vault_name: str, name: str, version: str | None) -> None:
    session.emit(session.access.secret_value(vault_name, name, version), SECRETS)


@leaf("list", "List the secrets of a vault, without their values.", _vault_name(secrets=True))
def secret_list(session: Session, vault_name: str) -> None:
    session.emit(session.access.secrets(vault_name), SECRETS)


@leaf(
    "list-versions", "List the versions of a secret, newest first.", _vault_name(secrets=True), _secret_name()
)
def secret_list_versions(session: Session, vault_name: str, name: str) -> None:
    session.emit(session.access.secret_versions(vault_name, name), SECRETS)


@leaf(
    "set-attributes",
    "Enable or disable a version of a secret. What runs keeps what it was started with.",
    _vault_name(secrets=True),
    _secret_name(),
    _secret_version(),
    click.Option(["--enabled"], type=click.BOOL, required=True, help="true or false."),
)
def secret_set_attributes(
    session: Session, vault_name: str, name: str, version: str | None, enabled: bool
) -> None:
    session.emit(session.access.enable_secret(vault_name, name, version, enabled=enabled), SECRETS)


@leaf("delete", "Delete a secret with all versions.", _vault_name(secrets=True), _secret_name(), flags.yes())
def secret_delete(session: Session, vault_name: str, name: str, yes: bool) -> None:
    command = f"moor keyvault secret delete --vault-name {vault_name} -n {name} --yes"
    session.confirm(f"Delete the secret {name} with all versions?", yes=yes, command=command)
    if not session.access.delete_secret(vault_name, name):
        session.say(f"There was no secret {name}.")


def _value(session: Session, file: str | None, value: str | None) -> str:
    if value is not None:
        if file is not None:
            raise error("SecretInvalid", "--value and --file are both given", target="--value")
        session.warn("--value shows the secret in lists of processes and in the shell's history; use --file")
        return value
    try:
        if file not in (None, "-"):
            return Path(str(file)).read_text()
        if file is None and sys.stdin.isatty():
            return str(click.prompt("Value", hide_input=True, err=True))
        return sys.stdin.read()
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "is not text (UTF-8)"
        raise error("SecretInvalid", f"{file or 'standard input'}: {reason}", target="--file") from None


def _pair(text: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    return key, value
