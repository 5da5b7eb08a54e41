import json

import sklearn.linear_model


def init():
    pass


def run(data):
    return data
