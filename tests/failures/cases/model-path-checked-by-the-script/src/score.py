import os


def init():
    path = os.path.join(os.environ["AZUREML_MODEL_DIR"], "v2", "model.txt")
    if not os.path.exists(path):
        raise FileNotFoundError(f"no model at {path}")


def run(data):
    return 1
