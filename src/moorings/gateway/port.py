"""Whether the gateway's port can be listened on, and who has it otherwise. Must know nothing of Envoy: a check before a
deployment asks too."""

from __future__ import annotations

import errno
import os
import socket

from moorings.errors.exceptions import Failure, failure
from moorings.errors.sentence import sentence


def port_problem(bind: str, port: int) -> Failure | None:
    """Why the port can't be listened on, as a coded failure that names who has it where the system tells;
    else None."""
    with socket.socket(socket.AF_INET6 if ":" in bind else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((bind, port))
        except OSError as problem:
            if problem.errno != errno.EADDRINUSE:
                message = f"the gateway can't listen on {bind}:{port}: {problem.strerror}"
                return failure("GatewayCannotListen", message, fields={"port": port})
        else:
            return None
    holder = port_holder(port)
    by = f" by {holder}" if holder else ""
    return failure(
        "GatewayPortInUse",
        f"port {port} on {bind} is taken{by}, so the gateway can't listen on it",
        evidence=[f"bind {bind}:{port}: {os.strerror(errno.EADDRINUSE)}"],
        fields={"port": port, "holder": holder or sentence("another program")},
    )


def port_holder(port: int) -> str | None:
    """`name (pid n)` of the process that listens on the port; None where the system won't tell."""
    import psutil  # only for a port that is taken

    try:
        for connection in psutil.net_connections(kind="tcp"):
            if connection.status != psutil.CONN_LISTEN or not connection.pid:
                continue
            if connection.laddr and connection.laddr[1] == port:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        return None
    return None
