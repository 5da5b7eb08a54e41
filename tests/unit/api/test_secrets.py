"""Vaults, secrets, connections, identities and roles over the API."""

from __future__ import annotations

from typing import Any

import pytest

GROUP = "//subscriptions/s/resourceGroups/g/providers"
VAULTS = f"{GROUP}/Microsoft.KeyVault/vaults"
IDENTITIES = f"{GROUP}/Microsoft.ManagedIdentity/userAssignedIdentities"
ROLES = f"{GROUP}/Microsoft.Authorization/roleAssignments"
SECRET = "correct horse battery"


def code_of(answer: Any) -> str:
    return f"{answer.status_code} {answer.json()['error']['code']}"


async def policies(api: Any, vault: str = "team") -> dict[str, list[str]]:
    found = (await api.ask("GET", f"{VAULTS}/{vault}")).json()["properties"]["accessPolicies"]
    return {each["objectId"]: each["permissions"]["secrets"] for each in found}


async def an_identity(api: Any, name: str = "runner") -> str:
    made = await api.ask("PUT", f"{IDENTITIES}/{name}", {})
    return str(made.json()["properties"]["principalId"])


async def a_vault(api: Any, **properties: Any) -> Any:
    return await api.ask("PUT", f"{VAULTS}/team", {"properties": properties})


async def test_a_secret_is_answered_only_when_its_value_is_asked_for(api: Any) -> None:
    await a_vault(api)
    body = {"properties": {"value": SECRET, "contentType": "text"}}
    made = await api.ask("PUT", f"{VAULTS}/team/secrets/db", body)
    answers = [
        made,
        await api.ask("GET", f"{VAULTS}/team/secrets"),
        await api.ask("GET", f"{VAULTS}/team/secrets/db"),
        await api.ask("GET", f"{VAULTS}/team/secrets/db/versions"),
        await api.ask("GET", f"{VAULTS}/team"),
    ]
    assert all(answer.status_code == 200 and SECRET not in answer.text for answer in answers)
    value = await api.ask("POST", f"{VAULTS}/team/secrets/db/getSecret")
    assert (value.json()["value"], value.headers["cache-control"]) == (SECRET, "no-store")
    for path in api.folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


async def test_versions_of_a_secret(api: Any) -> None:
    await a_vault(api)
    versions = []
    for value in ("one", "two"):
        made = await api.ask("PUT", f"{VAULTS}/team/secrets/db", {"properties": {"value": value}})
        versions.append(made.json()["version"])

    async def value(version: str | None = None) -> str:
        body = {"version": version} if version else {}
        answer = await api.ask("POST", f"{VAULTS}/team/secrets/db/getSecret", body)
        return str(answer.json().get("value") or code_of(answer))

    assert [await value(), await value(versions[0])] == ["two", "one"]
    off = {"version": versions[1], "enabled": False}
    assert (await api.ask("PATCH", f"{VAULTS}/team/secrets/db", off)).status_code == 200
    assert [await value(), await value(versions[1])] == ["one", "404 SecretNotFound"]
    assert (await api.ask("DELETE", f"{VAULTS}/team/secrets/db")).status_code == 200
    assert await value() == "404 SecretNotFound"
    assert (await api.ask("DELETE", f"{VAULTS}/team/secrets/db")).status_code == 204


async def test_applying_a_workspace_or_a_vault_again_keeps_every_access_policy(api: Any) -> None:
    await api.ask("PUT", "", {})
    first, second = await an_identity(api, "first"), await an_identity(api, "second")
    given = [{"objectId": first, "permissions": {"secrets": ["get", "list"]}}]
    await a_vault(api, enableRbacAuthorization=False, accessPolicies=given)
    await api.ask("PUT", f"{VAULTS}/team/accessPolicies/{second}", {"secrets": ["all"]})
    before = await policies(api)
    assert before == {first: ["get", "list"], second: ["get", "list", "set", "delete"]}
    await api.ask("PUT", f"{VAULTS}/local/accessPolicies/{second}", {"secrets": ["get"]})

    for _ in range(2):
        assert (await api.ask("PUT", "", {})).status_code == 200
        for body in ({}, {"accessPolicies": []}, {"accessPolicies": given, "enableRbacAuthorization": False}):
            assert (await a_vault(api, **body)).status_code == 200
    assert await policies(api) == before
    assert await policies(api, "local") == {second: ["get"]}

    await a_vault(api, accessPolicies=[], createMode="replace")  # the trap, when it is asked for
    assert await policies(api) == {}


