"""BentoML: one service with one API, batched or streamed where the workload asks for it."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import bentoml
import model

WORKERS = int(os.environ["BENCH_WORKERS"])
SETTINGS: Any = {"workers": WORKERS, "traffic": {"timeout": 60}}
if model.WAITS:
    SETTINGS["threads"] = 32


if model.BATCHED:

    @bentoml.service(**SETTINGS)
    class Served:
        @bentoml.api(route="/score", batchable=True, max_batch_size=model.MAX_BATCH, max_latency_ms=1000)
        def score(self, data: list[list]) -> list[list]:
            return model.predict_batch(data)

elif model.WORKLOAD == "stream":

    @bentoml.service(**SETTINGS)
    class Served:
        @bentoml.api(route="/score")
        def score(self, data: list) -> Generator[str, None, None]:
            yield from model.parts()

else:

    @bentoml.service(**SETTINGS)
    class Served:
        @bentoml.api(route="/score")
        def score(self, data: list) -> list:
            return model.predict(data)
