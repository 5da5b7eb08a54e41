"""FastAPI as its documentation shows it: a body model and a plain function, run on the thread pool."""

from __future__ import annotations

import model
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

app = FastAPI()


class Input(BaseModel):
    data: list


if model.WORKLOAD == "stream":

    @app.post("/score")
    def score(body: Input) -> StreamingResponse:
        return StreamingResponse(model.parts(), media_type="text/plain")

else:

    @app.post("/score")
    def score(body: Input) -> list:
        return model.predict(body.data)
