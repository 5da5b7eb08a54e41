import socket


def init():
    ours, theirs = socket.socketpair()
    ours.recv(1)
    theirs.close()

def run(data):
    return data
