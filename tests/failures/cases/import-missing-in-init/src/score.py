def init():
    import yaml

    yaml.safe_load('a: 1')

def run(data):
    return data
