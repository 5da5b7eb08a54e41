"""Roles and scopes: what gives what where."""

from __future__ import annotations

import pytest

from moorings.security.places import Places, registry_scopes
from moorings.security.roles import (
    PULL_IMAGE,
    READ_BLOBS,
    READ_CONNECTION,
    READ_SECRET,
    ROLES,
    SCORE,
    Grant,
    Scope,
    allowed,
    role_named,
    scope_of,
)

GROUP = "/subscriptions/s/resourceGroups/g"
WS = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/local"
PLACES = Places(WS, "registry.example:5000")


@pytest.mark.parametrize(
    ("role", "actions"),
    [
        ("Owner", {PULL_IMAGE, READ_BLOBS, READ_SECRET, READ_CONNECTION, SCORE}),
        ("Contributor", {PULL_IMAGE, READ_BLOBS, READ_CONNECTION, SCORE}),
        ("Reader", set()),
        ("AzureML Data Scientist", {SCORE}),
        ("AcrPull", {PULL_IMAGE}),
        ("acrpush", {PULL_IMAGE}),
        ("Storage Blob Data Reader", {READ_BLOBS}),
        ("Key Vault Secrets User", {READ_SECRET}),
        ("Azure Machine Learning Workspace Connection Secrets Reader", {READ_CONNECTION}),
        ("AzureML Metrics Writer", set()),
    ],
)
def test_what_a_role_gives(role: str, actions: set[str]) -> None:
    known = role_named(role)
    assert known is not None
    asked = (PULL_IMAGE, READ_BLOBS, READ_SECRET, READ_CONNECTION, SCORE)
    assert {action for action in asked if known.allows(action)} == actions


def test_only_the_owner_and_nobody_else_gives_roles() -> None:
    action = "Microsoft.Authorization/roleAssignments/write"
    assert [role.name for role in ROLES.values() if role.allows(action)] == ["Owner"]


@pytest.mark.parametrize(
    "action",
    [
        "Microsoft.Graph/tokens/write",
        "Microsoft.Graph/servicePrincipals/write",
        "Microsoft.Graph/servicePrincipals/delete",
        "Microsoft.Graph/users/write",
    ],
)
def test_only_the_owner_makes_tokens_and_secrets_of_others(action: str) -> None:
    assert [role.name for role in ROLES.values() if role.allows(action)] == ["Owner"]


@pytest.mark.parametrize(
    ("granted", "asked", "covered"),
    [
        (GROUP, WS, True),
        ("/subscriptions/other", PLACES.storage, True),
        (WS, PLACES.endpoint("shop"), True),
        (WS.upper().replace("/SUBSCRIPTIONS", "/subscriptions"), PLACES.endpoint("Shop"), True),
        (PLACES.endpoint("shop"), WS, False),
        (PLACES.endpoint("shop"), PLACES.endpoint("shop2"), False),
        (WS, PLACES.storage, False),
        (PLACES.vault("one"), PLACES.secret("one", "s"), True),
        (PLACES.vault("one"), PLACES.secret("two", "s"), False),
        (PLACES.secret("one", "s"), PLACES.secret("one", "t"), False),
    ],
)
def test_a_scope_covers_what_is_below_it_and_nothing_else(granted: str, asked: str, covered: bool) -> None:
    assert scope_of(granted).covers(scope_of(asked)) is covered


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "everything",
        "/resourceGroups/g",
        f"{WS}/models/m",
        f"{GROUP}/providers/Microsoft.Compute/virtualMachines/x",
        f"{GROUP}/providers/Microsoft.KeyVault/vaults",
        f"{GROUP}/providers/Microsoft.KeyVault/vaults/v/secrets",
        f"{GROUP}/providers/Microsoft.KeyVault/vaults/v/secrets/",
    ],
)
def test_what_is_no_scope(text: str) -> None:
    if text.endswith("secrets/"):
        text += "/s"
    with pytest.raises(ValueError, match=r"expected|can be a scope"):
        scope_of(text)


def test_a_registry_is_known_by_its_host_or_the_first_label_of_it() -> None:
    grants = [Grant("AcrPull", PLACES.registry_at("Registry"))]
    assert allowed(grants, PULL_IMAGE, registry_scopes("registry.example:5000"))
    assert not allowed(grants, PULL_IMAGE, registry_scopes("other.example"))
    assert not allowed(grants, READ_BLOBS, registry_scopes("registry.example:5000"))
    assert registry_scopes("r:5000") == (Scope(("registry", "r:5000")), Scope(("registry", "r")))


def test_the_roles_that_come_by_themselves_let_pull_and_read_and_see_no_secret() -> None:
    grants = [Grant(*pair) for pair in PLACES.automatic_roles()]
    assert allowed(grants, PULL_IMAGE, registry_scopes(PLACES.registry_host))
    assert allowed(grants, READ_BLOBS, [scope_of(PLACES.storage)])
    assert not allowed(grants, READ_SECRET, [scope_of(PLACES.secret("local", "s"))])
    assert not allowed(grants, READ_CONNECTION, [scope_of(WS)])
    more = [Grant(*pair) for pair in PLACES.automatic_roles(secret_stores=True)]
    assert allowed(more, READ_CONNECTION, [scope_of(f"{WS}/connections/c")])
