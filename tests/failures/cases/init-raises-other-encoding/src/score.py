import os


def init():
    raise ValueError(os.fsdecode(b'caf\xe9 ferm\xe9'))

def run(data):
    return data
