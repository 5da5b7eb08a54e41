def init():
    count = 0
    while True:
        count += 1

def run(data):
    return data
