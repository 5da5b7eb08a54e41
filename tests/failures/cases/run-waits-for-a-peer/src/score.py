import socket

listener = None


def init():
    global listener
    listener = socket.create_server(("127.0.0.1", 0))


def run(data):
    with socket.create_connection(listener.getsockname()) as peer:
        return peer.recv(16).decode()
