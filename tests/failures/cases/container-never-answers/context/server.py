import socket
import time

listener = socket.create_server(("", 8501))
time.sleep(3600)
