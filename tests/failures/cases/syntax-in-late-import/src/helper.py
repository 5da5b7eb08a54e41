def load():
    return [1, 2
