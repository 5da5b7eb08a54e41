import ctypes


def init():
    pass


def run(data):
    return ctypes.string_at(0)
