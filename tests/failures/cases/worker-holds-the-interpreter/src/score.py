import ctypes


def init():
    pass


def run(data):
    while True:
        ctypes.PyDLL(None).sleep(600)
