def init(path):
    pass

def run(data):
    return data
