"""Scoring script: ten measurements of a patient in, progression of the disease a year later out."""

import json
import logging
import os

import joblib
import numpy as np

model = None


def init():
    """Called once, when the instance starts."""
    global model
    path = os.path.join(os.environ["AZUREML_MODEL_DIR"], "model", "diabetes.joblib")
    model = joblib.load(path)
    print(f"loaded {path}: {type(model).__name__} with {model.n_features_in_} features")


def run(raw_data):
    """Called for every request: `{"data": [[ten numbers], ...]}` -> one number per row."""
    rows = np.array(json.loads(raw_data)["data"])
    logging.info("scoring %d rows", len(rows))
    return model.predict(rows).round(3).tolist()
