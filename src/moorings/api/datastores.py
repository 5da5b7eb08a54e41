"""The datastore of the workspace, signed addresses for uploads, and how clients get in. Handlers only translate."""

from __future__ import annotations

import secrets
import shlex
from typing import Protocol

from fastapi import APIRouter, Request

from moorings.api.blobs import Blobs
from moorings.api.bodies import Json, JsonBody
from moorings.api.guard import ACCESS_PATH, IDENTITY_PATH
from moorings.api.listener import Access
from moorings.errors.exceptions import MooringsError, error
from moorings.lib.timing import Clock
from moorings.security.access import ALL_RIGHTS, MAX_SIGNED_HOURS, AccessKeys, signed_query
from moorings.spec.blob_places import ACCOUNT, BLOB_PATH, DEFAULT_CONTAINER, BlobPlace
from moorings.spec.datastore_uris import DEFAULT_DATASTORE
from moorings.state.lookup import CODES, ENVIRONMENTS, MODELS

UPLOAD_HOURS = 8
"""How long the address of a pending upload holds."""


class ClientListener(Protocol):
    """The listener, as far as it matters here."""

    @property
    def base_url(self) -> str | None: ...

    @property
    def clock(self) -> Clock: ...

    def keys(self) -> AccessKeys: ...

    async def turn_on(self) -> Access: ...

    async def turn_off(self) -> None: ...


def router(listener: ClientListener, blobs: Blobs, workspace: str) -> APIRouter:
    """Routes below the workspace; `workspace` is its ARM path."""
    routes = APIRouter()
    _datastores(routes, listener, workspace)
    _blobs(routes, listener, blobs)
    for kind in (CODES, MODELS, ENVIRONMENTS):
        _pending_uploads(routes, listener, kind)

    @routes.post(ACCESS_PATH)
    async def client_access(body: JsonBody) -> Json:
        """`{"on": true}` opens the listener and says how to get in; `{"on": false}` closes it and forgets the secrets."""
        if body.get("on") is False:
            await listener.turn_off()
            return {"on": False}
        if body.get("on") is not True:
            raise error("RequestInvalid", "on: expected true or false", target="on")
        access = await listener.turn_on()
        return {
            "on": True,
            "baseUrl": access.base_url,
            "caBundle": access.ca_bundle,
            "identityEndpoint": f"{access.base_url}{IDENTITY_PATH}",
            "identityHeader": access.identity_header,
        }

    return routes


def _datastores(routes: APIRouter, listener: ClientListener, workspace: str) -> None:
    def document() -> Json:
        # Clients join "https://", the account's name, ".blob." and the endpoint: whatever follows our own
        # address in the name becomes a part of the path.
        base = _base_url(listener).removeprefix("https://")
        return {
            "id": f"{workspace}/datastores/{DEFAULT_DATASTORE}",
            "name": DEFAULT_DATASTORE,
            "type": "Microsoft.MachineLearningServices/workspaces/datastores",
            "properties": {
                "datastoreType": "AzureBlob",
                "accountName": f"{base}{BLOB_PATH}{ACCOUNT}",
                "containerName": DEFAULT_CONTAINER,
                "endpoint": "core.windows.net",
                "protocol": "https",
                "isDefault": True,
                "credentials": {"credentialsType": "Sas"},
                "description": "Uploads of clients, on the disk of this machine.",
                "tags": {},
                "properties": {},
            },
        }

    @routes.get("/datastores")
    def list_datastores() -> Json:
        return {"value": [document()]}

    @routes.get("/datastores/{datastore}")
    def get_datastore(datastore: str) -> Json:
        _known(datastore)
        return document()

    @routes.post("/datastores/{datastore}/listSecrets")
    def list_secrets(datastore: str, body: JsonBody | None = None) -> Json:
        _known(datastore)
        _base_url(listener)
        hours = (body or {}).get("expireAfterHours")
        if not isinstance(hours, int | float) or isinstance(hours, bool) or not 0 < hours <= MAX_SIGNED_HOURS:
            hours = 1
        ends = listener.clock.now() + hours * 3600
        token = signed_query(listener.keys(), DEFAULT_CONTAINER, rights=ALL_RIGHTS, expires_at=ends)
        return {"secretsType": "Sas", "sasToken": token}


def _blobs(routes: APIRouter, listener: ClientListener, blobs: Blobs) -> None:
    @routes.get("/blobExists")
    def blob_exists(account: str, container: str, name: str) -> Json:
        """Whether there is such a blob; where there is none, one that lies in a folder of that name."""
        base = (listener.base_url or "").removeprefix("https://")
        accounts = (ACCOUNT, f"{base}{BLOB_PATH}{ACCOUNT}")
        if account.removeprefix("https://") not in accounts:
            raise _not_ours(
                f"the account of this workspace is {ACCOUNT}, not {account[:80]}", "account", name
            )
        known = container == DEFAULT_CONTAINER or blobs.listed(container, "", after="", top=1)
        if not known:
            message = (
                f"the container of this workspace is {DEFAULT_CONTAINER}; nothing is in {container[:80]}"
            )
            raise _not_ours(message, "container", name)
        found = blobs.find(BlobPlace(container, name))
        if found is not None:
            return {"exists": found.path.is_file()}  # a store that has lost the file is why somebody asks
        below = blobs.listed(container, f"{name.rstrip('/')}/", after="", top=1)
        return {"exists": False, "below": below[0].name if below else None}


def _not_ours(message: str, target: str, name: str) -> MooringsError:
    fields = {"account": ACCOUNT, "container": DEFAULT_CONTAINER, "name": shlex.quote(name)}
    return error("BlobStoreUnknown", message, target=target, fields=fields)


def _pending_uploads(routes: APIRouter, listener: ClientListener, kind: str) -> None:
    @routes.post(f"/{kind}/{{name}}/versions/{{version}}/startPendingUpload", name=f"begin upload {kind}")
    def begin(name: str, version: str, request: Request) -> Json:
        upload = secrets.token_hex(16)
        container = f"{upload}-{kind.removesuffix('s')}"
        uri = f"{_base_url(listener)}{BLOB_PATH}{ACCOUNT}/{container}"
        ends = listener.clock.now() + UPLOAD_HOURS * 3600
        query = signed_query(listener.keys(), container, rights=ALL_RIGHTS, expires_at=ends)
        return {
            "pendingUploadId": upload,
            "pendingUploadType": "TemporaryBlobReference",
            "blobReferenceForConsumption": {
                "blobUri": uri,
                "storageAccountArmId": f"/subscriptions/local/resourceGroups/local/providers"
                f"/Microsoft.Storage/storageAccounts/{ACCOUNT}",
                "credential": {"credentialType": "SAS", "sasUri": f"{uri}?{query}"},
            },
        }


def _base_url(listener: ClientListener) -> str:
    url = listener.base_url
    if url is None:
        raise error("ListenerOff", "nothing listens for uploads", target="datastores")
    return url


def _known(datastore: str) -> None:
    if datastore.lower() != DEFAULT_DATASTORE:
        message = f"this workspace has one datastore, {DEFAULT_DATASTORE}; not {datastore[:80]}"
        raise error("ResourceNotFound", message, target=datastore)
