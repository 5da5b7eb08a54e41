"""What an endpoint's identity may pull, read and be told, and what is said when it may not."""

from __future__ import annotations

from typing import Any

import pytest

from moorings.controller.access import Access
from moorings.controller.resolve import Content
from moorings.engines.base import ModelMount
from moorings.errors.exceptions import MooringsError
from moorings.security.places import Places
from moorings.settings import WorkspaceName
from moorings.spec.assets import EnvironmentSpec
from moorings.spec.deployment import DeploymentSpec
from moorings.state.principal_rows import USER_ASSIGNED
from moorings.state.transaction import ENDPOINT

HOST = "registry.example:5000"
PLACES = Places(WorkspaceName().path, HOST)
KEY = "${{keyvault:https://team.vault.azure.net/secrets/db}}"
CONNECTION = "${{azureml://connections/bill/credentials/key}}"


@pytest.fixture
def access(world: Any) -> Access:
    return Access(world.database, world.vault, PLACES, has_login=lambda host: host == "private.example")


def endpoint(world: Any, *, assigned: str | None = "runner") -> str:
    """An endpoint with this user-assigned identity, or one of its own; returns the principal id."""
    if assigned is None:
        world.put_endpoint("shop")
        return ""
    ids = [{"resource_id": PLACES.identity(assigned)}]
    with world.database.write() as tx:
        made = tx.add_principal(USER_ASSIGNED, assigned)
    world.put_endpoint("shop", identity={"type": "user_assigned", "user_assigned_identities": ids})
    return str(made.id)


def spec(**variables: str) -> DeploymentSpec:
    return DeploymentSpec(name="blue", endpoint_name="shop", environment_variables=variables)


def content(image: str = "", **changes: Any) -> Content:
    environment = None
    if image:
        route = {"path": "/", "port": 80}
        config = {"liveness_route": route, "readiness_route": route, "scoring_route": route}
        environment = EnvironmentSpec.model_validate({"image": image, "inference_config": config})
    given: dict[str, Any] = {"code_digest": "c" * 64, "code_folder": "code", "scoring_script": "score.py"}
    given |= {"model": ModelMount("m" * 64, "m", "1"), "model_type": "custom_model"}
    return Content(**{**given, "environment": environment, **changes})


def refused(access: Access, *args: Any) -> MooringsError:
    with pytest.raises(MooringsError) as found:
        access.check(*args)
    return found.value


def grant(world: Any, principal: str, role: str, scope: str) -> None:
    with world.database.write() as tx:
        tx.assign(principal, role, scope, by="owner")


def test_an_endpoint_of_its_own_identity_may_pull_and_read(world: Any, access: Access) -> None:
    endpoint(world, assigned=None)
    access.check(spec(), content())
    with world.database.read() as tx:
        row = tx.resource(ENDPOINT, "shop")
        assert row is not None
        assert tx.principal_of(row.uid) is not None


def test_a_user_assigned_identity_needs_both_roles_and_is_told_both(world: Any, access: Access) -> None:
    principal = endpoint(world)
    failed = refused(access, spec(), content()).failure
    assert [(d.code, d.entry.numeric) for d in failed.details] == [
        ("IdentityCannotPull", "ERR_1200"),
        ("IdentityCannotRead", "ERR_1300"),
    ]
    assert failed.code == "IdentityCannotPull"
    assert (
        f'moor role assignment create --assignee {principal} --role AcrPull --scope "{PLACES.registry}"'
        in failed.fix
    )
    grant(world, principal, "AcrPull", PLACES.registry)
    failed = refused(access, spec(), content()).failure
    assert failed.code == "IdentityCannotRead"
    assert failed.details == ()
    assert f'--role "Storage Blob Data Reader" --scope "{PLACES.storage}"' in failed.fix
    grant(world, principal, "Storage Blob Data Reader", PLACES.storage)
    access.check(spec(), content())


def test_a_role_taken_from_a_system_assigned_identity_is_missed(world: Any, access: Access) -> None:
    endpoint(world, assigned=None)
    access.check(spec(), content())
    with world.database.write() as tx:
        for each in tx.assignments():
            if each.role == "AcrPull":
                tx.unassign(each.id)
    assert refused(access, spec(), content()).failure.code == "IdentityCannotPull"


