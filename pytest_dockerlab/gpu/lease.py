"""The exclusive hold of GPUs among all runs of a machine: first come, first served, nothing to clean up after a crash.

In the shared folder (`locks`) lie

* `<GPU's UUID>.lock`: locked by the run that holds the GPU; its text says who, for messages;
* `ticket-<number>-…`: locked by a run that waits, its text says which GPUs it could use now. Numbers only grow;
* `gate`: locked for the moment in which somebody looks at the others or changes something; its text is the last number.

What counts is only whether the kernel says that a file is locked: when a process dies, however it dies, its hold and
its place in the queue end with it. A run takes all the GPUs it needs at once or none, alone behind the gate, so that
two runs that each need two cannot block each other. It leaves alone any GPU that an earlier ticket could use now, so
that nobody is overtaken, and a run that waits for GPU 0 does not keep others from GPU 1.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.gpu.inventory import Gpu
from pytest_dockerlab.gpu.locks import LockFile, gate, gpu_folder
from pytest_dockerlab.gpu.select import Slot, free_enough

POLL_S = 0.2
SAY_EVERY_S = 30.0
# A waiter writes its ticket at every look. One that did not for so long is stopped (Ctrl-Z): it is passed by, and has
# its place again when it goes on.
STOPPED_AFTER_S = 15.0

_TICKET = re.compile(r"ticket-(\d{12})-\d+-[0-9a-f]+")
_MAX_TICKETS = 4096


@dataclass(frozen=True)
class Holder:
    """Who holds a GPU, by their own account."""

    pid: int
    run_id: str
    user: str
    since: float  # seconds since the epoch

    def __str__(self) -> str:
        """Return the words for a message."""
        started = time.strftime("%H:%M:%S", time.localtime(self.since))
        minutes, seconds = divmod(max(0, int(time.time() - self.since)), 60)
        return f"run {self.run_id or '?'} (pid {self.pid}, {self.user}), since {started}, {minutes} min {seconds} s"


def _holder_text(run_id: str) -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user id without a name
        user = f"uid {os.getuid()}"
    return json.dumps({"pid": os.getpid(), "run": run_id[:200], "user": user[:100], "since": time.time()})


def _parse_holder(text: str) -> Holder | None:
    """Return what a lock file says. Anybody can have written it and it goes to a terminal: only plain text passes."""
    try:
        said = json.loads(text)
        words = ["".join(c for c in str(said[key]) if c.isprintable())[:80] for key in ("run", "user")]
        holder = Holder(int(said["pid"]), words[0], words[1], float(said["since"]))
        time.localtime(holder.since)
    except (ValueError, TypeError, KeyError, OverflowError, OSError, RecursionError):
        return None
    return holder


@dataclass
class Lease:
    """GPUs that are this run's until `release`, or until this process dies."""

    gpus: tuple[Gpu, ...]
    waited_s: float
    _files: tuple[LockFile, ...] = field(repr=False)

    @property
    def uuids(self) -> tuple[str, ...]:
        """Return the identities of the GPUs."""
        return tuple(gpu.uuid for gpu in self.gpus)

    def filenos(self) -> tuple[int, ...]:
        """Return the descriptors that keep the hold, for `pass_fds` of a helper that outlives this process.

        A run that is killed leaves its container on the GPU until the helper has removed it; with these, the helper's
        death ends the hold and not ours. `release` ends it for both.
        """
        return tuple(file.fd for file in self._files)

    def release(self) -> None:
        """Give the GPUs back; more than once does no harm."""
        for file in self._files:
            file.close()

    def __enter__(self) -> Lease:
        """Return the lease."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release, whatever ended the block."""
        self.release()


def lock_name(uuid: str) -> str:
    """Return the file name for a GPU; two UUIDs never share one."""
    return re.sub(r"[^A-Za-z0-9.-]", lambda match: f"_{ord(match[0]):x}_", uuid) + ".lock"


