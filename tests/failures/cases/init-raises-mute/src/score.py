class Mute(Exception):
    def __str__(self):
        raise ValueError('no words')


def init():
    raise Mute

def run(data):
    return data
