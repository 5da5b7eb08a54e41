import sys


def init():
    sys.stdout.buffer.write(bytes(range(256)) * 20)
    sys.stdout.flush()
    assert False

def run(data):
    return data
