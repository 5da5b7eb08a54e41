import time


def init():
    time.sleep(600)

def run(data):
    return data
