import glob
import socket
import sys

names = ["docker.sock", "containerd/containerd.sock", "podman/podman.sock", "crio/crio.sock"]
places = [f"{root}/{name}" for root in ("/run", "/var/run", "/host/run", "/mnt/run") for name in names]
# Abstract sockets belong to a network: the host's are in /proc/net/unix of a container that shares it.
abstract = [line.split()[-1] for line in open("/proc/net/unix").readlines()[1:] if "@" in line]
found = []
for place in [*places, *("\0" + name[1:] for name in abstract)]:
    with socket.socket(socket.AF_UNIX) as attempt:
        try:
            attempt.connect(place)
        except OSError:
            continue
        found.append(place)
disks = [name for name in glob.glob("/dev/*") if name.startswith(("/dev/sd", "/dev/vd", "/dev/nvme", "/dev/mem"))]
if found or disks:
    sys.exit(f"found {found} {disks}")
print("nothing found")
