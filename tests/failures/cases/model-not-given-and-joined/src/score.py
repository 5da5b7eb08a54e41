import os


def init():
    path = os.path.join(os.getenv("AZUREML_MODEL_DIR"), "model.txt")
    print(open(path).read())


def run(data):
    return 1
