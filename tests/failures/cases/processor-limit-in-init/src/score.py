import resource


def init():
    resource.setrlimit(resource.RLIMIT_CPU, (1, 60))
    while True:
        pass


def run(data):
    return 1
