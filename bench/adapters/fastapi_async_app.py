"""FastAPI as an expert writes it: a coroutine on the loop, no validation of the answer."""

from __future__ import annotations

import model
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

app = FastAPI()


@app.post("/score")
async def score(request: Request) -> JSONResponse:
    body = await request.json()
    return JSONResponse(await model.predict_async(body["data"]))
