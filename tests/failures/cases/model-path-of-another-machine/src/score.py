import os
import pickle


def init():
    with open('/home/anna/model.pkl', 'rb') as handle:
        pickle.load(handle)

def run(data):
    return data
