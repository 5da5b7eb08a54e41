import json


def init():
    pass


def run(data):
    return json.loads(data)['rows'][0]
