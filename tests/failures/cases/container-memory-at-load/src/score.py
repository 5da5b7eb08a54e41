def init():
    global weights
    weights = b'w' * (5 * 2**30)

def run(data):
    return data
