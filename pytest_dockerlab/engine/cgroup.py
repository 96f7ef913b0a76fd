"""Build steps under limits: a cgroup of ours, under which `docker buildx build --cgroup-parent` puts each `RUN` step.

BuildKit takes no limits itself (`--memory` is ignored). A cgroup can be made where the harness is root on the engine's
own machine and the engine's cgroup driver is cgroupfs; elsewhere `group` yields `None`, and `dockerlab doctor` says so.
What is bounded where:

| | with a group | without one |
| --- | --- | --- |
| memory, processes | the assignment's `[limits]` | the machine's |
| what one step writes | `limits.disk` and `disk.MAX_FILES`, measured in its own layer; over it the build is ended | - |
| free space of the disk | a build is ended below `disk.MIN_FREE`: the machine's fault | same, where it is local |
| time, log | `timeouts.build`, `limits.log` | same |

A `RUN --mount=type=cache` writes beside the layer: only the free space and the time end that. Steps that two builds
share run once, under the limits of the first.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_dockerlab.assignment import GiB, Limits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import buildx, disk
from pytest_dockerlab.engine.base import BuildOutcome, BuildRequest, Engine, EngineInfo
from pytest_dockerlab.engine.labels import pid_namespace, process_started
from pytest_dockerlab.errors import DiskFull

PREFIX = "dockerlab-build-"
UNIFIED = "unified"  # how cgroup v2's one hierarchy is called here
LOOK_EVERY_S = 2.0
REMOVE_S = 5.0  # an ended step's processes are gone within milliseconds; on a busy machine it takes longer
KILLED = "exit code: 137"

_counter = itertools.count()


@dataclass(frozen=True)
class Group:
    """One cgroup, a folder in each hierarchy. `name` is what the engine calls it."""

    name: str
    mounts: Mapping[str, Path]  # controller (or `UNIFIED`) -> where its hierarchy is mounted

    @property
    def _v2(self) -> bool:
        return "memory" not in self.mounts  # with v1, the unified hierarchy is there beside it, without controllers

    @property
    def folders(self) -> list[Path]:
        """The folders that are there: the engine's runtime adds one in each hierarchy it uses."""
        found = dict.fromkeys(mount / self.name.lstrip("/") for mount in self.mounts.values())
        return [folder for folder in found if folder.is_dir()]

    def _main(self, controller: str) -> Path:
        return self.mounts[UNIFIED if self._v2 else controller] / self.name.lstrip("/")

    def memory_was_short(self) -> bool:
        """Whether the limit on memory was met. v1 counts kills in the step's own group only, which is gone by now."""
        folder = self._main("memory")
        if self._v2:
            return _count(folder / "memory.events", "oom_kill") > 0
        limit = _count(folder / "memory.limit_in_bytes")
        return _count(folder / "memory.max_usage_in_bytes") >= limit > 0

    def processes_were_short(self) -> bool:
        """Whether the limit on processes was met; older kernels have no peak, and v1 counts refusals elsewhere."""
        folder = self._main("pids")
        at_limit = _count(folder / "pids.peak") >= _count(folder / "pids.max") > 0
        return at_limit or _count(folder / "pids.events", "max") > 0

    def wrote_too_much(self, limit: int) -> str | None:
        """Return what the running steps have too much of in their own layers: bytes or files."""
        size = files = 0
        try:
            for layer in {upper for pid in self._a_pid_of_each() if (upper := _own_layer(pid)) is not None}:
                for taken in _disk_use(layer):
                    size, files = size + taken, files + 1
                    if size > limit:
                        return f"more than {_size(limit)}"
                    if files > disk.MAX_FILES:
                        return f"more than {disk.MAX_FILES:,} files"
        except _TooDeep:
            return "folders in folders that no path reaches any more"
        return None

    def _a_pid_of_each(self) -> Iterator[int]:
        for folder, _, _ in os.walk(self._main("pids")):
            pids = _pids(Path(folder))
            if pids:
                yield pids[0]

    def remove(self, deadline: Deadline) -> bool:
        """Remove it with what the runtime made below it; what still runs there is ended. Whether it is gone."""
        for _ in deadline.poll(0.05):
            for folder in self.folders:
                for below, _, _ in os.walk(folder, topdown=False):
                    for pid in _pids(Path(below)):
                        with contextlib.suppress(ProcessLookupError, PermissionError):
                            os.kill(pid, signal.SIGKILL)
                    with contextlib.suppress(OSError):
                        Path(below).rmdir()
            if not self.folders:
                return True
        return False


