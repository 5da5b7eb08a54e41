"""Tokens for running instances, over a unix socket that their supervisors know: a line of JSON in, a line out.

Who asks is told by the sealed credential that the instance was started with; whoever can open the socket without one
gets nothing. It is a socket of its own, because it goes into containers, where the control API must not be.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moorings.errors.exceptions import MooringsError
from moorings.security.identity_tokens import IdentityTokens
from moorings.security.instances import unseal
from moorings.security.vault import Vault
from moorings.state.database import Database
from moorings.state.identities import identity_of
from moorings.state.principal_rows import Principal
from moorings.state.transaction import DEPLOYMENT, ENDPOINT

logger = logging.getLogger(__name__)

SOCKET = "identity.sock"
LONGEST_LINE = 16 * 1024
LONGEST_RESOURCE = 1024
PATIENCE_S = 5.0


@dataclass(frozen=True)
class InstanceTokens:
    database: Database
    cipher: Vault
    tokens: IdentityTokens
    folder: Path
    """Holds nothing but the socket: it is mounted in containers."""

    async def run(self) -> None:
        """Serve until cancelled. Raises OSError when the socket cannot be made."""
        self.folder.mkdir(mode=0o711, exist_ok=True)
        self.folder.chmod(0o711)
        path = self.folder / SOCKET
        temporary = self.folder / f".{SOCKET}.{os.getpid()}"
        for left in self.folder.glob(f".{SOCKET}.*"):
            left.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._serve, temporary, limit=LONGEST_LINE)
        # The user inside a container is another one. On this machine the folder above (0700) keeps others out.
        temporary.chmod(0o666)
        temporary.replace(path)
        async with server:
            await server.serve_forever()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                line = await reader.readline()
                answer = await asyncio.to_thread(self.answer, line)
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (TimeoutError, OSError, ValueError):
            pass  # whoever asked is gone, or never asked
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def answer(self, line: bytes) -> dict[str, Any]:
        """`{"credential", "resource"}` -> `{"token": {...}}` or `{"error": why not}`."""
        try:
            asked = json.loads(line)
            credential, resource = str(asked["credential"]), str(asked["resource"])
        except (ValueError, KeyError, TypeError):
            return {"error": "the request is not understood"}
        if len(resource) > LONGEST_RESOURCE or not resource:
            return {"error": "`resource` is empty or too long"}
        try:
            principal = self._principal(credential)
            if principal is None:
                return {"error": "the identity of this instance is no longer there"}
            token = self.tokens.issue(principal.id, principal.client_id, resource.removesuffix("/.default"))
        except MooringsError as problem:
            logger.error("no token for an instance: %s", problem)
            return {"error": problem.failure.message}
        body = {
            "access_token": token.text,
            "expires_on": str(token.expires_at),
            "refresh_on": str(token.refresh_after),
            "resource": resource,
            "token_type": "Bearer",
            "client_id": principal.client_id,
        }
        return {"token": body}

    def _principal(self, credential: str) -> Principal | None:
        instance = unseal(self.cipher, credential)
        if instance is None:
            return None
        with self.database.read() as tx:
            endpoint = tx.resource(ENDPOINT, instance.endpoint)
            if endpoint is None or endpoint.uid != instance.uid:
                return None
            if tx.resource(DEPLOYMENT, f"{instance.endpoint}/{instance.deployment}") is None:
                return None
            return identity_of(tx, endpoint)
