"""The helper process of `engine.guard`: waits for the harness to end, ends its builders, becomes the clean-up.

While it waits it is a Python without site-packages: hundreds of megabytes would be wasted in a batch otherwise. What
removes things needs docker-py, so for that the process replaces itself.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys
import time
from pathlib import Path

from pytest_dockerlab.engine.labels import process_started

# What the harness says, a line each.
WATCH, UNWATCH, KEEP, LIVES, CLEAN = "watch", "unwatch", "keep", "lives", "clean"
READY = "ready"

GRACE_S = 3.0  # buildx takes up to 2 s to cancel a step after SIGTERM (measured on 0.13.1)
MAX_LINE = 4096


def is_run_id(text: str) -> bool:
    """Whether a text can be a run id, and so names one run only."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{3,99}", text) is not None


class Orders:
    """What the harness said so far."""

    def __init__(self) -> None:
        """Start with nothing said."""
        self.groups: dict[int, str] = {}  # process group -> when its leader started
        self.keep = False
        self.clean = False

    def take(self, line: str) -> None:
        """Take one line; one that can't be read, e.g. the last one of a harness killed while it wrote, is nothing."""
        word, *rest = line.split() or [""]
        if word == WATCH and len(rest) == 2 and rest[0].isdigit():
            self.groups[int(rest[0])] = rest[1]
        elif word == UNWATCH and len(rest) == 1 and rest[0].isdigit():
            self.groups.pop(int(rest[0]), None)
        elif word == KEEP:
            self.keep = True
        elif word == LIVES:  # the harness goes on, and so do its processes
            self.groups.clear()
        elif word == CLEAN:
            self.clean = True


def listen(pipe: int) -> Orders:
    """Read until the harness has closed its end, by itself or by dying."""
    orders = Orders()
    pending = b""
    while piece := os.read(pipe, MAX_LINE):
        *lines, pending = (pending + piece).split(b"\n")
        pending = pending[:MAX_LINE]
        for line in lines:
            orders.take(line.decode("ascii", "replace"))
    return orders


def end_groups(groups: dict[int, str], grace_s: float = GRACE_S) -> None:
    """End process groups: SIGTERM, a short grace, SIGKILL. One whose number is someone else's by now is left alone."""
    ours = [pgid for pgid, started in groups.items() if is_still(pgid, started)]
    for sign in (signal.SIGTERM, signal.SIGKILL):
        for pgid in ours:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pgid, sign)
        until = time.monotonic() + grace_s
        while ours and time.monotonic() < until:
            time.sleep(0.05)
            ours = [pgid for pgid in ours if _has_members(pgid)]


def is_still(pgid: int, started: str) -> bool:
    """Whether a process group is still the one whose leader started then.

    A number is not given out again while a group has it. So a group without its leader is the old one, unless the old
    one ended, another got its number and lost its leader too; that one would be no session of its own, as ours are.
    """
    now = process_started(pgid)
    if now is not None:
        return now == started
    return any(session == pgid for session in _members(pgid))


def _has_members(pgid: int) -> bool:
    if sys.platform == "linux":
        return bool(_members(pgid))
    try:
        os.killpg(pgid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _members(pgid: int) -> list[int]:
    """Return the session of each live process of a group, as far as the system tells."""
    sessions = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            line = entry.read_bytes()
        except OSError:
            continue
        state, _parent, group, session = line[line.rfind(b")") + 2 :].split()[:4]
        if int(group) == pgid and state not in (b"Z", b"X"):
            sessions.append(int(session))
    return sessions


def main() -> None:
    """Be the helper: `sys.argv` names the run, the Python and the program that cleans up."""
    run_id, python, clean_up = sys.argv[1:4]
    # No child of the harness, so that it is neither ended with the harness's process tree nor has to be waited for.
    if os.fork():
        os._exit(0)
    # The harness gets these with its whole group or session; what we have to do begins only when it has gone.
    for sign in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(sign, signal.SIG_IGN)
    os.write(1, f"{READY} {os.getpid()}\n".encode())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    orders = listen(0)
    if orders.clean:
        return
    end_groups(orders.groups)
    if not orders.keep and is_run_id(run_id):
        os.execv(python, [python, "-I", "-c", clean_up, run_id])  # noqa: S606  # no shell is wanted
