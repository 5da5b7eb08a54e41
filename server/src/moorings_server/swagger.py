"""The OpenAPI documents of `/swagger.json`: made from the service's name, or a user's file in their place.

Pure but for reading those files once at boot.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Optional
from urllib.parse import parse_qs

from moorings_server.settings import Settings

DEFAULT_VERSION = "2"
VERSIONS = {"2": "2", "2.0": "2", "3": "3", "3.0": "3", "3.1": "3.1"}
REPLACEMENTS = {"2": ("swagger.json", "swagger2.json"), "3": ("swagger3.json",), "3.1": ("swagger3.1.json",)}


class SwaggerDocuments:
    """The three documents as bytes, by version."""

    def __init__(self, settings: Settings) -> None:
        self._documents = {version: _document(version, settings) for version in REPLACEMENTS}

    def for_query(self, query: bytes) -> Optional[bytes]:
        """The document a query asks for, or None when there is no such version."""
        asked = version_of(query)
        return self._documents.get(VERSIONS.get(asked, ""))

    def refusal(self, query: bytes) -> str:
        """Why there is no document for this query."""
        return "Swagger version [%s] is not valid. Supported versions: [%s]." % (
            version_of(query),
            ", ".join(self._documents),
        )


def version_of(query: bytes) -> str:
    """The `version` in a query string, or the default."""
    values = parse_qs(query.decode("latin-1")).get("version")
    return values[0] if values else DEFAULT_VERSION


def _document(version: str, settings: Settings) -> bytes:
    for name in REPLACEMENTS[version]:
        path = os.path.join(settings.app_root, name)
        if os.path.isfile(path):
            try:
                with open(path, "rb") as handle:
                    return handle.read()
            except OSError:
                continue
    return json.dumps(generated(version, settings)).encode("ascii")


def generated(version: str, settings: Settings) -> Dict[str, Any]:
    """The document of a script that declares no schema: any JSON value in, any JSON value out."""
    info = {
        "title": settings.service_name,
        "description": "Scoring interface of %s" % settings.service_name,
        "version": settings.service_version,
    }
    prefix = "/" + settings.service_path_prefix.strip("/") if settings.service_path_prefix.strip("/") else ""
    health: Dict[str, Any] = {
        "operationId": "ServiceHealthCheck",
        "description": "Answers when a worker is ready to score",
    }
    score: Dict[str, Any] = {
        "operationId": "RunMLService",
        "description": "Calls run() of the scoring script",
    }
    paths = {prefix + "/": {"get": health}, prefix + "/score": {"post": score}}
    healthy = "A worker is ready; the body is the word Healthy"
    if version == "2":
        score.update(
            {
                "security": [{"Bearer": []}],
                "parameters": [
                    {
                        "name": "serviceInputPayload",
                        "in": "body",
                        "required": True,
                        "schema": {"$ref": "#/definitions/ServiceInput"},
                    }
                ],
                "responses": _responses(
                    {"schema": {"$ref": "#/definitions/ServiceOutput"}},
                    {"schema": {"$ref": "#/definitions/ErrorResponse"}},
                ),
            }
        )
        health["responses"] = {"200": {"description": healthy, "schema": {"type": "string"}}}
        return {
            "swagger": "2.0",
            "info": info,
            "schemes": ["https"],
            "consumes": ["application/json"],
            "produces": ["application/json"],
            "securityDefinitions": {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}},
            "paths": paths,
            "definitions": _schemas(),
        }
    content = "application/json"
    score.update(
        {
            "requestBody": {
                "required": True,
                "content": {content: {"schema": {"$ref": "#/components/schemas/ServiceInput"}}},
            },
            "responses": _responses(
                {"content": {content: {"schema": {"$ref": "#/components/schemas/ServiceOutput"}}}},
                {"content": {content: {"schema": {"$ref": "#/components/schemas/ErrorResponse"}}}},
            ),
            "security": [{"Bearer": []}],
        }
    )
    health["responses"] = {
        "200": {"description": healthy, "content": {"text/html": {"schema": {"type": "string"}}}}
    }
    return {
        "openapi": "3.0.3" if version == "3" else "3.1.0",
        "info": info,
        "paths": paths,
        "components": {
            "schemas": _schemas(),
            "securitySchemes": {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}},
        },
    }


def _responses(good: Dict[str, Any], bad: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "200": dict({"description": "What run() returned, as JSON"}, **good),
        "default": dict({"description": "The request was not scored; the message says why"}, **bad),
    }


def _schemas() -> Dict[str, Any]:
    return {
        "ServiceInput": {"type": "object", "example": {}},
        "ServiceOutput": {"type": "object", "example": {}},
        "ErrorResponse": {"type": "object", "properties": {"message": {"type": "string"}}},
    }
