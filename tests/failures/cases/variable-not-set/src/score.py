import os

KEY = os.environ['SERVICE_KEY']


def init():
    pass

def run(data):
    return data
