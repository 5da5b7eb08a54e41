"""The routes of models, code, environments and data: containers, lists, versions, intakes under way. Handlers only translate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from moorings.api import wire
from moorings.api.assets import Assets, Listed
from moorings.api.bodies import Json, JsonBody
from moorings.errors.exceptions import error
from moorings.state.asset_rows import View
from moorings.state.lookup import CODES, DATA, ENVIRONMENTS, MODELS

PIECE_BYTES = 1 << 20
PAGE = 200
"""Items of a list in one answer, where the client does not say how many it wants."""


def router(assets: Assets, workspace: str) -> APIRouter:
    """Routes below the workspace; `workspace` is its ARM path."""
    routes = APIRouter()
    for kind in (CODES, MODELS, ENVIRONMENTS, DATA):
        _containers(routes, assets, workspace, kind)
        _versions(routes, assets, workspace, kind)

    @routes.get("/intakes/{intake}")
    def intake(intake: str) -> Json:
        found = assets.intakes.progress(intake)
        if found is None:
            raise error("OperationNotFound", f"no intake {intake} is under way", target=intake)
        return {
            "id": f"{workspace}/intakes/{intake}",
            "name": intake,
            "status": "InProgress",
            "properties": {
                "doneBytes": found.done_bytes,
                "totalBytes": found.total_bytes,
                "file": found.file,
            },
        }

    return routes


class _Listing:
    """The query of a list: `$orderBy`, `$top`, `$skip`, `listViewType`, `stage`, `hash`."""

    def __init__(
        self,
        order: Annotated[str | None, Query(alias="$orderBy")] = None,
        top: Annotated[int | None, Query(alias="$top", ge=1)] = None,
        skip: Annotated[int, Query(alias="$skip", ge=0)] = 0,
        view: Annotated[str | None, Query(alias="listViewType")] = None,
        stage: Annotated[str | None, Query()] = None,
        hash_: Annotated[str | None, Query(alias="hash")] = None,
    ) -> None:
        self.top = top
        self.listed = Listed(
            view=_view(view),
            stage=stage,
            hash=hash_,
            oldest_first=_oldest_first(order),
            top=PAGE + 1 if top is None else top,
            skip=skip,
        )

    def answer(self, request: Request, found: list[Any], document: Callable[[Any], Json]) -> Json:
        """A page, with the address of the next one where there is more than was asked for at once."""
        if self.top is not None or len(found) <= PAGE:
            return {"value": [document(each) for each in found]}
        following = request.url.include_query_params(**{"$skip": self.listed.skip + PAGE})
        return {"value": [document(each) for each in found[:PAGE]], "nextLink": str(following)}


def _containers(routes: APIRouter, assets: Assets, workspace: str, kind: str) -> None:
    @routes.get(f"/{kind}", name=f"list {kind} containers")
    def containers(request: Request, listing: Annotated[_Listing, Depends()]) -> Json:
        found = assets.containers(kind, listing.listed)
        return listing.answer(request, found, lambda each: wire.container_json(each[0], each[1], workspace))

    @routes.get(f"/{kind}/{{name}}", name=f"get {kind} container")
    def get(name: str) -> Json:
        return wire.container_json(*assets.container(kind, name), workspace)

    @routes.put(f"/{kind}/{{name}}", name=f"put {kind} container")
    def put(name: str, body: JsonBody) -> Response:
        found, numbering, created = assets.put_container(kind, name, _properties(body))
        document = wire.container_json(found, numbering, workspace)
        return JSONResponse(document, status_code=201 if created else 200)


def _versions(routes: APIRouter, assets: Assets, workspace: str, kind: str) -> None:
    @routes.get(f"/{kind}/{{name}}/versions", name=f"list {kind}")
    def versions(name: str, request: Request, listing: Annotated[_Listing, Depends()]) -> Json:
        found = assets.versions(kind, name, listing.listed)
        return listing.answer(request, found, lambda each: wire.asset_json(each, workspace))

    @routes.post(f"/{kind}/{{name}}/versions", name=f"register next {kind}")
    def register(name: str, body: JsonBody, intake: str | None = None) -> Response:
        """Of our own: the version is the next number, chosen in the transaction that registers it."""
        asset, created = assets.put(kind, name, None, _properties(body), intake_id=intake)
        return JSONResponse(wire.asset_json(asset, workspace), status_code=201 if created else 200)

    @routes.get(f"/{kind}/{{name}}/versions/{{version}}", name=f"get {kind}")
    def get(name: str, version: str) -> Json:
        return wire.asset_json(assets.get(kind, name, version), workspace)

    @routes.put(f"/{kind}/{{name}}/versions/{{version}}", name=f"put {kind}")
    def put(name: str, version: str, body: JsonBody, intake: str | None = None) -> Response:
        asset, created = assets.put(kind, name, version, _properties(body), intake_id=intake)
        return JSONResponse(wire.asset_json(asset, workspace), status_code=201 if created else 200)

    @routes.get(f"/{kind}/{{name}}/versions/{{version}}/files", name=f"list files of {kind}")
    def files(name: str, version: str) -> Json:
        """Of our own: what a version consists of; paths are percent-encoded, as they may be any bytes."""
        return wire.tree_json(assets.tree(kind, name, version))

    @routes.get(f"/{kind}/{{name}}/versions/{{version}}/files/{{sha256}}", name=f"read file of {kind}")
    def content(name: str, version: str, sha256: str) -> Response:
        path, size_bytes = assets.file(kind, name, version, sha256)
        headers = {"content-length": str(size_bytes)}
        return StreamingResponse(_pieces(path), media_type="application/octet-stream", headers=headers)


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as handle:
        while piece := handle.read(PIECE_BYTES):
            yield piece


def _properties(body: Json) -> Json:
    properties = body.get("properties")
    if not isinstance(properties, dict):
        raise error("RequestInvalid", "properties is missing", target="properties")
    return properties


def _view(text: str | None) -> View:
    if text is None:
        return View.ACTIVE
    for view in View:
        if text.lower() == view.lower():
            return view
    expected = ", ".join(View)
    raise error("RequestInvalid", f"listViewType is {text!r}: expected {expected}", target="listViewType")


def _oldest_first(text: str | None) -> bool:
    words = (text or "createdtime desc").lower().split()
    if words in (["createdtime"], ["createdtime", "asc"]):
        return True
    if words == ["createdtime", "desc"]:
        return False
    message = f"$orderBy is {text!r}: expected `createdtime desc` or `createdtime asc`"
    raise error("RequestInvalid", message, target="$orderBy")
