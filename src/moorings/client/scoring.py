"""Send one scoring request through the gateway, as a caller of the endpoint would. Knows no terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from moorings.client.client import Client
from moorings.client.transport import Answer
from moorings.errors.exceptions import MooringsError, error

TIMEOUT_S = 300.0
"""Longer than the longest request a deployment may allow (180 s) plus its queue."""
DEPLOYMENT_HEADER = "azureml-model-deployment"
_MODEL_ERROR_HEADERS = ("ms-azureml-model-error-statuscode", "ms-azureml-model-error-reason")
_SHOWN_HEADERS = (*_MODEL_ERROR_HEADERS, DEPLOYMENT_HEADER, "x-request-id", "x-ms-client-request-id")
_SHOWN_BODY_LINES = 40

_CODES = {
    401: "InvokeUnauthorized",
    404: "InvokeNotFound",
    408: "InvokeTimeout",
    413: "InvokeTooLarge",
    424: "InvokeModelFailed",
    429: "InvokeOverloaded",
}

Post = Callable[[str, Mapping[str, str], bytes, float], Answer]
"""`post(url, headers, body, timeout_s)`; raises `ConnectionError` when there is no answer."""


@dataclass(frozen=True)
class Scored:
    """A good answer of the model."""

    text: str
    deployment: str | None
    """Which deployment answered, where the gateway says so."""


def invoke(
    client: Client, endpoint: str, body: bytes, *, deployment: str | None = None, post: Post | None = None
) -> Scored:
    """POST `body` (JSON) to the endpoint with its primary key or a token.

    `deployment` goes around the traffic table. Raises EndpointNotFound, DeploymentNotFound,
    NoDeploymentToInvoke, and an `Invoke...` code with the evidence (status, headers, body) for every answer
    that is not 200 or 201.
    """
    found = client.endpoint(endpoint)
    _check_deployment(client, endpoint, deployment)
    properties = found.get("properties") or {}
    credential = _credential(client, endpoint, str(properties.get("authMode") or "Key"))
    headers = {"content-type": "application/json", "authorization": f"Bearer {credential}"}
    if deployment is not None:
        headers[DEPLOYMENT_HEADER] = deployment
    url = str(properties.get("scoringUri") or "")
    try:
        answer = (post or post_http)(url, headers, body, TIMEOUT_S)
    except ConnectionError as problem:
        raise error(
            "InvokeUnreachable", f"POST {url} got no answer", target=url, evidence=(str(problem),)
        ) from None
    if answer.status not in (200, 201):
        raise failed_scoring(answer, url, endpoint, deployment)
    return Scored(answer.body.decode(errors="replace"), answer.header(DEPLOYMENT_HEADER))


def post_http(url: str, headers: Mapping[str, str], body: bytes, timeout_s: float) -> Answer:
    """POST over TCP; proxies of the environment are not used: the gateway is this machine's."""
    import httpx

    try:
        response = httpx.post(url, content=body, headers=dict(headers), timeout=timeout_s, trust_env=False)
    except (httpx.TransportError, httpx.InvalidURL, httpx.UnsupportedProtocol) as problem:
        raise ConnectionError(f"{type(problem).__name__}: {problem}") from None
    return Answer(
        response.status_code,
        {k.lower(): v for k, v in response.headers.items()},
        response.content,
        response.reason_phrase,
    )


def failed_scoring(answer: Answer, url: str, endpoint: str, deployment: str | None) -> MooringsError:
    """The coded failure for an answer that is not a success."""
    served_by = deployment or answer.header(DEPLOYMENT_HEADER)
    fields: dict[str, object] = {"endpoint": endpoint}
    if served_by:
        fields["deployment"] = served_by
    evidence = [f"{name}: {answer.headers[name]}" for name in _SHOWN_HEADERS if name in answer.headers]
    lines = answer.body.decode(errors="replace").splitlines()
    evidence += lines[:_SHOWN_BODY_LINES]
    if len(lines) > _SHOWN_BODY_LINES:
        evidence.append(f"... {len(lines) - _SHOWN_BODY_LINES} more lines")
    return error(
        _CODES.get(answer.status, "InvokeFailed"),
        f"POST {url} answered {answer.status} {answer.reason}".rstrip(),
        target=url,
        evidence=evidence,
        fields=fields,
    )


def _check_deployment(client: Client, endpoint: str, deployment: str | None) -> None:
    names = [str(d.get("name")) for d in client.deployments(endpoint)]
    fields = {"endpoint": endpoint, "deployment": deployment}
    if not names:
        raise error("NoDeploymentToInvoke", f"No deployment exists for endpoint {endpoint}", fields=fields)
    if deployment is not None and deployment not in names:
        raise error(
            "DeploymentNotFound",
            f"Deployment {deployment} not found for endpoint {endpoint}",
            target=f"{endpoint}/{deployment}",
            evidence=(f"deployments of {endpoint}: {', '.join(sorted(names))}",),
            fields=fields,
        )


def _credential(client: Client, endpoint: str, auth_mode: str) -> str:
    if auth_mode.lower() == "key":
        return str(client.keys(endpoint).get("primaryKey") or "")
    return str(client.token(endpoint).get("accessToken") or "")
