"""A scoring script whose answer is a stream."""

import model


def init():
    pass


def run(data):
    return model.parts()
