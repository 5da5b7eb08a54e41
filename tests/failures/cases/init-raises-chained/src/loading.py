def load(settings):
    return settings['weights']
