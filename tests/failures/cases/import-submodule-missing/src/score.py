from packaging.legacy import parse


def init():
    pass


def run(data):
    return 1
