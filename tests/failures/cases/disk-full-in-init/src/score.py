def init():
    with open('/dev/full', 'w') as handle:
        handle.write('cache')

def run(data):
    return data
