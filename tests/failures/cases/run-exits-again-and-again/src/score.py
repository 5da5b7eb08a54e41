import os


def init():
    pass


def run(data):
    print('good bye', flush=True)
    os._exit(5)
