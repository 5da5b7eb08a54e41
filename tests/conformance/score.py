"""The model of the conformance suite: does what the request says. Deploy it to run the table anywhere."""

import json
import time


def init():
    pass


def run(raw_data, request_headers):
    asked = json.loads(raw_data)
    if not isinstance(asked, dict) or "do" not in asked:
        return asked
    if asked["do"] == "sleep":
        time.sleep(asked["ms"] / 1000)
        return {"slept": asked["ms"]}
    if asked["do"] == "headers":
        return {name: request_headers.get(name.title()) for name in asked["names"]}
    if asked["do"] == "raise":
        raise ValueError(asked.get("text", "asked to fail"))
    if asked["do"] == "text":
        return "x" * asked["length"]
    if asked["do"] == "none":
        return None
    if asked["do"] == "unserialisable":
        return {1, 2, object()}
    raise LookupError(asked["do"])
