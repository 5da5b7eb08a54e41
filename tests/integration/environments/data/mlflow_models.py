"""Run in an environment with MLflow: saves small models below the folder named on the command line."""

import os
import sys

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, ParamSchema, ParamSpec, Schema, TensorSpec
from sklearn.linear_model import LinearRegression


class Rows(mlflow.pyfunc.PythonModel):
    """Says what each row holds, with the types it has."""

    def predict(self, context, model_input, params=None):
        kinds = ",".join(str(kind) for kind in model_input.dtypes)
        rows = [[str(value) for value in row] for row in model_input.itertuples(index=False)]
        return [{"kinds": kinds, "row": row} for row in rows]


class Sums(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        if isinstance(model_input, dict):
            return {name: array.sum(axis=tuple(range(1, array.ndim))) for name, array in model_input.items()}
        return model_input.sum(axis=1)


class Scaled(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return model_input["x"] * (params or {}).get("factor", 1.0)


class Shape(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input, params=None):
        return [f"{type(model_input).__name__} {list(np.shape(model_input))}"]


class Odd(mlflow.pyfunc.PythonModel):
    """Answers that are no plain JSON."""

    def predict(self, context, model_input, params=None):
        return pd.DataFrame(
            {"when": pd.to_datetime(["2024-02-29"]), "raw": [b"\x00\xff"], "n": [np.int64(3)]}
        )


def save(name, model, signature):
    needs = ["mlflow", "cloudpickle", "pandas", "numpy"]
    mlflow.pyfunc.save_model(
        os.path.join(sys.argv[1], name), python_model=model, signature=signature, pip_requirements=needs
    )


if __name__ == "__main__":
    columns = [
        ColSpec("double", "d"),
        ColSpec("long", "n"),
        ColSpec("string", "s"),
        ColSpec("boolean", "b"),
        ColSpec("datetime", "t"),
        ColSpec("float", "o", required=False),
    ]
    save("columns", Rows(), ModelSignature(Schema(columns)))
    save("tensor", Sums(), ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 2))])))
    named = [TensorSpec(np.dtype("float64"), (-1, 2), "a"), TensorSpec(np.dtype("int64"), (-1,), "b")]
    save("named", Sums(), ModelSignature(Schema(named)))
    params = ParamSchema([ParamSpec("factor", "double", 1.0)])
    save("params", Scaled(), ModelSignature(Schema([ColSpec("double", "x")]), params=params))
    save("bare", Shape(), None)
    save("odd", Odd(), None)
    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0], "y": [0.0, 1.0, 0.0]})
    fitted = LinearRegression().fit(frame, [3.0, 6.0, 7.0])
    mlflow.sklearn.save_model(
        fitted,
        os.path.join(sys.argv[1], "sklearn"),
        signature=ModelSignature(Schema([ColSpec("double", "x"), ColSpec("double", "y")])),
    )
