"""The labels on everything that is ours on an engine. `dockerlab.run` is a contract; the others serve the reaper.

A process id alone says little: ids come back, also after a boot, and each container counts its own. So an owner is a
process id *and* the moment at which that process started, seen from one process namespace of one boot of one machine.

Standard library only: the helper of `engine.guard` waits with this module in its memory.
"""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from functools import cache
from pathlib import Path

RUN = "dockerlab.run"
PID = "dockerlab.pid"
BORN = "dockerlab.born"  # when that process started, as its system tells it
NAMESPACE = "dockerlab.namespace"  # in which namespace the process id counts; empty where there are none
BOOT = "dockerlab.boot"
HOST = "dockerlab.host"
STARTED = "dockerlab.started"
KEEP = "dockerlab.keep"  # "1": --dockerlab-keep, so only a person removes it
ROLE = "dockerlab.role"  # "train", "serve", "client", "inspect"

PS_S = 5.0  # `ps` answers in milliseconds


def new_run_id() -> str:
    """Return an id that no other run has."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{uuid.uuid4().hex[:8]}"


@cache
def boot_id() -> str:
    """Return an id of this boot of this machine, so that a process id of an earlier boot is never taken for ours."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:  # no Linux: the network card's address is the next best
        return f"{uuid.getnode():x}"


@cache
def boot_time() -> float | None:
    """Return when this machine started, in seconds since 1970; `None` where only `boot_id` could tell."""
    try:
        lines = Path("/proc/stat").read_text().splitlines()
    except OSError:
        return None
    return next((float(line.split()[1]) for line in lines if line.startswith("btime ")), None)


@cache
def host_id() -> str:
    """Return an id of this machine that outlives a boot. Hashed: a machine's id is to be kept confidential."""
    try:
        machine = Path("/etc/machine-id").read_text().strip()
    except OSError:
        machine = ""
    return hashlib.sha256(f"dockerlab\0{machine}\0{socket.gethostname()}".encode()).hexdigest()[:16]


@cache
def pid_namespace() -> str:
    """Return the namespace in which our process ids count, e.g. `pid:[4026531836]`; empty where there are none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def process_started(pid: int) -> str | None:
    """Return when a process started, in its system's own words; `None` where there is none, or only its corpse.

    On Linux, clock ticks since the boot; elsewhere what `ps` says, to the second.
    """
    if sys.platform == "linux":
        try:
            line = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return None
        # The name stands in brackets and may hold anything, brackets too.
        fields = line[line.rfind(b")") + 2 :].split()
        return None if fields[0] in (b"Z", b"X") else fields[19].decode()
    try:
        told = subprocess.run(
            ["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, timeout=PS_S, check=False
        ).stdout.split(maxsplit=1)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if len(told) < 2 or told[0].startswith("Z") else told[1].strip()


def run_labels(run_id: str, role: str, *, keep: bool = False) -> Mapping[str, str]:
    """Return the labels of one thing of one run.

    Every label has a value each time: what a student's Dockerfile says under the same name must not shine through.
    """
    return {
        RUN: run_id,
        ROLE: role,
        PID: str(os.getpid()),
        BORN: process_started(os.getpid()) or "",
        NAMESPACE: pid_namespace(),
        BOOT: boot_id(),
        HOST: host_id(),
        STARTED: str(int(time.time())),
        KEEP: "1" if keep else "0",
    }
