"""Users, service principals, their tokens and the audit log over HTTP. Handlers only translate."""

from __future__ import annotations

import time
from urllib.parse import parse_qsl

from fastapi import APIRouter, Response
from starlette.requests import Request
from starlette.responses import JSONResponse

from moorings.api.bodies import Json, JsonBody
from moorings.api.callers import Callers, shown
from moorings.errors.exceptions import error
from moorings.security.audit import AuditLog
from moorings.security.callers import CALLER
from moorings.security.identity_tokens import ISSUER, TENANT
from moorings.state.principal_rows import SERVICE_PRINCIPAL, USER

_KINDS = {"servicePrincipals": SERVICE_PRINCIPAL, "users": USER}
MOST_RECORDS = 10_000
TOKEN_PATHS = ("/oauth2/v2.0/token", "/oauth2/token")
CONFIGURATION_PATH = "/.well-known/openid-configuration"
KEYS_PATH = "/discovery/v2.0/keys"


def router(callers: Callers) -> APIRouter:
    """Routes below the resource group."""
    routes = APIRouter(prefix="/providers/Microsoft.Graph")

    @routes.post("/tokens")
    def token(body: JsonBody, response: Response) -> Json:
        """`{"principal", "resource"}`: a token for a user or service principal, at the owner's word."""
        resource = str(body.get("resource") or "https://management.azure.com")
        whom, made = callers.token_for(str(body.get("principal") or ""), resource)
        response.headers["Cache-Control"] = "no-store"
        return {
            "accessToken": made.text,
            "expires_on": made.expires_at,
            "expiresOn": time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(made.expires_at)),
            "principalId": whom.id,
            "tenant": TENANT,
            "tokenType": "Bearer",
        }

    @routes.get("/{kind}")
    def list_principals(kind: str) -> Json:
        return {"value": [shown(each) for each in callers.principals(_kind(kind))]}

    @routes.get("/{kind}/{name}")
    def show(kind: str, name: str) -> Json:
        return dict(shown(callers.principal(_kind(kind), name)))

    @routes.post("/{kind}")
    def create(kind: str, body: JsonBody, response: Response) -> Json:
        made, secret = callers.create(_kind(kind), str(body.get("displayName") or ""))
        response.status_code = 201
        response.headers["Cache-Control"] = "no-store"
        return {**shown(made), "tenant": TENANT, **({"password": secret} if secret else {})}

    @routes.post("/servicePrincipals/{name}/reset")
    def reset(name: str, response: Response) -> Json:
        made, secret = callers.reset(name)
        response.headers["Cache-Control"] = "no-store"
        return {**shown(made), "tenant": TENANT, "password": secret}

    @routes.delete("/{kind}/{name}")
    def delete(kind: str, name: str) -> Response:
        return Response(status_code=200 if callers.delete(_kind(kind), name) else 204)

    return routes


def audit_router(log: AuditLog) -> APIRouter:
    """Routes below the workspace."""
    routes = APIRouter()

    @routes.get("/auditLog")
    def records(tail: int = 100) -> Json:
        """The last records, oldest first; `brokenAt` where a line was changed or taken out."""
        return {"value": log.tail(max(1, min(tail, MOST_RECORDS))), "brokenAt": log.broken_at()}

    return routes


def is_open(path: str) -> bool:
    """Whether a path is for those who have no token yet."""
    return path.endswith((*TOKEN_PATHS, CONFIGURATION_PATH, KEYS_PATH)) and not path.startswith(
        "/subscriptions/"
    )


async def sign_in(request: Request, callers: Callers) -> Response:
    """What a directory answers: its configuration, its keys, and tokens for those who show their secret."""
    path, base = request.url.path, str(request.base_url).rstrip("/")
    tenant = path.split("/")[1]
    if path.endswith(KEYS_PATH):
        return Response(callers.tokens.public_keys(), media_type="application/json")
    if path.endswith(CONFIGURATION_PATH):
        token_path = "/oauth2/token" if tenant == "adfs" else "/oauth2/v2.0/token"
        return JSONResponse(
            {
                "issuer": ISSUER,
                "authorization_endpoint": f"{base}/{tenant}/oauth2/authorize",
                "token_endpoint": f"{base}/{tenant}{token_path}",
                "jwks_uri": f"{base}/{tenant}{KEYS_PATH}",
            }
        )
    form = dict(parse_qsl((await request.body())[:65536].decode("utf-8", "replace")))
    if request.method != "POST" or form.get("grant_type") != "client_credentials":
        return _refused(400, "unsupported_grant_type", "grant_type: expected client_credentials")
    resource = form.get("scope") or form.get("resource") or "https://management.azure.com"
    token = callers.token_by_secret(form.get("client_id", ""), form.get("client_secret", ""), resource)
    if token is None:
        return _refused(401, "invalid_client", "client_id or client_secret is wrong: moor ad sp list")
    request.scope[CALLER] = callers.by_client(form["client_id"])
    body = {
        "token_type": "Bearer",
        "expires_in": max(0, token.expires_at - int(time.time())),
        "access_token": token.text,
    }
    return JSONResponse(body, headers={"Cache-Control": "no-store"})


def _refused(status: int, code: str, message: str) -> Response:
    return JSONResponse({"error": code, "error_description": message}, status_code=status)


def _kind(text: str) -> str:
    found = _KINDS.get(text)
    if found is None:
        raise error("ResourceNotFound", f"nothing is called {text}", target=text)
    return found
