"""The routes of rollouts, below their endpoint; what they mean is in `rollouts.py`."""

from __future__ import annotations

from fastapi import APIRouter

from moorings.api.bodies import Json, JsonBody
from moorings.api.rollouts import Rollouts, rollout_json


def router(rollouts: Rollouts, workspace: str) -> APIRouter:
    """Rollouts have names; `latest` stands for the newest one."""
    made = APIRouter(prefix="/onlineEndpoints/{endpoint}/rollouts")

    @made.get("")
    def list_rollouts(endpoint: str) -> Json:
        return {"value": [rollout_json(row, workspace) for row in rollouts.rollouts(endpoint)]}

    @made.post("")
    def start(endpoint: str, body: JsonBody) -> Json:
        given = {key: value for key, value in body.items() if key != "name"}
        return rollout_json(rollouts.start(endpoint, str(body.get("name") or ""), given), workspace)

    @made.get("/{rollout}")
    def get_rollout(endpoint: str, rollout: str) -> Json:
        return rollout_json(rollouts.rollout(endpoint, rollout), workspace)

    @made.get("/{rollout}/report")
    def report(endpoint: str, rollout: str) -> Json:
        return rollouts.report(endpoint, rollout)

    @made.post("/{rollout}/pause")
    def pause(endpoint: str, rollout: str) -> Json:
        return rollout_json(rollouts.wish(endpoint, rollout, "pause"), workspace)

    @made.post("/{rollout}/resume")
    def resume(endpoint: str, rollout: str) -> Json:
        return rollout_json(rollouts.wish(endpoint, rollout, "resume"), workspace)

    @made.post("/{rollout}/abort")
    def abort(endpoint: str, rollout: str) -> Json:
        return rollout_json(rollouts.wish(endpoint, rollout, "abort"), workspace)

    return made
