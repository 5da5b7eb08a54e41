import deep.loader


def init():
    deep.loader.load()

def run(data):
    return data
