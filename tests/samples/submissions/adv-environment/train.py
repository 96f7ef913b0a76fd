import os
import sys

given = {name: os.environ.get(name, "") for name in ("LD_PRELOAD", "LD_AUDIT", "NVIDIA_DRIVER_CAPABILITIES")}
print(given, os.environ["NVIDIA_VISIBLE_DEVICES"])
if any(given.values()) or os.environ["NVIDIA_VISIBLE_DEVICES"] != "void":
    sys.exit("the image's environment went through")
print("all overridden")
