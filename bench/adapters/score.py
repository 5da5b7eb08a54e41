"""The scoring script: for Moorings and for azureml-inference-server-http alike."""

import json

import model


def init():
    pass


def run(data):
    return model.predict(json.loads(data)["data"])
