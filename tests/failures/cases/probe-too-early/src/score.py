import time


def init():
    begun = time.process_time()
    while time.process_time() - begun < 20:
        sum(range(10000))

def run(data):
    return data
