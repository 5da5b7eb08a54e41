import os

address = ""


def init():
    global address
    address = os.environ.get("SERVICE_URL").rstrip("/")


def run(data):
    return 1
