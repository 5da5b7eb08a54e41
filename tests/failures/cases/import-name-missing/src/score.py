from json import JSONStreamer


def init():
    pass

def run(data):
    return data
