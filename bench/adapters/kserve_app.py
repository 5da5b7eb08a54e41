"""KServe's own model server with a custom model, V1 protocol."""

from __future__ import annotations

import argparse

import kserve
import model


class Served(kserve.Model):
    def __init__(self) -> None:
        super().__init__("m")
        self.ready = True

    async def predict(self, payload, headers=None, response_headers=None):
        return {"predictions": await model.predict_async(payload["instances"])}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(parents=[kserve.model_server.parser])
    arguments, _ = parser.parse_known_args()
    kserve.ModelServer(workers=arguments.workers, http_port=arguments.http_port, enable_grpc=False).start(
        [Served()]
    )
