"""The ids of what a workspace has beside its endpoints: registry, storage, vaults, identities. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from moorings.security.roles import ACR_PULL, BLOB_READER, CONNECTION_READER, METRICS_WRITER, Scope

STORAGE_ACCOUNT = "moorings"
"""The workspace's own store of files, as `moor storage blob` calls it."""
OWN_REGISTRY = "moorings"
"""What the registry is called where settings name none: images then stay on this machine."""


@dataclass(frozen=True)
class Places:
    """Built from the ARM path of the workspace and the address of its registry (`registry.example:5000`, or empty)."""

    workspace: str
    registry_host: str = ""

    @property
    def group(self) -> str:
        """`/subscriptions/.../resourceGroups/...`."""
        return self.workspace.partition("/providers/")[0]

    @property
    def vault_name(self) -> str:
        """The workspace's own vault."""
        return self.workspace.rpartition("/")[2].lower()

    @property
    def registry(self) -> str:
        name = self.registry_host.partition(":")[0].partition(".")[0] or OWN_REGISTRY
        return self.registry_at(name)

    @property
    def storage(self) -> str:
        return f"{self.group}/providers/Microsoft.Storage/storageAccounts/{STORAGE_ACCOUNT}"

    def automatic_roles(self, *, secret_stores: bool = False) -> tuple[tuple[str, str], ...]:
        """(role, scope) that a system-assigned identity gets by itself (behaviour reference, section 11.2)."""
        given = ((ACR_PULL, self.registry), (BLOB_READER, self.storage), (METRICS_WRITER, self.workspace))
        return (*given, (CONNECTION_READER, self.workspace)) if secret_stores else given

    def registry_at(self, name: str) -> str:
        return f"{self.group}/providers/Microsoft.ContainerRegistry/registries/{name}"

    def vault(self, name: str) -> str:
        return f"{self.group}/providers/Microsoft.KeyVault/vaults/{name}"

    def secret(self, vault: str, name: str) -> str:
        return f"{self.vault(vault)}/secrets/{name}"

    def identity(self, name: str) -> str:
        return f"{self.group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"

    def endpoint(self, name: str) -> str:
        return f"{self.workspace}/onlineEndpoints/{name}"


def registry_scopes(host: str) -> tuple[Scope, ...]:
    """What the registry at `host` may be called in a scope: its host, with and without port, or the first label."""
    bare = host.lower().partition(":")[0]
    names = dict.fromkeys((host.lower(), bare, bare.partition(".")[0]))
    return tuple(Scope(("registry", name)) for name in names if name)
