import pathlib
import sys
import time

time.sleep(3)
if pathlib.Path("/app/checked").exists():
    sys.exit("the health check ran")
print("no health check")
