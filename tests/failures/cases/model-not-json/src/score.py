import os
import json


def init():
    with open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'model.pkl'), 'r') as handle:
        json.load(handle)

def run(data):
    return data
