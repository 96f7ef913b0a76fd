"""Long work speaks: a line when something new begins, and a sign of life in between, never a flood."""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import InfraError

Say = Callable[[str], None]
TAIL_LINES = 20  # what a failure shows
LINE_LENGTH = 160
_TERMINAL_CODE = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
GRACE_S = 10  # after SIGINT, for a command to put away what it made


@dataclass
class Progress:
    """The tail of a log, and a line of it every `every_s` seconds."""

    say: Say
    what: str
    every_s: float = 15.0
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=TAIL_LINES))
    _started: float = field(default_factory=time.monotonic)
    _said: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        """How long it has taken so far."""
        return time.monotonic() - self._started

    def line(self, text: str) -> None:
        """Keep a line of the log; say it when nothing was said for a while."""
        text = "".join(c if c.isprintable() else " " for c in _TERMINAL_CODE.sub("", text)).strip()[:LINE_LENGTH]
        if not text:
            return
        self.tail.append(text)
        if time.monotonic() - self._said >= self.every_s:
            self.announce(text)

    def announce(self, text: str) -> None:
        """Say a line now."""
        self._said = time.monotonic()
        self.say(f"  {self.what}, {self.seconds:.0f} s: {text}")

    def last_lines(self) -> str:
        """Return the tail, indented, for an error message."""
        return "".join(f"\n  | {line}" for line in self.tail)


def run(command: list[str], deadline: Deadline, progress: Progress) -> int:
    """Run a command of the host, feeding `progress`; return its exit status, or raise when the deadline passes.

    It is interrupted first and killed after a grace, so that it can remove its mounts and temporary files.
    """
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise InfraError(f"{command[0]} could not be started: {error}") from error
    pump = threading.Thread(target=_pump, args=(process, progress), daemon=True)
    pump.start()
    try:
        return process.wait(timeout=deadline.remaining_s)
    except subprocess.TimeoutExpired:
        raise InfraError(
            f"{progress.what} did not end within {deadline.budget_s:.0f} s. Its last lines:{progress.last_lines()}"
        ) from None
    finally:
        if process.poll() is None:
            _end(process)
        pump.join(timeout=GRACE_S)


def _pump(process: subprocess.Popen[str], progress: Progress) -> None:
    assert process.stdout is not None
    with process.stdout as lines:
        for line in lines:
            progress.line(line)


def _end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(timeout=GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
