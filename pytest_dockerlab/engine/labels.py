"""The labels on everything that is ours on an engine. `dockerlab.run` is a contract; the others serve the reaper."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path

RUN = "dockerlab.run"
PID = "dockerlab.pid"
BOOT = "dockerlab.boot"
HOST = "dockerlab.host"
STARTED = "dockerlab.started"
ROLE = "dockerlab.role"  # "train", "serve", "client", "inspect"


def new_run_id() -> str:
    """Return an id that no other run has."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"


@cache
def boot_id() -> str:
    """Return an id of this boot of this machine, so that a process id of an earlier boot is never taken for ours."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # no Linux: the host's name and its clock's start are the next best
        return f"{uuid.getnode():x}"


def run_labels(run_id: str, role: str) -> Mapping[str, str]:
    """Return the labels of one thing of one run."""
    return {
        RUN: run_id,
        ROLE: role,
        PID: str(os.getpid()),
        BOOT: boot_id(),
        STARTED: str(int(time.time())),
    }
