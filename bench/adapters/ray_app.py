"""Ray Serve on one machine: a deployment behind its HTTP proxy."""

from __future__ import annotations

import signal
import sys

import model
import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import StreamingResponse

PORT, WORKERS = int(sys.argv[1]), int(sys.argv[2])


@serve.deployment(num_replicas=WORKERS, max_ongoing_requests=100, ray_actor_options={"num_cpus": 0})
class Served:
    @serve.batch(max_batch_size=model.MAX_BATCH, batch_wait_timeout_s=0.002)
    async def together(self, batch: list) -> list:
        return model.predict_batch(batch)

    async def __call__(self, request: Request):
        data = (await request.json())["data"]
        if model.BATCHED:
            return await self.together(data)
        if model.WORKLOAD == "stream":
            return StreamingResponse(model.parts(), media_type="text/plain")
        return await model.predict_async(data)


if __name__ == "__main__":
    ray.init(num_cpus=4, include_dashboard=False, log_to_driver=True)
    serve.start(http_options={"host": "127.0.0.1", "port": PORT})
    serve.run(Served.bind(), route_prefix="/score")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