@contextlib.contextmanager
def group(info: EngineInfo, limits: Limits) -> Iterator[Group | None]:
    """Make a cgroup with the limits, and remove it afterwards; `None` where this machine does not allow one."""
    made = _make(info, limits)
    try:
        yield made
    finally:
        if made is not None:
            made.remove(Deadline.after(REMOVE_S))


def build(
    engine: Engine, request: BuildRequest, limits: Limits, deadline: Deadline, on_output: Callable[[str], None]
) -> BuildOutcome:
    """Build within the limits, as far as this machine can keep them. Raises `DiskFull`."""
    info = engine.info()
    with group(info, limits) as ours:
        if ours is not None:
            request = replace(request, cgroup_parent=ours.name)
        with _Watchdog(ours, disk.data_root(info), limits.disk, deadline) as watchdog:
            outcome = engine.build(replace(request, memory_bytes=limits.memory), watchdog.deadline, on_output)
        if watchdog.disk_full:
            raise DiskFull(
                "The engine's disk was nearly full while building, so the build was ended. "
                f"{_size(watchdog.taken)} of it were taken meanwhile.",
                fix="Free some space: `dockerlab clean`, `docker system df`, `docker builder prune`.",
            )
        if watchdog.too_much is not None:
            error = f"the step wrote {watchdog.too_much} to its disk, and was ended"
            return replace(outcome, ok=False, timed_out=False, error=error)
        if ours is not None and not outcome.ok and not outcome.timed_out:
            return replace(outcome, error=_named(ours, limits, outcome.error or ""))
        return outcome


def _named(ours: Group, limits: Limits, error: str) -> str:
    """Name the limit that a step met; the builder itself only tells an exit status."""
    if KILLED in error and ours.memory_was_short():
        return f"the step ran out of memory: a build may use {_size(limits.memory)}; {error}"
    if ours.processes_were_short():
        return f"the step started too many processes: a build may have {limits.pids}; {error}"
    return error


class _Watchdog:
    """Looks at the disk while a build runs. Its deadline is the given one, brought forward where a limit is met."""

    def __init__(self, ours: Group | None, root: Path | None, limit: int, deadline: Deadline) -> None:
        self._group = ours
        self._root = root
        self._limit = limit
        self._free = self._free_now()
        self._stop = threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, name="dockerlab-build-disk", daemon=True)
        self.too_much: str | None = None
        self.disk_full = False
        self.taken = 0  # bytes of the engine's disk since the start, by whomever
        self.deadline = replace(deadline, clock=lambda: math.inf if self._stop.is_set() else deadline.clock())

    def _look(self) -> None:
        pause = LOOK_EVERY_S
        while not self._done.wait(pause):
            before = time.monotonic()
            self.too_much = self._group.wrote_too_much(self._limit) if self._group is not None else None
            free = self._free_now()
            self.taken = max(0, self._free - free)
            self.disk_full = self.too_much is None and free < disk.MIN_FREE
            if self.too_much is not None or self.disk_full:
                self._stop.set()
                return
            # Measuring many files takes long: never spend more than about a fifth of the time on it.
            pause = max(LOOK_EVERY_S, 4 * (time.monotonic() - before))

    def _free_now(self) -> int:
        free = disk.free_bytes(self._root) if self._root is not None else None
        return disk.MIN_FREE if free is None else free

    def __enter__(self) -> _Watchdog:
        if self._group is not None or self._root is not None:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.is_alive():
            self._thread.join(LOOK_EVERY_S)


# -- making one


def _make(info: EngineInfo, limits: Limits) -> Group | None:
    if not _may_be_made(info):
        return None
    mounts = _mounts()
    _sweep(mounts)
    started = process_started(os.getpid()) or "0"
    name = f"{PREFIX}{_namespace()}-{os.getpid()}-{started}-{next(_counter)}"
    made = Group(f"/{name}", mounts)
    try:
        if made._v2:
            folder = mounts[UNIFIED] / name
            folder.mkdir()
            _write(folder / "memory.max", limits.memory)
            _write(folder / "pids.max", limits.pids)
            with contextlib.suppress(OSError):  # no file: no swap accounting
                _write(folder / "memory.swap.max", 0)
            return made
        for controller in ("memory", "pids"):
            (mounts[controller] / name).mkdir()
        _write(mounts["memory"] / name / "memory.limit_in_bytes", limits.memory)
        with contextlib.suppress(OSError):
            _write(mounts["memory"] / name / "memory.memsw.limit_in_bytes", limits.memory)
        _write(mounts["pids"] / name / "pids.max", limits.pids)
    except (OSError, KeyError):
        made.remove(Deadline.after(1))
        return None
    return made


