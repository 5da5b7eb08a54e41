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
    Entry(
        code="IdentityNotFound",
        title="The identity does not exist",
        cause="No user-assigned identity of this name is in the workspace.",
        fix="Create it: moor identity create -n {name}   (what there is: moor identity list -o table)",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
    ),
    Entry(
        code="IdentityInUse",
        title="The identity belongs to an endpoint",
        cause="An endpoint keeps the identity it was created with for its whole life.",
        fix="Delete the endpoint first: moor online-endpoint delete -n {endpoint} --yes",
        fault=Fault.USER,
        step=Step.API,
        http_status=409,
    ),
    Entry(
        code="PrincipalNotFound",
        title="Nobody has this name or id",
        cause="A role or an access policy is for an identity, a user or a service principal of this workspace, by its "
        "principal id, its client id or its name.",
        fix="See who there is: moor identity list -o table; moor ad sp list -o table; moor ad user list -o table; an "
        "endpoint's own: moor online-endpoint show -n <endpoint> --query identity.principal_id",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
        evidence=(Evidence.CHOICES,),
    ),
    Entry(
        code="RoleUnknown",
        title="There is no such role",
        cause="Roles are built in; their names are those of the ecosystem.",
        fix="See which there are: moor role definition list -o table",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
        evidence=(Evidence.CHOICES,),
    ),
    Entry(
        code="ScopeInvalid",
        title="This cannot be the scope of a role",
        cause="A role holds for the workspace, its registry, its storage, a vault, one endpoint or one secret, named by "
        "its id.",
        fix='Take the id from: moor workspace show --query "[id, container_registry, storage_account, key_vault]"',
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
    ),
    Entry(
        code="RoleAssignmentNotFound",
        title="There is no such role assignment",
        cause="Nobody has this role at this scope, or it was taken away before.",
        fix="See what there is: moor role assignment list --all -o table",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
    ),
    Entry(
        code="VaultNotFound",
        title="The vault does not exist",
        cause="No vault of this name is in the workspace.",
        fix="Create it: moor keyvault create -n {vault}   (what there is: moor keyvault list -o table)",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
    ),
    Entry(
        code="SecretNotFound",
        title="The secret does not exist",
        cause="The vault has no secret of this name, no such version of it, or none that is enabled.",
        fix="Set it: moor keyvault secret set --vault-name {vault} --name {secret} --file <file>   (what there is: moor "
        "keyvault secret list --vault-name {vault} -o table)",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
    ),
    Entry(
        code="SecretInvalid",
        title="This cannot be kept as a secret",
        cause="A secret is text of 1 to 25600 bytes without NUL characters; names of vaults, secrets and connections "
        "have letters, digits and hyphens.",
        fix="Correct the named value and try again: moor keyvault secret set --vault-name <vault> --name <name> --file "
        "<file>",
        fault=Fault.USER,
        step=Step.API,
        http_status=400,
    ),
    Entry(
        code="ConnectionNotFound",
        title="The connection does not exist",
        cause="No connection of this name is in the workspace.",
        fix="Create it: moor connection create -f <connection.yml>   (what there is: moor connection list -o table)",
        fault=Fault.USER,
        step=Step.API,
        http_status=404,
    ),
    Entry(
        code="AuthorizationFailed",
        title="The caller has no role that allows this",
        cause="Whoever sent the request is known, but none of the roles given to it allows this action here.",
        fix='Its owner gives the role: moor role assignment create --assignee {principal} --role "{role}" --scope "{scope}"',
        fault=Fault.USER,
        step=Step.API,
        http_status=403,
        evidence=(Evidence.ROLES,),
    ),
)
