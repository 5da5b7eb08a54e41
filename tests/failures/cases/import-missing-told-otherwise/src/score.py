try:
    import cv2
except ImportError:
    raise RuntimeError("vision is not available")


def init():
    pass


def run(data):
    return cv2.__version__
