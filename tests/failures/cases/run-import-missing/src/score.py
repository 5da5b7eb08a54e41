def init():
    pass


def run(data):
    import pandas

    return pandas.DataFrame(data).sum()
