def init():
    raise RuntimeError('no licence for this model')

def run(data):
    return data
