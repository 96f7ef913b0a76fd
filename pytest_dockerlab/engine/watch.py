"""Watch one container from its start to its end: pump its output, keep the limits, say how it ended."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import disk
from pytest_dockerlab.engine.base import Engine
from pytest_dockerlab.engine.files import ContainerFiles
from pytest_dockerlab.engine.logfile import CappedLog
from pytest_dockerlab.errors import EngineUnavailable, InfraError
from pytest_dockerlab.facts import Ended

POLL_S = 0.25
USAGE_EVERY_S = 1.0  # one sample costs the engine a few ms
DISK_EVERY_S = 2.0  # the engine walks the writable layer for it
COUNT_S = 60.0  # 1.5 million files are listed in 20 s
DRAIN_S = 5.0  # what an ended container wrote last is read for at most this long


@dataclass(frozen=True)
class Watched:
    """What was seen of a container's life."""

    ended: Ended
    exit_code: int | None
    seconds: float
    cpu_s: float | None
    peak_bytes: int | None
    written_bytes: int | None
    log_bytes: int
    log_truncated: bool
    log_tail: tuple[str, ...]
    error: str | None = None


class Watch:
    """Runs one created container to its end.

    The output goes to `log` (head and tail, capped) and, raw, to `on_output` with the seconds since the start.
    `on_tick` is called about every second, for measurements of GPUs.
    """

    def __init__(
        self,
        engine: Engine,
        container: str,
        limits: Limits,
        log: Path,
        on_output: Callable[[bytes, float], None] = lambda _data, _at: None,
        on_tick: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare; nothing starts yet."""
        self._engine = engine
        self._container = container
        self._limits = limits
        self._log = CappedLog(log, limits.log)
        self._on_output = on_output
        self._on_tick = on_tick
        self._over_output = threading.Event()
        self._stop = threading.Event()
        self._pump_error: BaseException | None = None
        self._started = 0.0
        self._cpu_s: float | None = None
        self._peak: int | None = None
        self._written: int | None = None
        self._before = 0  # a volume begins with what the image has in its place
        self._new_files = disk.NewFiles(disk.data_root(engine.info()))
        self._too_many_files = threading.Event()
        self._counter: threading.Thread | None = None

    def run(self, deadline: Deadline) -> Watched:
        """Start the container, watch it until it ends or has to be ended. The container is not removed."""
        if self._engine.mounts(self._container):
            self._before = self._engine.written_bytes(self._container) or 0
        stream = self._engine.output(self._container)
        self._started = time.monotonic()
        pump = threading.Thread(target=self._pump, args=(stream,), name="dockerlab-log-pump", daemon=True)
        try:
            error = self._engine.start(self._container)
            if error is not None:
                return self._result(Ended.START_FAILED, None, error)
            pump.start()
            ended = self._until_end(deadline)
            if ended is not Ended.EXITED:
                # Before the drain: what runs on writes on, and nothing but the time limit would end the reading.
                with contextlib.suppress(InfraError):
                    self._engine.kill(self._container)
            pump.join(DRAIN_S)
            if self._pump_error is not None:
                raise InfraError(f"The log could not be kept: {self._pump_error}") from self._pump_error
        finally:
            with contextlib.suppress(InfraError):
                self._engine.kill(self._container)
            self._log.close()
        state = self._engine.state(self._container)
        if ended is Ended.EXITED and state.oom_killed:
            ended = Ended.OOM
        elif ended is Ended.EXITED and self._over_output.is_set():
            ended = Ended.OUTPUT_LIMIT
        elif ended is Ended.EXITED and state.exit_code in (137, 143):
            # Nobody here sent a signal: the kernel, an operator, or the program itself did.
            ended = Ended.KILLED
        over = self._over_disk()
        if self._counter is not None:
            self._counter.join(COUNT_S)
        if ended is Ended.EXITED and (over or self._too_many_files.is_set()):
            ended = Ended.DISK_LIMIT  # faster than anybody could measure
        error = state.error
        if ended is Ended.DISK_LIMIT and self._too_many_files.is_set():
            error = f"It made more than {disk.MAX_FILES:,} files."
        return self._result(ended, state.exit_code, error or None)

    def stop(self) -> None:
        """End the container from another thread; `run` returns soon."""
        self._stop.set()

    def tail(self) -> str:
        """Return the end of what was written so far."""
        return "\n".join(self._log.last_lines(400))

    def last_lines(self) -> tuple[str, ...]:
        """Return the last lines of what was written so far."""
        return self._log.last_lines()

    def _pump(self, stream: object) -> None:
        try:
            for data in stream:  # type: ignore[attr-defined]
                if self._over_output.is_set():
                    # Read on, and drop it: an engine whose reader stands still can't end the container (seen on 26.1.5,
                    # `kill` did not come back within four minutes).
                    continue
                self._log.write(data)
                self._on_output(data, time.monotonic() - self._started)
                if self._log.seen > self._limits.output:
                    self._over_output.set()
        except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
            self._pump_error = error

    def _until_end(self, deadline: Deadline) -> Ended:
        next_usage = next_disk = time.monotonic()
        for _ in deadline.poll(POLL_S):
            state = self._engine.state(self._container)
            if not state.running:
                return Ended.EXITED
            if self._over_output.is_set():
                return Ended.OUTPUT_LIMIT
            if self._stop.is_set():
                return Ended.STOPPED
            if self._pump_error is not None:
                return Ended.EXITED
            now = time.monotonic()
            if now >= next_usage:
                next_usage = now + USAGE_EVERY_S
                self._sample()
                self._on_tick()
            if now >= next_disk:
                over = self._over_disk()
                # Measuring a full layer takes long: never spend more than about a fifth of the time on it.
                next_disk = time.monotonic() + max(DISK_EVERY_S, 4 * (time.monotonic() - now))
                if over:
                    return Ended.DISK_LIMIT
        return Ended.TIMED_OUT

    def _over_disk(self) -> bool:
        """Measure what the container wrote; whether that is more than it may, in bytes or in files."""
        with contextlib.suppress(InfraError):
            written = self._engine.written_bytes(self._container)
            self._written = None if written is None else max(0, written - self._before)
        counting = self._counter is not None and self._counter.is_alive()
        if not counting and not self._too_many_files.is_set() and self._new_files.count() > disk.MAX_FILES:
            self._counter = threading.Thread(target=self._count_files, name="dockerlab-file-count", daemon=True)
            self._counter.start()
        return self._too_many_files.is_set() or (self._written or 0) > self._limits.disk

    def _count_files(self) -> None:
        """Tell whether the files that appeared on the engine's disk are this container's.

        The engine's list takes it long and costs it much, so it is asked for only then, and beside the other limits.
        A list that does not come to its end is too long: so many files did appear.
        """
        most = self._limits.disk + self._before
        found = ContainerFiles(self._engine, self._container, Deadline.after(COUNT_S), most)
        try:
            volumes = (found.listed(volume, disk.MAX_FILES, folders=True) for volume in found.volumes())
            rows = itertools.chain(found.changes(), *volumes)
            more = next(itertools.islice(rows, disk.MAX_FILES, None), None) is not None
        except EngineUnavailable:
            return
        except InfraError:
            more = found.deadline.passed
        if more or found.cut:
            self._too_many_files.set()
        else:
            self._new_files.restart()  # somebody else's

    def _sample(self) -> None:
        usage = self._engine.usage(self._container)
        if usage.cpu_s is not None:
            self._cpu_s = max(self._cpu_s or 0.0, usage.cpu_s)
        if usage.memory_bytes is not None:
            self._peak = max(self._peak or 0, usage.memory_bytes)

    def _result(self, ended: Ended, exit_code: int | None, error: str | None) -> Watched:
        return Watched(
            ended=ended,
            exit_code=exit_code,
            seconds=round(time.monotonic() - self._started, 2),
            cpu_s=round(self._cpu_s, 2) if self._cpu_s is not None else None,
            peak_bytes=self._peak,
            written_bytes=self._written,
            log_bytes=self._log.seen,
            log_truncated=self._log.truncated,
            log_tail=self._log.last_lines(),
            error=error,
        )
