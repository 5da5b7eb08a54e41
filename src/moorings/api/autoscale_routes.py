"""Autoscale settings over HTTP, in the shape of `Microsoft.Insights/autoscaleSettings`. Handlers only translate."""

from __future__ import annotations

from fastapi import APIRouter, Response

from moorings.api.autoscale import AutoscaleSettings
from moorings.api.bodies import Json, JsonBody


def router(settings: AutoscaleSettings) -> APIRouter:
    """Routes below the resource group."""
    routes = APIRouter(prefix="/providers/Microsoft.Insights/autoscaleSettings")

    @routes.get("")
    def list_settings() -> Json:
        return {"value": settings.all()}

    @routes.get("/{name}")
    def show(name: str) -> Json:
        return settings.get(name)

    @routes.put("/{name}")
    def put(name: str, body: JsonBody, response: Response) -> Json:
        document, created = settings.put(name, body)
        response.status_code = 201 if created else 200
        return document

    @routes.patch("/{name}")
    def patch(name: str, body: JsonBody) -> Json:
        """Tags, and the parts of `properties` that are given."""
        there = settings.get(name)
        given = body.get("properties")
        properties = {**there["properties"], **(given if isinstance(given, dict) else {})}
        return settings.put(
            name, {**there, "tags": body.get("tags", there["tags"]), "properties": properties}
        )[0]

    @routes.delete("/{name}")
    def delete(name: str) -> Response:
        return Response(status_code=200 if settings.delete(name) else 204)

    return routes
