"""MLServer with a custom runtime, V2 protocol; its adaptive batching joins requests along the first axis."""

from __future__ import annotations

import model
import numpy as np
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Served(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        rows = NumpyCodec.decode_input(payload.inputs[0]).tolist()
        if model.BATCHED:
            found = model.predict_batch(rows)
        elif model.TABLES:
            found = [[value] for value in model.predict(rows)]
        else:
            found = [await model.predict_async(rows[0])]
        output = NumpyCodec.encode_output("result", np.asarray(found, dtype=np.float64))
        return InferenceResponse(model_name=self.name, outputs=[output])
