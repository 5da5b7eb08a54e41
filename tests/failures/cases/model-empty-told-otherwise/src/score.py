import os
import pickle


def init():
    path = os.path.join(os.environ["AZUREML_MODEL_DIR"], "model.pkl")
    try:
        with open(path, "rb") as handle:
            pickle.load(handle)
    except Exception as problem:
        raise RuntimeError("the model cannot be used") from problem


def run(data):
    return 1
