"""Scoring script of MLflow models that come without one: `{"input_data": ...}` in, list of predictions out.

Runs in the model's own environment, through `mlflow.pyfunc`; imports nothing of Moorings. Input forms: a frame in split
form (`columns`, `data`, optional `index`), a list of rows, a tensor, or named tensors; optional `params` beside.
"""

import json
import os

import mlflow.pyfunc
import numpy as np
import pandas as pd

model = None


def init():
    global model
    model = mlflow.pyfunc.load_model(_model_folder(os.environ["AZUREML_MODEL_DIR"]))


def run(raw_data):
    document = json.loads(raw_data)
    if not isinstance(document, dict) or "input_data" not in document:
        raise ValueError('the request must be a JSON object with the key "input_data"')
    params = document.get("params")
    data = _input(document["input_data"])
    answer = model.predict(data, params=params) if params else model.predict(data)
    return _plain(answer)


def _model_folder(root):
    """The folder with the file `MLmodel`, nearest to the root."""
    for folder, _, files in os.walk(root):
        if "MLmodel" in files:
            return folder
    raise FileNotFoundError(2, "no MLmodel below the model folder", os.path.join(root, "MLmodel"))


def _input(given):
    if isinstance(given, dict) and "data" in given and "columns" in given:
        return _typed(pd.DataFrame(data=given["data"], columns=given["columns"], index=given.get("index")))
    if isinstance(given, dict):
        return {name: np.asarray(values) for name, values in given.items()}
    signature = model.metadata.get_input_schema()
    if signature is not None and not signature.is_tensor_spec() and signature.has_input_names():
        return _typed(pd.DataFrame(given, columns=signature.input_names()))
    return np.asarray(given)


def _typed(frame):
    """JSON has one kind of number: whole ones become floats where the signature says double or float."""
    signature = model.metadata.get_input_schema()
    if signature is None or signature.is_tensor_spec():
        return frame
    for column in signature.inputs:
        if column.name in frame and str(column.type) in ("DataType.double", "DataType.float"):
            frame[column.name] = frame[column.name].astype(
                "float64" if "double" in str(column.type) else "float32"
            )
    return frame


def _plain(answer):
    if isinstance(answer, pd.DataFrame):
        return answer.to_dict(orient="records")
    if isinstance(answer, dict):
        return {name: _plain(value) for name, value in answer.items()}
    return answer.tolist() if hasattr(answer, "tolist") else answer
