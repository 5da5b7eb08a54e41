"""Failures of identities, roles, secrets and callers."""

from __future__ import annotations

from moorings.errors.entry import Entry, Evidence, Fault, Step

_AGAIN = "; then: moor online-deployment update -f <deployment.yml>"

ENTRIES: tuple[Entry, ...] = (
    Entry(
        code="IdentityCannotPull",
        title="The endpoint's identity may not pull the image",
        cause="The identity of the endpoint has no role that lets it read from the registry the image (or the built "
        "environment) is in. A system-assigned identity gets AcrPull by itself, a user-assigned one never does.",
        fix='moor role assignment create --assignee {principal} --role AcrPull --scope "{scope}"' + _AGAIN,
        fault=Fault.USER,
        step=Step.ENVIRONMENT,
        http_status=403,
        numeric="ERR_1200",
        evidence=(Evidence.ROLES,),
        family="BadArgument",
        aliases=("StartupTaskAuthorizationError", "StartupTaskIncorrectRoleAssignments"),
    ),
    Entry(
        code="IdentityCannotRead",
        title="The endpoint's identity may not read model and code",
        cause="The identity of the endpoint has no role that lets it read from the workspace's storage. A "
        "system-assigned identity gets Storage Blob Data Reader by itself, a user-assigned one never does.",
        fix='moor role assignment create --assignee {principal} --role "Storage Blob Data Reader" --scope "{scope}"'
        + _AGAIN,
        fault=Fault.USER,
        step=Step.ASSETS,
        http_status=403,
        numeric="ERR_1300",
        evidence=(Evidence.ROLES,),
        family="BadArgument",
        aliases=("StartupTaskAuthorizationError", "StartupTaskIncorrectRoleAssignments"),
    ),
    Entry(
        code="SecretsInjectionError",
        title="A secret cannot be given to the deployment",
        cause="An environment variable refers to a secret or connection that is not there, that the endpoint's "
        "identity may not read, or in a form that is not known.",
        fix="Correct the reference in `environment_variables`; what there is: moor keyvault secret list --vault-name "
        "<vault>, moor connection list" + _AGAIN,
        fault=Fault.USER,
        step=Step.INSTANCE,
        http_status=400,
        evidence=(Evidence.ROLES,),
    ),
)