@pytest.mark.parametrize(
    ("image", "pulls"),
    [
        (f"{HOST}/team/x:1", False),
        ("private.example/x:1", False),
        ("public.example/x:1", True),
        ("nginx", True),
    ],
)
def test_an_image_that_is_run_as_it_is(world: Any, access: Access, image: str, pulls: bool) -> None:
    endpoint(world)
    nothing = content(image, code_digest="", model=None)
    if pulls:
        access.check(spec(), nothing)
    else:
        assert refused(access, spec(), nothing).failure.code == "IdentityCannotPull"


def test_another_registry_of_this_machines_login_opens_with_a_role_there(world: Any, access: Access) -> None:
    principal = endpoint(world)
    nothing = content("private.example/x:1", code_digest="", model=None)
    failed = refused(access, spec(), nothing).failure
    grant(world, principal, "AcrPull", PLACES.registry_at("private.example"))
    assert PLACES.registry_at("private.example") in failed.fix
    access.check(spec(), nothing)


# --- secrets ---


def secrets(world: Any, *, rbac: bool = True) -> None:
    with world.database.write() as tx:
        tx.put_vault("team", rbac=rbac, tags=None)
        tx.add_vault_secret("team", "db", world.vault.encrypt("hunter2"), content_type="", tags={})
        body = {"target": "https://x", "metadata": {"team": "a"}}
        tx.put_connection("bill", body=body, credentials=world.vault.encrypt('{"key": "sk-1"}'))


def test_secrets_are_given_to_whoever_has_the_role(world: Any, access: Access) -> None:
    principal = endpoint(world)
    secrets(world)
    variables = {
        "KEY": KEY,
        "CONNECTION": CONNECTION,
        "TARGET": "${{azureml://connections/bill/target}}",
        "TEAM": "${{azureml://connections/bill/metadata/team}}",
        "PLAIN": "x",
    }
    with pytest.raises(MooringsError) as found:
        access.private(spec(**variables), variables)
    assert found.value.failure.code == "SecretsInjectionError"
    assert len(found.value.failure.details) == 4
    grant(world, principal, "Key Vault Secrets User", PLACES.vault("team"))
    grant(
        world, principal, "Azure Machine Learning Workspace Connection Secrets Reader", WorkspaceName().path
    )
    private = access.private(spec(**variables), variables)
    assert private.variables == {"KEY": "hunter2", "CONNECTION": "sk-1", "TARGET": "https://x", "TEAM": "a"}
    assert "hunter2" not in repr(private)


def test_a_vault_that_goes_by_access_policies_ignores_roles(world: Any, access: Access) -> None:
    principal = endpoint(world)
    secrets(world, rbac=False)
    grant(world, principal, "Key Vault Secrets User", PLACES.vault("team"))
    with pytest.raises(MooringsError) as found:
        access.private(spec(), {"KEY": KEY})
    assert (
        f"moor keyvault set-policy --name team --object-id {principal} --secret-permissions get"
        in found.value.failure.fix
    )
    with world.database.write() as tx:
        tx.set_policy("team", principal, ["get"])
    assert access.private(spec(), {"KEY": KEY}).variables == {"KEY": "hunter2"}


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("${{keyvault:https://nowhere/secrets/db}}", "moor keyvault create -n nowhere"),
        ("${{keyvault:https://team/secrets/none}}", "moor keyvault secret set --vault-name team --name none"),
        (
            "${{keyvault:https://team/secrets/db/0f}}",
            "moor keyvault secret list-versions --vault-name team --name db",
        ),
        ("${{azureml://connections/none}}", "moor connection create"),
        ("${{azureml://connections/bill/credentials/none}}", "moor connection show -n bill"),
        ("${{other}}", "moor keyvault secret list"),
    ],
)
def test_what_is_not_there_is_told_with_what_makes_it(
    world: Any, access: Access, reference: str, says: str
) -> None:
    principal = endpoint(world)
    secrets(world)
    grant(world, principal, "Owner", "/subscriptions/s")
    failed = refused(access, spec(KEY=reference), content()).failure
    assert failed.code == "SecretsInjectionError"
    assert says in failed.fix
    assert "environment variable KEY" in failed.message


