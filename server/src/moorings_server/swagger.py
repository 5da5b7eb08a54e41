"""The OpenAPI documents of `/swagger.json`: made from the service's name and the schema that a script declares, or a
user's file in their place.

Pure but for reading those files once at boot.
"""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Optional, Sequence
from urllib.parse import parse_qs

from moorings_server.settings import Settings

DEFAULT_VERSION = "2"
VERSIONS = {"2": "2", "2.0": "2", "3": "3", "3.0": "3", "3.1": "3.1"}
REPLACEMENTS = {"2": ("swagger.json", "swagger2.json"), "3": ("swagger3.json",), "3.1": ("swagger3.1.json",)}


class Schema:
    """What a script declares of its input and output (OpenAPI schema objects), and the versions that can express it:
    some of "2", "3", "3.1"."""

    def __init__(self, service_input: Any, service_output: Any, versions: Sequence[str]) -> None:
        self.input = service_input
        self.output = service_output
        self.versions = versions


NO_SCHEMA = Schema({"type": "object", "example": {}}, {"type": "object", "example": {}}, ("2", "3", "3.1"))


def schema_of(run: Any, schemas: Any) -> Schema:
    """What the schema package `schemas` has noted of a decorated `run`."""
    known = [VERSIONS[version] for version in schemas.get_supported_versions(run) if version in VERSIONS]
    return Schema(schemas.get_input_schema(run), schemas.get_output_schema(run), known)


class SwaggerDocuments:
    """The documents as bytes, by version; a version that cannot express the schema has none."""

    def __init__(self, settings: Settings, schema: Schema = NO_SCHEMA) -> None:
        found = {version: _document(version, settings, schema) for version in REPLACEMENTS}
        self._documents = {version: document for version, document in found.items() if document is not None}

    def for_query(self, query: bytes) -> Optional[bytes]:
        """The document a query asks for, or None when there is no such version."""
        asked = version_of(query)
        return self._documents.get(VERSIONS.get(asked, ""))

    def refusal(self, query: bytes) -> str:
        """Why there is no document for this query."""
        asked, have = version_of(query), ", ".join(self._documents)
        if asked in VERSIONS:
            said = "Swagger version [%s] is not supported for the scoring script. Supported swagger versions: [%s]."
            return said % (asked, have)
        return "Swagger version [%s] is not valid. Supported versions: [%s]." % (asked, have)


def version_of(query: bytes) -> str:
    """The `version` in a query string, or the default."""
    values = parse_qs(query.decode("latin-1")).get("version")
    return values[0] if values else DEFAULT_VERSION


def _document(version: str, settings: Settings, schema: Schema) -> Optional[bytes]:
    for name in REPLACEMENTS[version]:
        path = os.path.join(settings.app_root, name)
        if os.path.isfile(path):
            try:
                with open(path, "rb") as handle:
                    return handle.read()
            except OSError:
                continue
    if version not in schema.versions:
        return None
    try:
        return json.dumps(generated(version, settings, schema)).encode("ascii")
    except (TypeError, ValueError):  # a sample that has no JSON
        return None


def generated(version: str, settings: Settings, schema: Schema = NO_SCHEMA) -> Dict[str, Any]:
    """The document of a script; without a schema: any JSON value in, any JSON value out."""
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
            "definitions": _schemas(schema),
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
            "schemas": _schemas(schema),
            "securitySchemes": {"Bearer": {"type": "apiKey", "name": "Authorization", "in": "header"}},
        },
    }


def _responses(good: Dict[str, Any], bad: Dict[str, Any]) -> Dict[str, Any]:
    return {
        "200": dict({"description": "What run() returned, as JSON"}, **good),
        "default": dict({"description": "The request was not scored; the message says why"}, **bad),
    }


def _schemas(schema: Schema) -> Dict[str, Any]:
    return {
        "ServiceInput": schema.input,
        "ServiceOutput": schema.output,
        "ErrorResponse": {"type": "object", "properties": {"message": {"type": "string"}}},
    }
