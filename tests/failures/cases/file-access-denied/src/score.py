import os


def init():
    os.seteuid(65534)
    try:
        with open('/etc/shadow') as handle:
            handle.read()
    finally:
        os.seteuid(0)

def run(data):
    return data
