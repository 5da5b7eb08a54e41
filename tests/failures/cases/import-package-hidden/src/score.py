from packaging.version import Version


def init():
    pass


def run(data):
    return 1
