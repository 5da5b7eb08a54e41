import mmap


def init():
    mmap.mmap(-1, 1 << 46)


def run(data):
    return 1
