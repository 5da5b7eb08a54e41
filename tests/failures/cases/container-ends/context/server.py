import sys

print("no licence", flush=True)
sys.exit(3)
