import ast
import os

LIMITS = ast.literal_eval(os.environ["LIMITS"])


def init():
    pass


def run(data):
    return LIMITS[data]
