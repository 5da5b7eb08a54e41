import time


def init():
    pass


def run(data):
    while True:
        time.sleep(0.1)