async def test_a_policy_is_changed_and_taken_away_by_name(api: Any) -> None:
    who = await an_identity(api)
    await a_vault(api)
    await api.ask("PUT", f"{VAULTS}/team/accessPolicies/runner", {"secrets": ["get"]})
    assert await policies(api) == {who: ["get"]}
    await api.ask("DELETE", f"{VAULTS}/team/accessPolicies/runner")
    assert await policies(api) == {}
    answer = await api.ask("PUT", f"{VAULTS}/team/accessPolicies/nobody", {"secrets": ["get"]})
    assert code_of(answer) == "404 PrincipalNotFound"
    answer = await api.ask("PUT", f"{VAULTS}/team/accessPolicies/runner", {"secrets": ["own"]})
    assert code_of(answer) == "400 SecretInvalid"


@pytest.mark.parametrize("value", ["", None, 7, "a\x00b", "x" * 25_601])
async def test_what_cannot_be_a_secret_is_refused_without_being_repeated(api: Any, value: Any) -> None:
    await a_vault(api)
    answer = await api.ask("PUT", f"{VAULTS}/team/secrets/db", {"properties": {"value": value}})
    assert code_of(answer) == "400 SecretInvalid"
    assert not isinstance(value, str) or len(value) < 2 or value not in answer.text


async def test_names_of_vaults_and_secrets(api: Any) -> None:
    assert code_of(await api.ask("PUT", f"{VAULTS}/a.b", {})) == "400 SecretInvalid"
    body = {"properties": {"value": "v"}}
    assert code_of(await api.ask("PUT", f"{VAULTS}/none/secrets/db", body)) == "404 VaultNotFound"
    await a_vault(api)
    assert code_of(await api.ask("PUT", f"{VAULTS}/team/secrets/a.b", body)) == "400 SecretInvalid"
    assert (await api.ask("DELETE", f"{VAULTS}/team")).status_code == 200
    await api.ask("PUT", "", {})
    assert code_of(await api.ask("DELETE", f"{VAULTS}/local")) == "400 SecretInvalid"


async def test_a_connection_shows_its_credentials_only_where_they_are_asked_for(api: Any) -> None:
    properties = {
        "category": "custom",
        "target": "https://x",
        "metadata": {"a": "b"},
        "credentials": {"key": SECRET},
    }
    made = await api.ask("PUT", "/connections/bill", {"properties": properties})
    assert made.status_code == 201
    for answer in (made, await api.ask("GET", "/connections"), await api.ask("GET", "/connections/bill")):
        assert SECRET not in answer.text
    found = await api.ask("POST", "/connections/bill/listsecrets")
    assert found.json()["properties"]["credentials"] == {"key": SECRET}
    again = {key: value for key, value in properties.items() if key != "credentials"}
    assert (await api.ask("PUT", "/connections/bill", {"properties": again})).status_code == 200
    found = await api.ask("POST", "/connections/bill/listsecrets")
    assert found.json()["properties"]["credentials"] == {"key": SECRET}
    assert (await api.ask("DELETE", "/connections/bill")).status_code == 200
    assert code_of(await api.ask("GET", "/connections/bill")) == "404 ConnectionNotFound"


# --- identities and roles ---


async def roles_of(api: Any, principal: str) -> list[tuple[str, str, bool]]:
    found = (await api.ask("GET", f"{ROLES}?assignee={principal}")).json()["value"]
    return [
        (a["roleDefinitionName"], a["scope"].rpartition("/")[2], a["automatic"])
        for a in (each["properties"] for each in found)
    ]


async def test_a_system_assigned_identity_comes_with_its_endpoint_and_goes_with_it(api: Any) -> None:
    await api.endpoint("shop")
    shown = (await api.ask("GET", "/onlineEndpoints/shop")).json()["identity"]
    principal = shown["principalId"]
    assert sorted(await roles_of(api, principal)) == [
        ("AcrPull", "moorings", True),
        ("AzureML Metrics Writer (preview)", "local", True),
        ("Storage Blob Data Reader", "moorings", True),
    ]
    await api.endpoint("shop", description="again")
    assert (await api.ask("GET", "/onlineEndpoints/shop")).json()["identity"]["principalId"] == principal
    await api.ask("DELETE", "/onlineEndpoints/shop")
    api.finish("endpoint", "shop")
    assert code_of(await api.ask("GET", f"{ROLES}?assignee={principal}")) == "404 PrincipalNotFound"
    assert (await api.ask("GET", ROLES)).json()["value"] == []


