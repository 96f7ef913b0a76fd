"""The security profile, as data: compared with files that a reviewer reads.

`DOCKERLAB_UPDATE_GOLDEN=1 pytest tests/unit/test_sandbox.py` writes them anew; the diff is what to review.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest

from pytest_dockerlab import sandbox
from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.engine.base import DeviceGrant, ImageConfig, Mount

GOLDEN = Path(__file__).parents[1] / "golden" / "sandbox"
UPDATE = bool(os.environ.get("DOCKERLAB_UPDATE_GOLDEN"))
LABELS = {"dockerlab.run": "RUN"}
PLAIN = ImageConfig("sha256:1", 1, workdir="/app")
HOSTILE = ImageConfig(
    "sha256:2",
    1,
    workdir="/",
    user="root",
    env={
        "LD_PRELOAD": "/evil.so",
        "LD_AUDIT": "/evil.so",
        "NVIDIA_VISIBLE_DEVICES": "all",
        "CUDA_VISIBLE_DEVICES": "0",
        "NVIDIA_DRIVER_CAPABILITIES": "all",
        "OMP_NUM_THREADS": "64",
        "PATH": "/evil",
    },
    labels={"dockerlab.run": "forged"},
    volumes=("/var/run",),
)
GRANT = DeviceGrant(
    device_requests=({"driver": "nvidia", "device_ids": ["GPU-1"], "capabilities": [["gpu"]]},),
    env={"NVIDIA_VISIBLE_DEVICES": "GPU-1"},
)
SPECS = {
    "training": lambda: sandbox.training("lab:1", PLAIN, Limits(), LABELS, (Mount(Path("/host/mnist"), "/data"),)),
    "training-hostile-image": lambda: sandbox.training("lab:1", HOSTILE, Limits(), LABELS),
    "training-gpu": lambda: sandbox.training("lab:1", HOSTILE, Limits(), LABELS, grant=GRANT),
    "training-runsc": lambda: sandbox.training("lab:1", PLAIN, Limits(), LABELS, runtime="runsc"),
    "training-small": lambda: sandbox.training(
        "lab:1", PLAIN, Limits(memory="512MiB", cpus=0.5, pids=64, shm="64MiB"), LABELS
    ),
    "server": lambda: sandbox.server("lab:1", HOSTILE, Limits(), LABELS, "CLIENT"),
    "client": lambda: sandbox.client("client:1", LABELS, 421.5),
    "probe": lambda: sandbox.probe("lab:1", LABELS),
}


@pytest.mark.parametrize("name", SPECS)
def test_golden(name):
    shown = json.dumps(dataclasses.asdict(SPECS[name]()), indent=1, sort_keys=True, default=str) + "\n"
    path = GOLDEN / f"{name}.json"
    if UPDATE:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(shown)
    assert shown == path.read_text()


@pytest.mark.parametrize("name", SPECS)
def test_what_holds_for_all(name):
    spec = SPECS[name]()
    assert spec.cap_drop == ("ALL",)
    assert "no-new-privileges" in spec.security_opt
    assert spec.init
    assert spec.memory_bytes > 0
    assert spec.pids > 0
    assert spec.network == "none" or spec.network.startswith("container:")
    assert spec.labels == LABELS
    assert not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "MKNOD", "SYS_RESOURCE"} & set(spec.cap_add)
    assert all(mount.read_only for mount in spec.mounts)
    assert not [mount for mount in spec.mounts if "docker.sock" in str(mount.source)]


def test_what_an_image_could_do_to_us_is_switched_off():
    env = SPECS["training-hostile-image"]().env
    assert env["LD_PRELOAD"] == env["LD_AUDIT"] == env["CUDA_VISIBLE_DEVICES"] == ""
    assert env["NVIDIA_VISIBLE_DEVICES"] == "void"


def test_a_grant_is_what_is_visible():
    assert SPECS["training-gpu"]().env["NVIDIA_VISIBLE_DEVICES"] == "GPU-1"


@pytest.mark.parametrize(
    ("workdir", "targets"),
    [
        ("/app", ["/data", "/app/data"]),
        ("/workspace/mnist", ["/workspace/data", "/workspace/mnist/data", "/data"]),
        ("/", ["/data"]),
        ("/data", ["/data/data"]),
        ("/data/app", ["/data/data", "/data/app/data"]),
        ("relative/", ["/data", "/relative/data"]),
    ],
)
def test_where_data_is_mounted(workdir, targets):
    found = sandbox.data_targets(workdir)
    assert sorted(found) == sorted(targets)
    assert len(set(found)) == len(found)
