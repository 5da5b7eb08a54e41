from numpy import array
