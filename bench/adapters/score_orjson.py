"""The scoring script with the parser that other servers use; what `run()` gets is a text, how it reads it is its own
affair."""

import model
import orjson


def init():
    pass


def run(data):
    return model.predict(orjson.loads(data)["data"])
