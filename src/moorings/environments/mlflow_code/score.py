"""Scoring script of MLflow models that come without one: `{"input_data": ...}` in, list of predictions out.

Runs in the model's own environment, through `mlflow.pyfunc`; imports nothing of Moorings. Which forms of input there
are is said in `mlflow_input.py`. Python 3.8 syntax.
"""

import base64
import datetime
import json
import os

import mlflow.pyfunc
import numpy as np
import pandas as pd
from azureml.contrib.services.aml_response import AMLResponse
from mlflow.exceptions import MlflowException
from mlflow_input import InputError, read

model = None
schema = None


def init():
    global model, schema
    model = mlflow.pyfunc.load_model(_model_folder(os.environ["AZUREML_MODEL_DIR"]))
    schema = model.metadata.get_input_schema()
    print("input of the model: %s" % ("no signature" if schema is None else schema))


def run(raw_data):
    try:
        form, data, params = read(_parsed(raw_data), schema)
    except InputError as failure:
        return _refused(str(failure), failure.problems)
    try:
        answer = model.predict(data, params=params) if params else model.predict(data)
    except MlflowException as failure:
        if failure.get_http_status_code() != 400:
            raise
        return _refused(str(failure), [str(failure)])
    plain = _plain(answer)
    return plain if form == "input_data" else {"predictions": plain}


def _parsed(text):
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as failure:
        raise InputError(["the body is not valid JSON: %s" % failure]) from failure


def _refused(message, problems):
    return AMLResponse({"message": message, "problems": problems}, 400, json_str=True)


def _model_folder(root):
    """The folder with the file `MLmodel`, nearest to the root."""
    level = [root]
    while level:
        for folder in level:
            if os.path.isfile(os.path.join(folder, "MLmodel")):
                return folder
        level = [
            os.path.join(folder, name)
            for folder in level
            for name in sorted(os.listdir(folder))
            if os.path.isdir(os.path.join(folder, name))
        ]
    raise FileNotFoundError(2, "no MLmodel below the model folder", os.path.join(root, "MLmodel"))


def _plain(answer):
    """What JSON can say: arrays and frames as lists, times as ISO texts, bytes as base64."""
    if isinstance(answer, pd.DataFrame):
        return _plain(answer.to_dict(orient="records"))
    if isinstance(answer, np.ndarray) and answer.dtype.kind in "biufU":
        return answer.tolist()
    if hasattr(answer, "toarray"):  # sparse matrices
        return _plain(answer.toarray())
    if isinstance(answer, dict):
        return {str(name): _plain(value) for name, value in answer.items()}
    if isinstance(answer, (list, tuple, np.ndarray, pd.Series)):
        return [_plain(value) for value in answer]
    if isinstance(answer, (datetime.date, np.datetime64)):
        return None if pd.isna(answer) else pd.Timestamp(answer).isoformat()
    if isinstance(answer, bytes):
        return base64.b64encode(answer).decode("ascii")
    return answer.tolist() if hasattr(answer, "tolist") else answer
