import urllib.request


def init():
    urllib.request.urlopen('http://127.0.0.1:9/model.bin', timeout=5)

def run(data):
    return data
