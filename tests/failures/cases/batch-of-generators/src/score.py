from moorings_server import batch


def init():
    pass


@batch(max_size=4)
def run(data):
    yield from data
