"""MLflow: a Python model from code. As a program it saves the model that `mlflow models serve` serves."""

from __future__ import annotations

import sys
from pathlib import Path

import mlflow
import model
import numpy as np


class Served(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model.predict(np.asarray(model_input).tolist())


if __name__ == "__main__":
    mlflow.pyfunc.save_model(
        sys.argv[1],
        python_model=Served(),
        code_paths=[str(Path(__file__).with_name("model.py"))],
        pip_requirements=[],
    )
