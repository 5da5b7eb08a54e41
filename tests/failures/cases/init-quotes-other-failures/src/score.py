SEEN = [
    "MemoryError: std::bad_alloc",
    "OSError: [Errno 28] No space left on device",
    "ImportError: libGL.so.1: cannot open shared object file: No such file or directory",
    "ModuleNotFoundError: No module named 'torch'",
    "PermissionError: [Errno 13] Permission denied: '/model'",
]


def init():
    raise RuntimeError("the last run ended with " + ", ".join(SEEN))


def run(data):
    return 1
