def init():
    print 'loading'

def run(data):
    return data
