from http.server import BaseHTTPRequestHandler, HTTPServer


def init():
    HTTPServer(('127.0.0.1', 0), BaseHTTPRequestHandler).serve_forever()

def run(data):
    return data