async def test_a_user_assigned_identity_has_no_roles_and_stays_with_its_endpoint(api: Any) -> None:
    principal = await an_identity(api)
    assert await an_identity(api) == principal, "made again, it is the same"
    body = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {"/any/path/runner": {}}},
        "properties": {},
    }
    made = await api.ask("PUT", "/onlineEndpoints/shop", body)
    assert made.status_code == 201
    (facts,) = made.json()["identity"]["userAssignedIdentities"].values()
    assert facts["principalId"] == principal
    assert await roles_of(api, principal) == []
    assert code_of(await api.ask("DELETE", f"{IDENTITIES}/runner")) == "409 IdentityInUse"
    assert (await api.ask("PUT", "/onlineEndpoints/shop", made.json())).status_code == 200
    changed = {"identity": {"type": "SystemAssigned"}, "properties": {}}
    assert code_of(await api.ask("PUT", "/onlineEndpoints/shop", changed)) == "400 ImmutableProperty"
    assert (await api.ask("PUT", "/onlineEndpoints/shop", {"properties": {}})).status_code == 200


async def test_an_endpoint_of_an_identity_that_is_not_there(api: Any) -> None:
    body = {
        "identity": {"type": "UserAssigned", "userAssignedIdentities": {"/x/ghost": {}}},
        "properties": {},
    }
    answer = await api.ask("PUT", "/onlineEndpoints/shop", body)
    assert code_of(answer) == "404 IdentityNotFound"
    assert "moor identity create -n ghost" in answer.text


async def test_a_role_is_given_once_and_taken_away(api: Any) -> None:
    principal = await an_identity(api)
    wish = {"principal": "runner", "role": "acrpull", "scope": "registry"}
    made = await api.ask("POST", ROLES, wish)
    again = await api.ask("POST", ROLES, {**wish, "principal": principal, "role": "AcrPull"})
    assert [made.status_code, again.status_code] == [201, 200]
    assert made.json()["name"] == again.json()["name"]
    assert await roles_of(api, principal) == [("AcrPull", "moorings", False)]
    assert len((await api.ask("GET", f"{ROLES}?scope=registry")).json()["value"]) == 1
    assert (await api.ask("GET", f"{ROLES}?scope=storage")).json()["value"] == []
    assert (await api.ask("DELETE", f"{ROLES}/{made.json()['name']}")).status_code == 200
    assert (await api.ask("DELETE", f"{ROLES}/{made.json()['name']}")).status_code == 204


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"principal": "nobody"}, "404 PrincipalNotFound"),
        ({"role": "King"}, "400 RoleUnknown"),
        ({"scope": "/somewhere"}, "400 ScopeInvalid"),
        ({"scope": 7}, "400 RequestInvalid"),
    ],
)
async def test_a_role_that_cannot_be_given(api: Any, change: dict[str, Any], code: str) -> None:
    await an_identity(api)
    wish = {"principal": "runner", "role": "AcrPull", "scope": "registry", **change}
    assert code_of(await api.ask("POST", ROLES, wish)) == code


async def test_a_deployment_keeps_the_version_of_a_secret_it_was_sent_with(shop: Any) -> None:
    await a_vault(shop)
    reference = "${{keyvault:https://team.vault.azure.net/secrets/db}}"

    async def sent() -> tuple[str, int]:
        body = (await shop.deployment(environmentVariables={"DB": reference, "PLAIN": "x"})).json()
        properties = body["properties"]
        return properties["environmentVariables"]["DB"], properties["moorings"]["generation"]

    text, first = await sent()
    assert text == reference, "what is not there yet is told when the deployment is looked at"
    versions = []
    for expected in (first + 1, first + 2):
        made = await shop.ask("PUT", f"{VAULTS}/team/secrets/db", {"properties": {"value": "v"}})
        versions.append(made.json()["version"])
        assert await sent() == (reference[:-2] + f"/{versions[-1]}}}}}", expected)
        assert await sent() == (reference[:-2] + f"/{versions[-1]}}}}}", expected)
