import loading


def init():
    try:
        loading.load({})
    except KeyError as problem:
        raise RuntimeError('the settings are not complete') from problem

def run(data):
    return data
