"""What the ecosystem's own clients are told about this workspace: variables of the environment. Changes nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from moorings.errors.exceptions import error

PATIENCE_S = 10.0
LOOPBACK = ("localhost", "127.0.0.1")
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")


def variables(access: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, str]:
    """Name -> value; `environ` is what is set already."""
    found = {
        "AZUREML_DEV_URL_MFE": str(access["baseUrl"]),
        "REQUESTS_CA_BUNDLE": str(access["caBundle"]),
        "IDENTITY_ENDPOINT": str(access["identityEndpoint"]),
        "IDENTITY_HEADER": str(access["identityHeader"]),
    }
    if any(environ.get(name) for name in _PROXIES):
        known = [
            name for name in environ.get("NO_PROXY", environ.get("no_proxy", "")).split(",") if name.strip()
        ]
        found["NO_PROXY"] = ",".join([*known, *(name for name in LOOPBACK if name not in known)])
    return found


def wait_until_answered(access: Mapping[str, Any], patience_s: float = PATIENCE_S) -> None:
    """Ask for a token just as a client will: with its certificates and its secret.

    Raises `ListenerUnreachable` when there was none within `patience_s`.
    """
    import ssl

    import httpx

    deadline = time.monotonic() + patience_s
    while True:
        try:
            context = ssl.create_default_context(cafile=str(access["caBundle"]))
            answer = httpx.get(
                str(access["identityEndpoint"]),
                headers={"X-IDENTITY-HEADER": str(access["identityHeader"])},
                params={"api-version": "2019-08-01", "resource": "https://management.azure.com"},
                verify=context,
                trust_env=False,
                timeout=5.0,
            )
            if answer.status_code == 200:
                return
            problem = f"HTTP {answer.status_code}"
        except (httpx.TransportError, OSError) as failed:
            problem = f"{type(failed).__name__}: {failed}"
        if time.monotonic() >= deadline:
            raise error(
                "ListenerUnreachable",
                f"no token from {access['identityEndpoint']} within {patience_s:g} s",
                target=str(access["baseUrl"]),
                evidence=(problem,),
            )
        time.sleep(0.2)
