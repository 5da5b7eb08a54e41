"""What the control process is made of whatever is deployed: state, stores, keys, listeners, the hand on the gateway. It must
not name an engine, nor start anything: constructing them acts on nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from moorings.api.blobs import Blobs
from moorings.api.callers import Callers
from moorings.api.instance_tokens import SOCKET, InstanceTokens
from moorings.api.listener import Listener
from moorings.assets.store import AssetStore
from moorings.assets.uploads import Uploads
from moorings.containers.credentials import from_settings
from moorings.containers.host import DockerHost, kept_login
from moorings.containers.reading import registry_of
from moorings.containers.workspace import home_digest
from moorings.controller.access import Access
from moorings.controller.leadership import Election
from moorings.controller.publisher import Publisher
from moorings.controller.scoring import Scoring
from moorings.daemon.engines import provisioner
from moorings.environments.leases import Leases
from moorings.errors.exceptions import MooringsError, error
from moorings.gateway.control import GatewayControl, GatewaySettings
from moorings.lib.timing import SystemClock
from moorings.observe.journal import Journal
from moorings.security.audit import AuditLog
from moorings.security.directory import Directory
from moorings.security.identity_tokens import ISSUER, LIFETIME_S, IdentityTokens
from moorings.security.places import Places
from moorings.security.tokens import TokenIssuer
from moorings.security.vault import Vault
from moorings.settings import FIRST_DAEMON, STATE_URL_VARIABLE, Settings
from moorings.state.database import Database, Fence


def _fetch(url: str) -> bytes:
    """GET, as the directory of users needs it. Raises OSError."""
    import httpx

    try:
        answer = httpx.get(url, timeout=10.0, follow_redirects=False)
        answer.raise_for_status()
    except httpx.HTTPError as problem:
        raise OSError(str(problem)) from None
    return answer.content


def _directory(settings: Settings, clock: SystemClock) -> Directory | None:
    known = settings.directory
    if not known.issuer:
        return None
    cache = settings.home / "directory-keys.json"
    return Directory(known.issuer, known.audience, known.keys, known.claim, cache, clock, _fetch)


def _database(settings: Settings, clock: SystemClock) -> Database:
    try:
        return Database.at(settings.state_place, clock)
    except ValueError as problem:
        message = f"{STATE_URL_VARIABLE} or state.url in settings.json: {problem}"
        raise error("SettingsInvalid", message, target="state.url") from None


class Parts:
    """Of one workspace."""

    def __init__(self, settings: Settings) -> None:
        home = settings.home
        clock = SystemClock()
        self.settings = settings
        self.database = _database(settings, clock)
        self.election: Election | None = None
        if self.database.on_server:
            fence = Fence()
            holder = settings.daemon_name or FIRST_DAEMON
            self.election = Election(self.database, fence, holder, clock)
            self.database = self.database.fenced(fence)
        self.store = AssetStore(home / "assets", home=home)
        vault = Vault(home / "secret.key")
        registry = settings.registry
        self.docker = DockerHost(
            settings.docker.host,
            from_settings(registry.repository, registry.user, registry.password_file),
            owner=home_digest(home),
        )
        self.leases = Leases()
        self.environments = provisioner(settings, self.docker, self.leases, self.store)
        self.gateway = GatewayControl(
            GatewaySettings(
                home=home,
                dir=home / "gateway",
                run_dir=settings.run_dir,
                port=settings.gateway.port,
                bind=settings.gateway.bind,
                max_connections=settings.gateway.max_connections,
            )
        )
        self.tokens = TokenIssuer(home / "token-keys.json", clock)
        self.places = Places(
            settings.workspace.path,
            registry_of(f"{registry.repository}/x") if registry.repository else "",
        )
        self.identity_tokens = IdentityTokens(
            TokenIssuer(home / "identity-keys.json", clock, issuer=ISSUER, lifetime_s=LIFETIME_S)
        )
        self.directory = _directory(settings, clock)
        self.publisher = Publisher(
            self.database,
            self.gateway,
            vault,
            self.tokens,
            clock,
            rate_limit_per_s=settings.gateway.rate_limit_per_s,
            local_requires_key=settings.gateway.local_requires_key,
            scoring=Scoring(self.identity_tokens, self.places, self.directory),
        )
        self.vault = vault
        self.clock = clock
        identity_folder = settings.run_dir / "identity"
        self.callers = Callers(
            self.database,
            self.identity_tokens,
            self.directory.principal_name if self.directory is not None else lambda _token: None,
        )
        self.audit = AuditLog(home / "audit", settings.audit.file_mb * 1024 * 1024, settings.audit.files)
        self.instance_tokens = InstanceTokens(self.database, vault, self.identity_tokens, identity_folder)
        self.access = Access(self.database, vault, self.places, identity_folder / SOCKET, self._has_login)
        self.blobs = Blobs(self.database, Uploads(home / "uploads"), self.store)
        self.listener = Listener(home / "access", settings.clients.port, clock)
        self.journal = Journal(settings.deployment_logs)

    def _has_login(self, registry: str) -> bool:
        """Whether this machine has credentials for a registry."""
        known = self.settings.registry
        credentials = from_settings(known.repository, known.user, known.password_file)
        with contextlib.suppress(MooringsError):
            return bool(credentials(registry) or kept_login(registry))
        return False

    def sweep_store(self) -> None:
        """Delete content that nothing in the state mentions. Blocks."""
        with self.database.read() as tx:
            known = tx.asset_digests()  # the usual case, without a search through all rows for each
            self.store.sweep(lambda digest: digest in known or tx.mentions(digest))

    def facts(self) -> Mapping[str, Any]:
        """What is shown of the workspace beside its resources."""
        status = self.gateway.status()
        return {
            "home": str(self.settings.home),
            "clients": self.listener.base_url,
            "engine": self.settings.engine,
            "state": self.database.shown,
            "leader": self.election.leader if self.election is not None else None,
            "gateway": {
                "ready": bool(status and status.ready),
                "failure": status.failure if status else "the gateway agent has not reported yet",
                "problem": status.problem.to_json() if status and status.problem else None,
                "rejected": dict(status.rejected) if status else {},
            },
        }
