"""Callers of the TLS listener: who comes in, what their roles let them do, and what the audit log says of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from moorings.api import identities
from moorings.api.permissions import needed
from moorings.security.access import issue
from moorings.security.roles import ROLES

GROUP = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/local"
WS = f"{GROUP}/providers/Microsoft.MachineLearningServices/workspaces/local"
GRAPH = f"{GROUP}/providers/Microsoft.Graph"
VAULT = f"{GROUP}/providers/Microsoft.KeyVault/vaults/local"
ARM = "https://management.azure.com"


async def caller(api: Any, *roles: tuple[str, str], name: str = "ci") -> tuple[str, dict[str, Any]]:
    """A service principal with these roles: its token, and what was told of it."""
    made = (await api.ask("POST", f"/{GRAPH}/servicePrincipals", {"displayName": name})).json()
    for role, scope in roles:
        wish = {"principal": made["id"], "role": role, "scope": scope}
        path = f"/{GROUP}/providers/Microsoft.Authorization/roleAssignments"
        assert (await api.ask("POST", path, wish)).status_code in (200, 201)
    return await token(api, made), made


async def token(api: Any, made: dict[str, Any], *, scope: str = f"{ARM}/.default", path: str = "") -> str:
    form = {"grant_type": "client_credentials", "client_id": made["appId"], "scope": scope}
    form["client_secret"] = made["password"]
    answer = await api.outside.post(path or "/local/oauth2/v2.0/token", data=form)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["access_token"])


def code_of(answer: Any) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


async def ask(api: Any, verb: str, path: str, bearer: str, body: Any = None) -> str:
    headers = {"authorization": f"Bearer {bearer}"}
    answer = await api.outside.request(verb, path, headers=headers, json=body)
    code = answer.json()["error"]["code"] if answer.status_code >= 400 else ""
    return f"{answer.status_code} {code}".strip()


async def test_a_service_principal_may_do_what_its_role_gives_and_no_more(shop: Any) -> None:
    bearer, _ = await caller(shop, ("Reader", "workspace"))
    assert await ask(shop, "GET", f"{WS}/onlineEndpoints/shop", bearer) == "200"
    assert await ask(shop, "GET", f"{WS}/onlineEndpoints/shop/deployments", bearer) == "200"
    denied = [
        ("POST", f"{WS}/onlineEndpoints/shop/listKeys", None),
        ("PUT", f"{WS}/onlineEndpoints/other", {"properties": {}}),
        ("DELETE", f"{WS}/onlineEndpoints/shop", None),
        ("POST", f"{WS}/datastores/workspaceblobstore/listSecrets", {}),
        ("POST", f"{VAULT}/secrets/db/getSecret", {}),
        ("POST", f"{GRAPH}/servicePrincipals", {"displayName": "me"}),
        ("POST", f"{GRAPH}/tokens", {"principal": "ci"}),
        ("POST", f"{GROUP}/providers/Microsoft.Authorization/roleAssignments", {}),
        ("POST", f"{WS}/connections/c/listsecrets", None),
        ("PUT", WS, {}),
        ("GET", "/somewhere/else", None),
    ]
    for verb, path, body in denied:
        assert await ask(shop, verb, path, bearer, body) == "403 AuthorizationFailed", path


async def test_the_refusal_names_the_command_that_gives_the_role(shop: Any) -> None:
    bearer, made = await caller(shop)
    headers = {"authorization": f"Bearer {bearer}"}
    answer = await shop.outside.post(f"{WS}/onlineEndpoints/shop/listKeys", headers=headers)
    command = answer.json()["error"]["additionalInfo"][0]["info"]["fix"]
    assert f"--assignee {made['id']}" in command
    assert '--role "AzureML Data Scientist"' in command
    wish = {"principal": made["id"], "role": "AzureML Data Scientist", "scope": f"{WS}/onlineEndpoints/shop"}
    await shop.ask("POST", f"/{GROUP}/providers/Microsoft.Authorization/roleAssignments", wish)
    assert await ask(shop, "POST", f"{WS}/onlineEndpoints/shop/listKeys", bearer) == "200"
    assert await ask(shop, "GET", f"{WS}/onlineEndpoints", bearer) == "403 AuthorizationFailed"


async def test_a_role_taken_or_a_principal_deleted_ends_at_once(shop: Any) -> None:
    bearer, made = await caller(shop, ("Contributor", "workspace"))
    path = f"{WS}/onlineEndpoints/shop"
    assert await ask(shop, "GET", path, bearer) == "200"
    await shop.ask("DELETE", f"/{GRAPH}/servicePrincipals/ci")
    assert await ask(shop, "GET", path, bearer) == "401 AccessDenied"
    form = {"grant_type": "client_credentials", "client_id": made["appId"], "client_secret": made["password"]}
    assert (await shop.outside.post("/local/oauth2/v2.0/token", data=form)).status_code == 401


async def test_tokens_for_somebody_else_of_no_use_or_past_their_time_open_nothing(shop: Any) -> None:
    _, made = await caller(shop, ("Owner", "workspace"))
    path = f"{WS}/onlineEndpoints/shop"
    foreign = await token(shop, made, scope="https://storage.example/.default")
    assert await ask(shop, "GET", path, foreign) == "401 AccessDenied"
    good = await token(shop, made, path="/adfs/oauth2/token")
    assert await ask(shop, "GET", path, good) == "200"
    assert await ask(shop, "GET", path, good[:-3]) == "401 AccessDenied"
    shop.clock.advance(3601)
    assert await ask(shop, "GET", path, good) == "401 AccessDenied"


async def test_secrets_of_service_principals(shop: Any) -> None:
    _, made = await caller(shop)
    assert made["password"] not in (await shop.ask("GET", f"/{GRAPH}/servicePrincipals")).text
    for file in shop.folder.rglob("*"):
        assert not file.is_file() or made["password"].encode() not in file.read_bytes()
    again = (await shop.ask("POST", f"/{GRAPH}/servicePrincipals", {"displayName": "ci"})).json()
    assert (again["appId"], again["password"]) != (made["appId"], made["password"])
    assert await token(shop, made)
    fresh = (await shop.ask("POST", f"/{GRAPH}/servicePrincipals/ci/reset")).json()
    assert await token(shop, fresh)
    for old in (made, again):
        with pytest.raises(AssertionError, match="invalid_client"):
            await token(shop, old)


async def test_a_user_has_a_token_at_the_owners_word(shop: Any) -> None:
    await shop.ask("POST", f"/{GRAPH}/users", {"displayName": "anna"})
    made = (await shop.ask("POST", f"/{GRAPH}/tokens", {"principal": "anna"})).json()
    assert await ask(shop, "GET", f"{WS}/onlineEndpoints", made["accessToken"]) == "403 AuthorizationFailed"


async def test_a_vault_of_access_policies_goes_by_them_for_callers_too(shop: Any) -> None:
    await shop.ask("PUT", f"/{VAULT}", {"properties": {"enableRbacAuthorization": False}})
    await shop.ask("PUT", f"/{VAULT}/secrets/db", {"properties": {"value": "v"}})
    bearer, made = await caller(shop, ("Key Vault Administrator", "keyvault/local"))
    value = ("POST", f"{VAULT}/secrets/db/getSecret", bearer, {})
    assert await ask(shop, *value) == "403 AuthorizationFailed"
    await shop.ask("PUT", f"/{VAULT}/accessPolicies/{made['id']}", {"secrets": ["list"]})
    headers = {"authorization": f"Bearer {bearer}"}
    refused = await shop.outside.post(f"{VAULT}/secrets/db/getSecret", headers=headers, json={})
    command = refused.json()["error"]["additionalInfo"][0]["info"]["fix"]
    assert command.endswith(
        f"moor keyvault set-policy --name local --object-id {made['id']} --secret-permissions list get"
    ), "a role would not help here"
    await shop.ask("PUT", f"/{VAULT}/accessPolicies/{made['id']}", {"secrets": ["list", "get"]})
    assert await ask(shop, *value) == "200"
    assert await ask(shop, "DELETE", f"{VAULT}/secrets/db", bearer) == "403 AuthorizationFailed"


async def test_who_may_not_read_connections_makes_no_endpoint_that_may(shop: Any) -> None:
    bearer, made = await caller(shop, ("AzureML Data Scientist", "workspace"))
    body = {"properties": {"properties": {"enforce_access_to_default_secret_stores": "enabled"}}}
    wish = ("PUT", f"{WS}/onlineEndpoints/open", bearer, body)
    assert await ask(shop, *wish) == "403 AuthorizationFailed"
    assert (await shop.ask("PUT", "/onlineEndpoints/open", body)).status_code == 201, "its owner may"
    deploy = ("PUT", f"{WS}/onlineEndpoints/open/deployments/blue", bearer, {"properties": {}})
    assert await ask(shop, *deploy) == "403 AuthorizationFailed"
    role = "Azure Machine Learning Workspace Connection Secrets Reader"
    grant = {"principal": made["id"], "role": role, "scope": "workspace"}
    await shop.ask("POST", f"/{GROUP}/providers/Microsoft.Authorization/roleAssignments", grant)
    assert await ask(shop, *wish) == "200"
    assert await ask(shop, *deploy) == "201"


async def test_a_contributor_of_everything_cannot_become_an_owner(shop: Any) -> None:
    bearer, _ = await caller(shop, ("Contributor", GROUP))
    _, owner = await caller(shop, ("Owner", GROUP), name="boss")
    ways = [
        ("POST", f"{GRAPH}/tokens", {"principal": "boss"}),
        ("POST", f"{GRAPH}/servicePrincipals", {"displayName": "boss"}),
        ("POST", f"{GRAPH}/servicePrincipals/boss/reset", None),
        ("DELETE", f"{GRAPH}/servicePrincipals/boss", None),
        (
            "POST",
            f"{GROUP}/providers/Microsoft.Authorization/roleAssignments",
            {"principal": "ci", "role": "Owner", "scope": GROUP},
        ),
    ]
    for verb, path, body in ways:
        assert await ask(shop, verb, path, bearer, body) == "403 AuthorizationFailed", path
    assert await token(shop, owner)


async def test_who_may_not_assign_an_identity_makes_no_endpoint_that_acts_as_it(shop: Any) -> None:
    bearer, made = await caller(shop, ("AzureML Data Scientist", "workspace"))
    identity = f"{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/runner"
    await shop.ask("PUT", f"/{identity}", {})
    body = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {identity: {}}},
        "properties": {"authMode": "Key"},
    }
    headers = {"authorization": f"Bearer {bearer}"}
    refused = await shop.outside.put(f"{WS}/onlineEndpoints/theirs", headers=headers, json=body)
    assert refused.json()["error"]["code"] == "AuthorizationFailed"
    command = refused.json()["error"]["additionalInfo"][0]["info"]["fix"]
    assert f'--assignee {made["id"]} --role "Managed Identity Operator" --scope "{identity}"' in command
    grant = {"principal": made["id"], "role": "Managed Identity Operator", "scope": identity}
    await shop.ask("POST", f"/{GROUP}/providers/Microsoft.Authorization/roleAssignments", grant)
    assert await ask(shop, "PUT", f"{WS}/onlineEndpoints/theirs", bearer, body) == "201"


async def test_who_may_not_give_roles_changes_no_vault_to_policies_that_they_may_write(shop: Any) -> None:
    await shop.ask("PUT", f"/{VAULT}", {})
    for role in ("Contributor", "Key Vault Administrator"):
        bearer, _ = await caller(shop, (role, GROUP), name=role.replace(" ", ""))
        for rbac in (False, True):
            expected = "200" if rbac else "403 AuthorizationFailed"
            body = {"properties": {"enableRbacAuthorization": rbac}}
            assert await ask(shop, "PUT", VAULT, bearer, body) == expected, "the same again is no change"
    bearer, _ = await caller(shop, ("Owner", GROUP), name="boss")
    assert await ask(shop, "PUT", VAULT, bearer, {"properties": {"enableRbacAuthorization": False}}) == "200"


# --- as many roles as there may be ---


async def test_an_endpoint_whose_identity_gets_no_more_roles_is_not_made(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api.database.read() as tx:
        there = tx.assignment_count()
    monkeypatch.setattr(identities, "MAX_ROLE_ASSIGNMENTS", there + 4)
    assert (await api.endpoint("first")).status_code == 201, "three roles come with it"
    refused = await api.endpoint("second")
    assert code_of(refused) == "400 RoleAssignmentQuotaReached"
    assert "ERR_1102" in refused.text
    assert (await api.ask("GET", "/onlineEndpoints/second")).status_code == 404, "nothing is half made"
    assert (await api.endpoint("first", description="new")).status_code == 200
    await api.ask("PUT", f"/{GROUP}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/runner", {})
    roles = f"/{GROUP}/providers/Microsoft.Authorization/roleAssignments"
    wish = {"principal": "runner", "role": "AcrPull", "scope": "registry"}
    assert (await api.ask("POST", roles, wish)).status_code == 201, "the last one"
    assert (await api.ask("POST", roles, wish)).status_code == 200, "the same again is no more"
    assert (
        code_of(await api.ask("POST", roles, {**wish, "role": "Reader"})) == "400 RoleAssignmentQuotaReached"
    )
    await api.ask("DELETE", f"{roles}/{(await api.ask('POST', roles, wish)).json()['name']}")
    assert (await api.ask("POST", roles, wish)).status_code == 201


# --- the audit log ---


async def test_who_did_what_with_what_result(shop: Any) -> None:
    bearer, made = await caller(shop, ("Reader", "workspace"))
    owner = issue(shop.listener.keys(), ARM, shop.clock.now()).text
    await ask(shop, "GET", f"{WS}/onlineEndpoints", bearer)
    await ask(shop, "DELETE", f"{WS}/onlineEndpoints/shop", bearer)
    await ask(shop, "PUT", f"{WS}/onlineEndpoints/mine", owner, {"properties": {}})
    await ask(shop, "GET", f"{WS}/onlineEndpoints", "guessed")
    await ask(shop, "PUT", f"{VAULT}/secrets/db", owner, {"properties": {"value": "the-password"}})
    records = shop.audit.tail(100)
    assert [(r["who"], r["method"], r["status"], r["result"], r["code"]) for r in records] == [
        ("ci", "POST", 200, "succeeded", None),
        ("ci", "DELETE", 403, "refused", "AuthorizationFailed"),
        ("owner", "PUT", 201, "succeeded", None),
        ("unknown", "GET", 401, "refused", "AccessDenied"),
        ("owner", "PUT", 404, "failed", "VaultNotFound"),
    ]
    assert records[1]["principal"] == made["id"]
    assert records[1]["action"] == "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/delete"
    text = shop.audit.path.read_text()
    assert "the-password" not in text
    assert made["password"] not in text
    assert bearer not in text
    assert shop.audit.path.stat().st_mode & 0o777 == 0o600
    shown = (await shop.ask("GET", "/auditLog?tail=2")).json()
    assert [each["target"] for each in shown["value"]] == [each["target"] for each in records[-2:]]
    assert shown["brokenAt"] is None


# --- what every route needs ---


def routes(api: Any) -> list[tuple[str, str]]:
    document = api.app.openapi()
    return [(verb.upper(), path) for path, verbs in document["paths"].items() for verb in verbs]


async def test_every_route_has_an_action_that_more_than_the_owner_can_have(api: Any) -> None:
    values = {"subscription": "s", "group": "g", "workspace": "w"}
    unknown = []
    for verb, path in routes(api):
        filled = path
        for name in ("subscription", "group", "workspace"):
            filled = filled.replace(f"{{{name}}}", values[name])
        asked = needed(verb, filled)
        if not any(role.allows(asked.action) for role in ROLES.values() if role.name != "Owner"):
            unknown.append((verb, path, asked.action))
    ours = ("Microsoft.Authorization/roleAssignments/", "Microsoft.KeyVault/vaults/secrets/getSecret")
    ours += ("Microsoft.Graph/tokens/", "Microsoft.Graph/{kind}/", "Microsoft.Graph/servicePrincipals/")
    assert [each for each in unknown if not each[2].startswith(ours)] == []


@pytest.mark.parametrize(
    "path", ["/", "/subscriptions/s", "/openapi.json", "/subscriptions/s/resourceGroups/g/providers/X/y"]
)
def test_what_is_not_known_is_the_owners_alone(path: str) -> None:
    asked = needed("POST", path)
    allowing = {role.name for role in ROLES.values() if role.allows(asked.action)}
    assert allowing <= {"Owner", "Contributor"}
    assert json.dumps(asked.action)
