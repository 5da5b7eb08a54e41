"""Whatever somebody has read somewhere leads to an entry."""

from __future__ import annotations

import pytest

from moorings.errors.catalogue import CATALOGUE
from moorings.errors.entry import Entry, Origin
from moorings.errors.find import GROUPS, canonical, find, members, related, suggest

NUMBERS = ("1100", "1101", "1102", "1103", "1200", "1300", "1350", "2100", "2101", "2102", "2200", "5000")
NAMED = (
    "ImageBuildFailure",
    "RegistryAuthorizationFailure",
    "ImageBuildComputeMissing",
    "ImageBuildTimeout",
    "OutOfQuota",
    "OutOfQuotaCpu",
    "OutOfQuotaCluster",
    "OutOfQuotaDisk",
    "OutOfQuotaMemory",
    "OutOfQuotaRoleAssignments",
    "OutOfQuotaEndpoints",
    "OutOfQuotaKubernetes",
    "OutOfQuotaRegionWideVmCapacity",
    "OutOfQuotaOther",
    "BadArgument",
    "SubscriptionDoesNotExist",
    "StartupTaskAuthorizationError",
    "StartupTaskIncorrectRoleAssignments",
    "InvalidTemplateFunctionSpecification",
    "UnableToDownloadUserContainerImage",
    "UnableToDownloadUserModel",
    "MlflowWithPrivateNetworkUnsupported",
    "ResourceRequestsGreaterThanLimits",
    "AzuremlFeNotReady",
    "ResourceNotReady",
    "ResourceNotFound",
    "ContainerRegistryPrivate",
    "WorkspaceManagedNetworkNotReady",
    "SecretsInjectionError",
    "OperationCanceled",
    "CanceledByHigherPriorityOperation",
    "WaitingForLockConfirmation",
    "InternalServerError",
)
KUBERNETES = (
    "ACRSecretError",
    "TokenRefreshFailed",
    "GetAADTokenFailed",
    "ACRAuthenticationChallengeFailed",
    "ACRTokenExchangeFailed",
    "KubernetesUnaccessible",
    "ImagePullLoopBackOff",
    "DeploymentCrashLoopBackOff",
    "KubernetesCrashLoopBackOff",
    "NamespaceNotFound",
    "UserScriptInitFailed",
    "UserScriptImportError",
    "UserScriptFunctionNotFound",
    "EndpointNotFound",
    "EndpointAlreadyExists",
    "ScoringFeUnhealthy",
    "ValidateScoringFailed",
    "InvalidDeploymentSpec",
    "PodUnschedulable",
    "PodOutOfMemory",
    "InferencingClientCallFailed",
)


@pytest.mark.parametrize("number", NUMBERS)
def test_every_numeric_code_is_found_however_it_is_spelt(number: str) -> None:
    spellings = (f"ERR_{number}", f"err_{number}", f"err-{number}", f"ERR {number}", number)
    found = [find(spelling) for spelling in spellings]
    assert found[0] is not None and found[0].entries
    assert all(one == found[0] for one in found)
    assert {entry.numeric for entry in found[0].entries} == {f"ERR_{number}"}


@pytest.mark.parametrize("name", NAMED + KUBERNETES)
def test_every_name_of_the_ecosystem_is_found(name: str) -> None:
    for spelling in (name, name.lower(), name.upper(), f" {name} "):
        found = find(spelling)
        assert found is not None, spelling
        assert found.entries


@pytest.mark.parametrize("code", CATALOGUE)
def test_a_code_finds_its_own_entry(code: str) -> None:
    found = find(code.lower())
    assert found is not None
    assert found.entries == (CATALOGUE[code],)


def test_what_only_the_kubernetes_engine_raises_is_marked() -> None:
    marked = {entry.code for entry in CATALOGUE.values() if entry.origin is Origin.KUBERNETES}
    ours = {"UserScriptInitFailed", "UserScriptImportError", "UserScriptFunctionNotFound", "EndpointNotFound"}
    ours.add("CrashLoop")
    for name in KUBERNETES:
        found = find(name)
        assert found is not None
        assert {entry.code for entry in found.entries} <= marked | ours, name


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=lambda e: e.code)
def test_other_names_are_names_and_belong_to_something(entry: Entry) -> None:
    assert entry.family is None or entry.family in CATALOGUE or entry.family in GROUPS
    assert entry.family != entry.code
    assert entry.numeric is None or entry.numeric in GROUPS
    for alias in entry.aliases:
        assert alias.isalnum()
        assert alias not in CATALOGUE
        assert find(alias) is not None


def test_an_older_code_that_was_stored_is_still_known() -> None:
    assert canonical("ImageBuildFailed") == "ImageBuildFailure"
    assert canonical("LimitReached") == "EndpointQuotaReached"
    assert canonical("EndpointNotFound") == "EndpointNotFound"
    assert canonical("FromTheFuture") == "FromTheFuture"


def test_a_group_has_what_can_be_met_here_first() -> None:
    for group in GROUPS:
        origins = [entry.origin is Origin.MOORINGS for entry in members(group)]
        assert origins, group
        assert origins == sorted(origins, reverse=True), group


def test_related_entries_are_of_one_family() -> None:
    family = {entry.code for entry in related(CATALOGUE["OutOfCapacity"])}
    assert {"OutOfQuota", "EndpointQuotaReached"} <= family
    assert "OutOfCapacity" not in family
    assert {entry.code for entry in related(CATALOGUE["OutOfQuota"])} >= {"OutOfCapacity", "DiskFull"}
    assert {entry.numeric for entry in related(CATALOGUE["ImageNotFound"])} == {"ERR_1200"}
    assert related(CATALOGUE["SpecInvalid"]) == ()


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("EndpontNotFound", "EndpointNotFound"),
        ("OutOfMemry", "OutOfMemory"),
        ("imagepulldenid", "ImagePullDenied"),
        ("ERR_1530", "ERR_1350"),
        ("signature", "UserScriptBadSignature"),
        ("the conda file", "EnvironmentIsCondaFile"),
    ],
)
def test_near_misses_are_suggested(typed: str, meant: str) -> None:
    assert find(typed) is None
    assert meant in suggest(typed)


def test_nonsense_suggests_nothing_and_finds_nothing() -> None:
    for typed in ("", "   ", "-", "qqqqzzzz", "\N{SNOWMAN}", "x" * 5000):
        assert find(typed) is None
        assert suggest(typed) == ()
