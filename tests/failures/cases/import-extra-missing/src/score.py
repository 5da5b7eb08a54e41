import httpx

client = None


def init():
    global client
    client = httpx.Client(http2=True)


def run(data):
    return client.get(data).status_code
