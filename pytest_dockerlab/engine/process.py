"""Run a child process with a deadline, and hand on its output a line at a time."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.guard import watched

MAX_LINE = 1 << 20  # a line longer than this is handed on in pieces
GRACE_S = 5.0  # buildx takes up to 2 s to cancel a step after SIGTERM (measured on 0.13.1)


@dataclass(frozen=True)
class ProcessEnd:
    """How a child ended. `exit_code` is negative for a signal."""

    exit_code: int
    timed_out: bool


def end_group(process: subprocess.Popen[bytes], grace_s: float = GRACE_S) -> None:
    """End a child and all that it started: SIGTERM, a short grace, SIGKILL. Also where only what it started is left."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_s)


def run_process(
    argv: list[str],
    deadline: Deadline,
    on_line: Callable[[bytes], None],
    stdin: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> ProcessEnd:
    """Run `argv` in a process group of its own; stdout and stderr come to `on_line` in the order in which they came.

    At the deadline, and on any exception (Ctrl-C too), the whole group is ended before this returns.
    """
    with contextlib.ExitStack() as stack:
        source = stack.enter_context(stdin.open("rb")) if stdin else subprocess.DEVNULL
        process = subprocess.Popen(
            argv,
            stdin=source,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=dict(env) if env is not None else None,
        )
        stack.enter_context(watched(process.pid))  # ended too, should we be killed
        assert process.stdout is not None
        output = process.stdout
        # Bounded, so that a child that floods us waits instead of filling our memory.
        lines: queue.Queue[bytes | None] = queue.Queue(maxsize=1000)
        stopping = threading.Event()

        def put(item: bytes | None) -> None:
            while not stopping.is_set():
                with contextlib.suppress(queue.Full):
                    lines.put(item, timeout=0.5)
                    return

        def pump() -> None:
            while line := output.readline(MAX_LINE):
                put(line)
            put(None)

        reader = threading.Thread(target=pump, name="dockerlab-process-output", daemon=True)
        reader.start()
        timed_out = False
        ended: Deadline | None = None
        try:
            while True:
                if deadline.passed:
                    timed_out = process.poll() is None
                    break
                if ended is None and process.poll() is not None:
                    ended = deadline.sooner(GRACE_S)
                try:
                    line = lines.get(timeout=min(0.5, max(0.01, deadline.remaining_s)))
                except queue.Empty:
                    if ended is not None and ended.passed:
                        break  # something that it started holds its output open
                    continue
                if line is None:
                    break
                on_line(line)
            if not timed_out:
                try:
                    process.wait(deadline.remaining_s)
                except subprocess.TimeoutExpired:
                    timed_out = True
        finally:
            stopping.set()
            if process.poll() is None or reader.is_alive():
                end_group(process)
            reader.join(timeout=2)
            output.close()
        return ProcessEnd(process.returncode, timed_out)
