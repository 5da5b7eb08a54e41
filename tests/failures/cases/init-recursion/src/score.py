def init():
    init()

def run(data):
    return data
