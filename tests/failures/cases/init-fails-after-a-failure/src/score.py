import ctypes

WAYS = {"fast": 1}


def init():
    try:
        ctypes.CDLL("libfast-maths.so.2")
    except OSError as problem:
        print("without the fast library:", problem)
        WAYS["slow"]


def run(data):
    return 1
