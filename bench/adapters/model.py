"""The one model that every server serves: pure functions of a JSON list. `BENCH_WORKLOAD` names the one in use.

It runs in the environment of each server, so it needs numpy and scikit-learn and nothing else. As a program
(`python model.py OUT.json`) it writes the inputs of every workload with their right answers.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

WIDTH, HIDDEN, LAYERS, FEATURES = 16, 1024, 4, 10
LARGE_NUMBERS = 50_000
WAIT_S = 0.02
STREAM_PARTS, STREAM_GAP_S = 4, 0.005
MAX_BATCH = 64


def _weights() -> list[Any]:
    rng = np.random.RandomState(7)
    shapes = [(WIDTH, HIDDEN)] + [(HIDDEN, HIDDEN)] * LAYERS + [(HIDDEN, WIDTH)]
    return [(rng.standard_normal(shape) / np.sqrt(shape[0])).astype(np.float32) for shape in shapes]


def _regression() -> Any:
    from sklearn.linear_model import LinearRegression

    rng = np.random.RandomState(11)
    rows = rng.standard_normal((442, FEATURES))
    return LinearRegression().fit(rows, rows @ rng.standard_normal(FEATURES) + 1.0)


WORKLOAD = os.environ.get("BENCH_WORKLOAD", "echo")
WEIGHTS = _weights()
MODEL = _regression()


def echo(data: list[Any]) -> list[Any]:
    return data


def rows_predicted(data: list[Any]) -> list[Any]:
    return MODEL.predict(data).tolist()


def waited(data: list[Any]) -> list[Any]:
    time.sleep(WAIT_S)
    return data


def _network(rows: list[Any]) -> list[Any]:
    x = np.asarray(rows, dtype=np.float32)
    for weights in WEIGHTS[:-1]:
        x = np.maximum(x @ weights, 0)
    return (x @ WEIGHTS[-1]).tolist()


def network(data: list[Any]) -> list[Any]:
    return _network([data])[0]


def summed(data: list[Any]) -> list[Any]:
    return [len(data), float(np.asarray(data).sum())]


FUNCTIONS = {
    "echo": echo,
    "sklearn-1": rows_predicted,
    "sklearn-100": rows_predicted,
    "wait": waited,
    "matmul": network,
    "matmul-batch": network,
    "large": summed,
    "stream": echo,
}
predict = FUNCTIONS[WORKLOAD]
BATCHED = WORKLOAD == "matmul-batch"
WAITS = WORKLOAD == "wait"
POOL = ThreadPoolExecutor(32)
"""For coroutines that wait; the loop's own pool is smaller on a machine with few CPUs."""
TABLES = WORKLOAD.startswith("sklearn")
"""Whether the data is rows itself; else it is one row."""


def predict_batch(batch: list[Any]) -> list[Any]:
    """As `predict` of each, in one computation."""
    return _network(batch)


async def predict_async(data: list[Any]) -> list[Any]:
    """For servers that call a coroutine: the wait goes to a thread, the rest is computed where it is."""
    if WAITS:
        return await asyncio.get_running_loop().run_in_executor(POOL, predict, data)
    return predict(data)


def parts() -> Iterator[str]:
    """The stream: the first part holds the monotonic clock (ns) at the moment it was yielded."""
    yield f"{time.monotonic_ns()}\n"
    for number in range(STREAM_PARTS - 1):
        time.sleep(STREAM_GAP_S)
        yield f"{number}\n"


def _inputs(workload: str) -> list[Any]:
    rng = np.random.RandomState(3)
    if workload.startswith("sklearn"):
        rows = 100 if workload.endswith("100") else 1
        return [rng.standard_normal((rows, FEATURES)).round(6).tolist() for _ in range(64)]
    if workload.startswith("matmul"):
        return [rng.standard_normal(WIDTH).round(6).tolist() for _ in range(64)]
    if workload == "large":
        return [rng.standard_normal(LARGE_NUMBERS).tolist() for _ in range(4)]
    return [[number, 1.5, -2.25, 1000.0] for number in range(64)]


def main() -> None:
    cases = {
        name: [[data, function(data)] for data in _inputs(name)]
        for name, function in FUNCTIONS.items()
        if name != "stream"
    }
    with open(sys.argv[1], "w") as handle:
        json.dump(cases, handle)


if __name__ == "__main__":
    main()
