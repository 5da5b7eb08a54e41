import time

print("working", flush=True)
time.sleep(3600)
