"""SIGTERM and SIGHUP end a run as Ctrl-C does: every `finally` runs, so nothing stays on the engine.

GitHub Actions cancels a job with SIGINT, SIGTERM after 7.5 s and SIGKILL 2.5 s later. The first of them unwinds, the
next one ends the process at once; what is left then is the work of `engine.guard`'s helper, as after SIGKILL.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

# `timeout` and some CI systems send a signal to the process and to its group, so it comes twice: that is one wish.
SAME_WISH_S = 1.0


class Terminated(KeyboardInterrupt):
    """The process was asked to end. A `KeyboardInterrupt`, so that pytest, click and our own code treat it as one."""

    def __init__(self, signum: int) -> None:
        """Keep which signal it was."""
        super().__init__(f"ended by {signal.Signals(signum).name}")
        self.signum = signum


@contextlib.contextmanager
def orderly_termination() -> Iterator[None]:
    """Turn the first of the signals into `Terminated` in the main thread; a second one ends the process at once.

    In another thread nothing is changed, since only the main thread may. A signal that is ignored stays ignored:
    `nohup` and background jobs rely on it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first: float | None = None

    def handle(signum: int, _frame: FrameType | None) -> None:
        nonlocal first
        now = time.monotonic()
        if first is None:
            first = now
            raise Terminated(signum)
        if now - first > SAME_WISH_S:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)

    former = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        for number, was in former.items():
            if was is not signal.SIG_IGN:
                signal.signal(number, handle)
        yield
    finally:
        for number, was in former.items():
            # `None`: a handler that was not set from Python, and that Python can't put back.
            signal.signal(number, was if was is not None else signal.SIG_DFL)
