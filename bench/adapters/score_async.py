"""The scoring script as a coroutine: several requests at once without threads."""

import json

import model


def init():
    pass


async def run(data):
    return await model.predict_async(json.loads(data)["data"])