@pytest.mark.parametrize("pinned", [True, False])
def test_a_secret_that_is_switched_off_is_told_with_what_switches_it_on(
    world: Any, access: Access, pinned: bool
) -> None:
    """A new version would not help whoever names one."""
    principal = endpoint(world)
    secrets(world)
    grant(world, principal, "Owner", "/subscriptions/s")
    with world.database.write() as tx:
        row = tx.vault_secret("team", "db")
        tx.enable_vault_secret(row, enabled=False)
    reference = KEY.replace("}}", f"/{row.version}}}}}") if pinned else KEY
    failed = refused(access, spec(KEY=reference), content()).failure
    assert "disabled" in failed.message
    on = f"moor keyvault secret set-attributes --vault-name team --name db --version {row.version} --enabled true"
    assert on in failed.fix


def test_all_that_stands_in_the_way_is_told_at_once_and_the_commands_clear_it(
    world: Any, access: Access
) -> None:
    """No role, no policy, no secret, no vault, no connection: one answer, not one after each repair."""
    principal = endpoint(world)
    secrets(world, rbac=False)
    variables = {
        "A": "${{keyvault:https://team/secrets/none}}",
        "B": "${{keyvault:https://nowhere/secrets/none}}",
        "C": "${{azureml://connections/none/target}}",
    }
    failed = refused(access, spec(**variables), content()).failure
    assert [d.code for d in failed.details] == [
        "IdentityCannotPull",
        "IdentityCannotRead",
        *["SecretsInjectionError"] * 7,
    ]
    assert [d.message.partition(": ")[2] for d in failed.details[2:]] == [
        "the user-assigned identity runner may not read secrets of the vault team",
        "the secret none of the vault team is not there",
        "the workspace has no vault nowhere",
        "the user-assigned identity runner may not read secrets of the vault nowhere",
        "the secret none of the vault nowhere is not there",
        "the user-assigned identity runner may not read the connections of the workspace",
        "the workspace has no connection none",
    ]
    with world.database.write() as tx:
        for role, scope in (
            ("AcrPull", PLACES.registry),
            ("Storage Blob Data Reader", PLACES.storage),
            ("Key Vault Secrets User", PLACES.vault("nowhere")),
            ("Azure Machine Learning Workspace Connection Secrets Reader", WorkspaceName().path),
        ):
            assert f'--role "{role}" --scope "{scope}"' in failed.fix.replace(
                "--role AcrPull", '--role "AcrPull"'
            )
            tx.assign(principal, role, scope, by="owner")
        tx.set_policy("team", principal, ["get"])
        tx.put_vault("nowhere", rbac=None, tags=None)
        for vault in ("team", "nowhere"):
            tx.add_vault_secret(vault, "none", world.vault.encrypt("v"), content_type="", tags={})
        tx.put_connection("none", body={"target": "https://y"}, credentials=world.vault.encrypt("{}"))
    access.check(spec(**variables), content())


def test_the_command_for_a_policy_takes_no_permission_away(world: Any, access: Access) -> None:
    principal = endpoint(world)
    secrets(world, rbac=False)
    with world.database.write() as tx:
        tx.set_policy("team", principal, ["list", "set"])
    with pytest.raises(MooringsError) as found:
        access.private(spec(), {"KEY": KEY})
    assert "--secret-permissions list set get" in found.value.failure.fix


def test_an_identity_that_is_gone_is_named(world: Any, access: Access) -> None:
    principal = endpoint(world)
    with world.database.write() as tx:
        tx.drop_principal(principal)
    assert refused(access, spec(), content()).failure.code == "IdentityNotFound"


async def test_a_refusal_ends_the_operation_before_anything_is_built(world: Any) -> None:
    endpoint(world)
    operation = world.put("shop/blue")
    await world.settle()
    ended = world.operation(operation)
    assert ended.error["code"] == "IdentityCannotPull"
    assert world.environments.begun == 0
