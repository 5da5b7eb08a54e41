import json

x = = 1
