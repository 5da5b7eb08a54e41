import cv2


def init():
    pass

def run(data):
    return data
