"""LitServe: its API class, batched, streamed or asynchronous where the workload asks for it."""

from __future__ import annotations

import sys

import litserve
import model


class Served(litserve.LitAPI):
    def setup(self, device) -> None:
        pass

    def decode_request(self, request):
        return request["data"]

    def predict(self, data):
        return model.predict_batch(data) if model.BATCHED else model.predict(data)

    def encode_response(self, output):
        return output


class Waiting(litserve.LitAPI):
    def setup(self, device) -> None:
        pass

    async def decode_request(self, request):
        return request["data"]

    async def predict(self, data):
        return await model.predict_async(data)

    async def encode_response(self, output):
        return output


class Streamed(Served):
    def predict(self, data):
        yield from model.parts()

    def encode_response(self, output):
        yield from output


def main() -> None:
    port, workers = int(sys.argv[1]), int(sys.argv[2])
    if model.BATCHED:
        api = Served(api_path="/score", max_batch_size=model.MAX_BATCH, batch_timeout=0.002)
    elif model.WAITS:
        api = Waiting(api_path="/score", enable_async=True)
    elif model.WORKLOAD == "stream":
        api = Streamed(api_path="/score", stream=True)
    else:
        api = Served(api_path="/score")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, timeout=60)
    server.run(host="127.0.0.1", port=port, generate_client_file=False)


if __name__ == "__main__":
    main()
