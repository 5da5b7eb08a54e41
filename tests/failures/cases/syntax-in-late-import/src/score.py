def init():
    import helper

    helper.load()


def run(data):
    return 1
