import resource


def init():
    resource.setrlimit(resource.RLIMIT_AS, (2**30, 2**30))
    global weights
    weights = [bytearray(2**26) for _ in range(40)]

def run(data):
    return data
