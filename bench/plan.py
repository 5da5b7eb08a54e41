"""What is measured: the workloads, and for each the clients, the words of its data on each wire, the right answer.

Values only; knows nothing of servers or processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

CLIENTS = (1, 16, 64)


@dataclass(frozen=True)
class Workload:
    name: str
    title: str
    clients: tuple[int, ...] = CLIENTS
    tolerance: float = 0.0
    """How far (absolute) a number of an answer may be from the right one."""
    streamed: bool = False


WORKLOADS = {
    each.name: each
    for each in (
        Workload("echo", "echo of a small body"),
        Workload("sklearn-1", "scikit-learn, 1 row", tolerance=1e-6),
        Workload("sklearn-100", "scikit-learn, 100 rows", tolerance=1e-6),
        Workload("wait", "20 ms wait", clients=(32,)),
        Workload("matmul", "numpy network, one request a call", tolerance=1e-3),
        Workload("matmul-batch", "numpy network, batched by the server", tolerance=1e-3),
        Workload("large", "1 MB body", tolerance=1e-3),
        Workload("stream", "stream, first byte", clients=(1,), streamed=True),
    )
}


@dataclass(frozen=True)
class Protocol:
    """One way to put a JSON list into a request body and to take the answer out of the body that comes back."""

    path: str
    wrap: Callable[[Workload, list[Any]], Any]
    unwrap: Callable[[Any], Any]


def _tensor(workload: Workload, data: list[Any]) -> Any:
    rows = data if workload.name.startswith("sklearn") else [data]
    flat = [number for row in rows for number in row]
    shape = [len(rows), len(rows[0])]
    return {"inputs": [{"name": "data", "shape": shape, "datatype": "FP64", "data": flat}]}


def _bentoml(workload: Workload, data: list[Any]) -> Any:
    return {"data": [data] if workload.name == "matmul-batch" else data}


PLAIN = Protocol("/score", lambda _, data: {"data": data}, lambda answer: answer)
BENTOML = Protocol("/score", _bentoml, lambda answer: answer)
V1 = Protocol("/v1/models/m:predict", lambda _, d: {"instances": d}, lambda answer: answer["predictions"])
V2 = Protocol("/v2/models/m/infer", _tensor, lambda answer: answer["outputs"][0]["data"])
MLFLOW = Protocol("/invocations", lambda _, d: {"inputs": d}, lambda answer: answer["predictions"])


def body(protocol: Protocol, workload: Workload, data: list[Any]) -> bytes:
    return json.dumps(protocol.wrap(workload, data)).encode()


def right(protocol: Protocol, workload: Workload, answer: bytes, expected: Any) -> bool:
    """Whether the body of a 200 holds the numbers that were to be computed, whatever their nesting."""
    try:
        given, wanted = flat(protocol.unwrap(json.loads(answer))), flat(expected)
    except (ValueError, KeyError, TypeError, IndexError):
        return False
    close = all(abs(a - b) <= workload.tolerance for a, b in zip(given, wanted, strict=False))
    return len(given) == len(wanted) and close


def flat(value: Any) -> list[float]:
    """All numbers of nested lists; ValueError or TypeError when there is anything else."""
    if isinstance(value, list):
        return [number for item in value for number in flat(item)]
    return [float(value)]
