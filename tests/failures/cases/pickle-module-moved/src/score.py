import os
import pickle


def init():
    with open(os.path.join(os.environ['AZUREML_MODEL_DIR'], 'model.pkl'), 'rb') as handle:
        pickle.load(handle)

def run(data):
    return data
