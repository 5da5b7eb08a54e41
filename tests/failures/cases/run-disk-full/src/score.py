def init():
    pass


def run(data):
    with open("/dev/full", "w") as handle:
        handle.write(data)
    return 1
