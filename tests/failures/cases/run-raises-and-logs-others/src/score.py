import json
import logging


def init():
    pass


def run(data):
    asked = json.loads(data)
    try:
        int("no number")
    except ValueError:
        if asked["raise"]:
            asked["rows"]
        logging.exception("handled")
    return 1
