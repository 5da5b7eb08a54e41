import model


def init():
    model.load()

def run(data):
    return data