class _Waiter:
    """One run's way through the queue."""

    def __init__(self, folder: Path, run_id: str, min_memory_bytes: int) -> None:
        self._folder = folder
        self._run_id = run_id
        self._min = min_memory_bytes
        self._ticket: LockFile | None = None
        self._number = 0
        self.ahead = 0
        self.holders: dict[str, Holder | None] = {}

    def look(self, slots: Sequence[Slot], deadline: Deadline) -> tuple[tuple[Gpu, ...], tuple[LockFile, ...]] | None:
        """Take what is needed if it is our turn; otherwise note who is in the way, and stay in the queue."""
        with gate(self._folder, deadline) as (folder, gate_file):
            if self._ticket is None:
                self._draw(folder, gate_file)
            blocked = self._wanted_by_earlier(folder)
            taken, held = self._take(folder, slots, blocked)
            if taken is not None:
                for _, file in taken:
                    with contextlib.suppress(OSError):  # a full disk: the hold counts, its text is for messages
                        file.write(_holder_text(self._run_id))
                self._leave(folder)
                return tuple(gpu for gpu, _ in taken), tuple(file for _, file in taken)
            self.holders = held
            # A GPU that is full of something that is no run of ours is of no use to us now: others may have it.
            wants = {gpu.uuid for slot in slots for gpu in slot if gpu.uuid in held or free_enough(gpu, self._min)}
            assert self._ticket is not None
            self._ticket.write("\n".join(sorted(wants)))
            return None

    def _draw(self, folder: int, gate_file: LockFile) -> None:
        """Take the next number. A number is never used twice, also where the gate's text was lost."""
        numbers = [int(match[1]) for match in map(_TICKET.fullmatch, os.listdir(folder)) if match]
        text = gate_file.read()
        last = max([int(text) if re.fullmatch(r"\d{1,12}", text) else 0, *numbers])
        self._number = last + 1
        gate_file.write(str(self._number))
        name = f"ticket-{self._number:012}-{os.getpid()}-{os.urandom(4).hex()}"
        ticket = LockFile(folder, name, new=True)
        ticket.try_lock()
        self._ticket = ticket

    def _wanted_by_earlier(self, folder: int) -> set[str]:
        """Return the GPUs that those before us could use, and remove the tickets of the dead."""
        wanted: set[str] = set()
        self.ahead = 0
        for name in sorted(os.listdir(folder))[:_MAX_TICKETS]:
            match = _TICKET.fullmatch(name)
            if match is None or int(match[1]) >= self._number:
                continue
            try:
                ticket = LockFile(folder, name, create=False)
            except OSError:  # gone, or something that is no ticket
                continue
            try:
                if ticket.try_lock():
                    with contextlib.suppress(OSError):  # another user's file: theirs, or root's, to remove
                        os.unlink(name, dir_fd=folder)
                elif ticket.age_s() < STOPPED_AFTER_S:
                    wanted.update(ticket.read().split("\n"))
                    self.ahead += 1
            finally:
                ticket.close()
        return wanted

    def _take(
        self, folder: int, slots: Sequence[Slot], blocked: set[str]
    ) -> tuple[list[tuple[Gpu, LockFile]] | None, dict[str, Holder | None]]:
        """Return one locked GPU for each slot, or `None` and who holds which: never some of what is needed."""
        taken: dict[int, tuple[Gpu, LockFile]] = {}
        held: dict[str, Holder | None] = {}
        keep = False
        try:
            # The slot with the least choice goes first, or another could take the one GPU that fits it.
            for position in sorted(range(len(slots)), key=lambda position: len(slots[position])):
                for gpu in slots[position]:
                    if gpu.uuid in {ours.uuid for ours, _ in taken.values()}:
                        continue
                    file = LockFile(folder, lock_name(gpu.uuid))
                    if not file.try_lock():
                        held[gpu.uuid] = _parse_holder(file.read())
                    elif gpu.uuid not in blocked and position not in taken and free_enough(gpu, self._min):
                        taken[position] = (gpu, file)
                        continue
                    file.close()
            keep = len(taken) == len(slots)
        finally:
            if not keep:
                for _, file in taken.values():
                    file.close()
        return ([taken[position] for position in range(len(slots))] if keep else None), held

    def _leave(self, folder: int | None = None) -> None:
        if self._ticket is not None:
            with contextlib.suppress(OSError):
                if folder is None:
                    (self._folder / self._ticket.name).unlink()
                else:
                    os.unlink(self._ticket.name, dir_fd=folder)
            self._ticket.close()
            self._ticket = None

    def leave(self) -> None:
        """Give the place in the queue up."""
        self._leave()

    def situation(self, slots: Sequence[Slot]) -> str:
        """Return, as a sentence, what keeps us waiting."""
        parts: list[str] = []
        for gpu in dict.fromkeys(gpu for slot in slots for gpu in slot):
            if gpu.uuid in self.holders:
                parts.append(f"{gpu.label} is held by {self.holders[gpu.uuid] or 'a run that does not say its name'}")
            elif not free_enough(gpu, self._min):
                parts.append(f"{gpu.label} is full of something that is no run of dockerlab")
        if self.ahead:
            parts.append(f"{self.ahead} waiting before this run")
        return "; ".join(parts) or "nothing is in the way any more"

    def news(self) -> tuple[object, ...]:
        """Return what makes a new message worth saying, apart from time."""
        return self.ahead, tuple(sorted((uuid, holder.pid if holder else 0) for uuid, holder in self.holders.items()))