def _may_be_made(info: EngineInfo) -> bool:
    """Whether the engine is on this very system: its kernel, its name, and groups that it does not make itself."""
    return (
        info.name == "Docker"
        and info.builder == buildx.NAME
        and info.local
        and info.cgroup_driver == "cgroupfs"
        and hasattr(os, "geteuid")
        and os.geteuid() == 0
        and info.raw.get("KernelVersion") == os.uname().release
        # In a container that has the engine's socket, the hierarchies begin elsewhere than the engine's.
        and info.raw.get("Name") == socket.gethostname()
    )


def _mounts() -> dict[str, Path]:
    """Return where each controller's hierarchy is mounted, whole."""
    found: dict[str, Path] = {}
    try:
        lines = Path("/proc/self/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return found
    for line in lines:
        before, _, after = line.partition(" - ")
        fields, kind = before.split(), after.split()
        if len(fields) < 5 or len(kind) < 3 or fields[3] != "/":
            continue
        if kind[0] == "cgroup2":
            found[UNIFIED] = Path(fields[4])
        elif kind[0] == "cgroup":
            for option in kind[2].split(","):
                if option not in ("rw", "ro"):
                    found[option] = Path(fields[4])
    return found


def _sweep(mounts: Mapping[str, Path]) -> None:
    """Remove the groups of runs that were killed: their names tell whose they were."""
    names = {folder.name for mount in set(mounts.values()) for folder in mount.glob(f"{PREFIX}*")}
    for name in names:
        namespace, pid, started, *_ = [*name.removeprefix(PREFIX).split("-"), "", "", ""]
        if namespace == _namespace() and pid.isdigit() and process_started(int(pid)) != started:
            Group(f"/{name}", mounts).remove(Deadline.after(0.2))


def _namespace() -> str:
    return "".join(letter for letter in pid_namespace() if letter.isdigit()) or "0"


def _write(file: Path, value: int) -> None:
    # Not `write_text`: that would make the file, in a folder that is no cgroup.
    handle = os.open(file, os.O_WRONLY)
    try:
        os.write(handle, str(int(value)).encode())
    finally:
        os.close(handle)


# -- reading


def _count(file: Path, key: str | None = None) -> int:
    """Return the number in a file, or beside a key in it; 0 where there is none."""
    try:
        text = file.read_text()
    except OSError:
        return 0
    if key is None:
        return int(text) if text.strip().isdigit() else 0
    rows = dict(line.split(" ", 1) for line in text.splitlines() if " " in line)
    return int(rows.get(key, "0"))


def _pids(folder: Path) -> list[int]:
    try:
        words = (folder / "cgroup.procs").read_text().split()
    except OSError:
        return []
    return [int(word) for word in words if word != "0"]  # 0: a process that our namespace does not have


def _own_layer(pid: int) -> Path | None:
    """Return the folder in which an overlay file system keeps what this process's root has on top of its image."""
    try:
        lines = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        before, _, after = line.partition(" - ")
        if after.startswith("overlay ") and before.split()[4] == "/":
            options = after.split(" ", 2)[2].split(",")
            upper = next((option.removeprefix("upperdir=") for option in options if option.startswith("upperdir=")), "")
            return Path(upper) if upper.startswith("/") else None
    return None


class _TooDeep(Exception):
    """A path is longer than the system takes one: what lies there can't be measured."""


def _disk_use(folder: Path) -> Iterator[int]:
    """Yield the bytes that each file and folder below takes on the disk; raises `_TooDeep`."""
    todo = [folder]
    while todo:
        try:
            with os.scandir(todo.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        todo.append(Path(entry.path))
                    yield _blocks(entry)
        except FileNotFoundError:
            continue
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                raise _TooDeep from error


def _blocks(entry: os.DirEntry[str]) -> int:
    """Return the bytes of a file on the disk, 0 where it went away: the others are measured all the same."""
    try:
        return entry.stat(follow_symlinks=False).st_blocks * 512
    except FileNotFoundError:
        return 0


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= GiB else f"{count / 2**20:.0f} MiB"
