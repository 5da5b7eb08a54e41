import json
import xgboost


def load():
    pass