def hold(
    needs: Callable[[], Sequence[Slot]],
    deadline: Deadline,
    say: Callable[[str], None],
    *,
    run_id: str = "",
    min_memory_bytes: int = 0,
    folder: Path | None = None,
    poll_s: float = POLL_S,
) -> Lease:
    """Wait in the queue until one GPU of each slot is ours; raises `GpuUnavailable` when the deadline passes.

    `needs` is asked again before every look, so that the choice follows the memory that is free. `say` gets a sentence
    when the wait begins, when what is in the way changes, and every half minute.
    """
    started = deadline.clock()
    waiter = _Waiter(folder or gpu_folder(), run_id, min_memory_bytes)
    said: tuple[object, ...] = ()
    said_at = 0.0
    slots: Sequence[Slot] = ()
    try:
        for _ in deadline.poll(poll_s):
            slots = needs()
            got = waiter.look(slots, deadline)
            if got is not None:
                return Lease(got[0], deadline.clock() - started, got[1])
            if waiter.news() != said or deadline.clock() - said_at >= SAY_EVERY_S:
                said, said_at = waiter.news(), deadline.clock()
                say(f"Waiting for a GPU, at most {int(deadline.remaining_s)} s more: {waiter.situation(slots)}.")
    finally:
        waiter.leave()
    raise GpuUnavailable(
        f"No GPU was to be had within {int(deadline.clock() - started)} s: {waiter.situation(slots)}.",
        fix="Wait for the runs that hold it, allow a longer wait, or use --dockerlab-gpu auto (falls back to the CPU).",
    )


def holders(gpus: Sequence[Gpu], deadline: Deadline, folder: Path | None = None) -> dict[str, Holder | None]:
    """Return who holds which of these GPUs, for `dockerlab doctor`; a GPU that is free is not in the answer."""
    found: dict[str, Holder | None] = {}
    path = folder or gpu_folder()
    if not path.is_dir():  # nobody ever leased one here, and looking should leave no trace
        return found
    with gate(path, deadline) as (fd, _):
        for gpu in gpus:
            try:
                file = LockFile(fd, lock_name(gpu.uuid), create=False)
            except OSError:
                continue
            if not file.try_lock():
                found[gpu.uuid] = _parse_holder(file.read())
            file.close()
    return found
