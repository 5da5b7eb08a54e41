"""The scoring script with batching: `run()` gets what is waiting as a list."""

import json

import model

from moorings_server import batch


def init():
    pass


@batch(max_size=model.MAX_BATCH)
def run(batch):
    return model.predict_batch([json.loads(each)["data"] for each in batch])
