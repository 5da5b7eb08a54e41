class Mute(Exception):
    def __str__(self):
        raise ValueError


def init():
    pass


def run(data):
    raise Mute
