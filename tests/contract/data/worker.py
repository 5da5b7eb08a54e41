"""A worker that keeps the runtime contract and no more; the deployment's variables say how it behaves.

BOOT: ready (default) | fail | crash | hang      BOOT_S: seconds before it is ready      FLOOD: bytes to print
SPAWN: 1 starts a child in a session of its own    DRAIN: seconds it takes to stop
`GET /exit?code`, `/eat?MiB`, `/hang`, `/print?text` and `/env` make it do so; anything else is answered Healthy.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time

env = os.environ
path = env["MOORINGS_SOCKET"]
began = time.time()


def report(outcome, **more):
    keys = ("kind", "message", "traceback", "file", "line", "text", "missing")
    content = dict.fromkeys(keys)
    content.update({"outcome": outcome, "pid": os.getpid(), "seconds": time.time() - began}, **more)
    target = env["MOORINGS_BOOT_REPORT"]
    with open(target + ".tmp", "w") as handle:
        json.dump(content, handle)
    os.chmod(target + ".tmp", 0o600)
    os.replace(target + ".tmp", target)


def stop(_signum, _frame):
    time.sleep(float(env.get("DRAIN", "0")))
    print("drained", flush=True)
    os._exit(0)


print("booting worker", env["MOORINGS_WORKER_INDEX"], flush=True)
signal.signal(signal.SIGTERM, stop)
if env.get("SPAWN"):
    subprocess.Popen(["sleep", "300"], start_new_session=True)
time.sleep(float(env.get("BOOT_S", "0")))
boot = env.get("BOOT", "ready")
if boot == "fail":
    print("User's init function failed", flush=True)
    report("failed", kind="init_raised", message="ValueError: no", file="score.py", line=3, text="raise")
    sys.exit(3)
if boot == "crash":
    sys.exit(7)
if boot == "hang":
    time.sleep(300)

listener = socket.socket(socket.AF_UNIX)
temporary = f"{path}.{os.getpid()}"
listener.bind(temporary)
listener.listen(16)
os.rename(temporary, path)
report("ready")
print("ready", flush=True)
flood = int(env.get("FLOOD", "0"))
while flood > 0:
    os.write(1, b"x" * 4096 + b"\n" + os.urandom(4096))
    flood -= 8193
if env.get("FLOOD"):
    print("\nflood is over", flush=True)

while True:
    connection, _ = listener.accept()
    target = connection.recv(4096).split(b" ")[1].decode()
    route, _, argument = target.partition("?")
    body = "Healthy"
    if route == "/exit":
        os._exit(int(argument))
    if route == "/eat":
        eaten = b"x" * (int(argument) << 20)
    if route == "/hang":
        time.sleep(300)
    if route == "/print":
        print(argument, flush=True)
    if route == "/env":
        body = json.dumps({"env": dict(env), "cwd": os.getcwd()})
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    connection.sendall((head + body).encode())
    connection.close()
