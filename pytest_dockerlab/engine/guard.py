"""What a run owns goes even when the run is killed: a small helper process, started with it, that outlives it.

SIGKILL can't be handled, and an engine keeps containers whose client has died. So every run starts a helper
(`engine.guard_helper`, 11 MB, ready after about 0.1 s) that waits on a pipe whose other end only this process holds:
however this process ends, the kernel closes the pipe, and the helper ends the builders that still run and removes what
carries the run's label. A helper that could not do it in time (an engine that is down for long) is followed by
`engine.reaper` at the next start.

::

    with Guard.start(run_id, engine.host) as guard:     # before anything is created
        ...
        guard.done()    # all is removed; without this the helper does it, also where the block ends in peace
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.guard_helper import CLEAN, KEEP, LIVES, READY, UNWATCH, WATCH, is_run_id
from pytest_dockerlab.engine.labels import process_started
from pytest_dockerlab.errors import DockerLabError, InfraError

if TYPE_CHECKING:
    from pytest_dockerlab.engine.base import Engine

START_S = 20.0  # it takes 0.1 s; a machine with a hundred runs at once takes longer
CLEAN_UP_S = 300.0  # an engine that restarts is back long before
SETTLE_S = 4.0  # a request that was under way when its sender died can still make something
EVERY_S = 1.0

# What the helper gets of the environment: what finds the engine, and nothing by which a CI runner would find and end
# the helper together with the job (GitHub's RUNNER_TRACKING_ID, Jenkins' cookie).
ENV_PREFIXES = ("DOCKER_", "DOCKERLAB_", "SSH_", "XDG_", "LC_")
ENV_NAMES = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")

_ROOT = str(Path(__file__).resolve().parents[2])
_WAIT = f"import sys; sys.path.insert(0, {_ROOT!r}); from pytest_dockerlab.engine.guard_helper import main; main()"
_CLEAN_UP = f"import sys; sys.path.insert(0, {_ROOT!r}); from {__name__} import clean_up_and_exit; clean_up_and_exit()"

_active: set[Guard] = set()
_lock = threading.Lock()


class Guard:
    """The harness's end of the pipe. Use `start`; safe to use from several threads."""

    def __init__(self, pipe: int, pid: int) -> None:
        """Use `start`."""
        self._pipe: int | None = pipe
        self.pid = pid  # of the helper

    @classmethod
    def start(cls, run_id: str, host: str, *, keep: bool = False) -> Guard:
        """Start the helper of one run, for the engine at `host` (as `DOCKER_HOST` names it).

        With `keep` containers and images stay whatever happens, and only builders are ended. Raises `InfraError`.
        """
        if not is_run_id(run_id):  # an empty one would stand for every run
            raise ValueError(f"{run_id!r} is no run id")
        env = {name: value for name, value in os.environ.items() if name.startswith(ENV_PREFIXES) or name in ENV_NAMES}
        env |= {name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")}
        env["DOCKER_HOST"] = host
        # -S: site-packages are looked at only when there is something to clean up.
        argv = [sys.executable, "-I", "-S", "-c", _WAIT, run_id, sys.executable, _CLEAN_UP]
        reader, writer = os.pipe()  # not inherited by any child but the helper, which gets the reading end as its stdin
        process = None
        try:
            process = subprocess.Popen(
                argv,
                stdin=reader,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=env,
                start_new_session=True,
            )
            pid = _ready(process)
        except BaseException as error:
            os.close(writer)  # a helper that did start sees that nobody is there
            if isinstance(error, OSError):
                raise InfraError(f"The helper that cleans up behind a killed run does not start: {error}.") from error
            raise
        finally:
            os.close(reader)
            if process is not None and process.stdout is not None:
                process.stdout.close()
        guard = cls(writer, pid)
        if keep:
            guard._tell(KEEP)
        with _lock:
            _active.add(guard)
        return guard

    def watch_process(self, pgid: int) -> None:
        """Have this process group ended too, should we die before `unwatch_process`."""
        # With its start time: by then the number may be another process's.
        self._tell(f"{WATCH} {pgid} {process_started(pgid) or '-'}")

    def unwatch_process(self, pgid: int) -> None:
        """Take it back: the group has ended."""
        self._tell(f"{UNWATCH} {pgid}")

    def done(self) -> None:
        """Say that nothing is left, and let the helper go. Later calls do nothing."""
        self._close(CLEAN)

    def hand_over(self) -> None:
        """Let the helper remove what is left, while we live on; after `done` this does nothing."""
        self._close(LIVES)

    def _tell(self, line: str) -> None:
        with _lock:
            if self._pipe is not None:
                with contextlib.suppress(BrokenPipeError):  # somebody ended the helper: the reaper will do its work
                    os.write(self._pipe, f"{line}\n".encode())

    def _close(self, word: str) -> None:
        self._tell(word)
        self._forget()

    def _forget(self) -> None:
        with _lock:
            _active.discard(self)
            if self._pipe is not None:
                os.close(self._pipe)
                self._pipe = None

    def __enter__(self) -> Guard:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Hand over what is not done."""
        self.hand_over()


def _ready(process: subprocess.Popen[bytes]) -> int:
    """Wait for the helper's word; return the id of the process that it became."""
    assert process.stdout is not None
    deadline = Deadline.after(START_S)
    said = b""
    while not said.endswith(b"\n"):
        readable, _, _ = select.select([process.stdout], [], [], deadline.remaining_s)
        piece = os.read(process.stdout.fileno(), 100) if readable else b""
        if not piece:
            process.kill()
            process.wait()
            raise InfraError("The helper that cleans up behind a killed run does not start (it said nothing).")
        said += piece
    process.wait()  # what was started has forked and gone, so that the helper is no child of ours
    word, pid = said.decode().split()
    assert word == READY
    return int(pid)


def guard_for(engine: Engine, run_id: str, *, keep: bool = False) -> Guard | None:
    """Start the helper of a run on this engine; `None` for one in memory, which ends with us anyway."""
    host = getattr(engine, "host", None)
    return Guard.start(run_id, host, keep=keep) if host else None


@contextlib.contextmanager
def watched(pgid: int) -> Iterator[None]:
    """Have every helper of this process end a process group, should this process die inside the block."""
    with _lock:
        guards = list(_active)
    for guard in guards:
        guard.watch_process(pgid)
    try:
        yield
    finally:
        for guard in guards:
            guard.unwatch_process(pgid)


def _after_fork_in_child() -> None:
    # A forked child (multiprocessing) would hold the pipe open after our death.
    global _lock
    _lock = threading.Lock()
    for guard in list(_active):
        guard._forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


# -- in the helper, once its harness has ended


def clean_up(run_id: str, open_engine: Callable[[], Engine], deadline: Deadline, settle_s: float = SETTLE_S) -> bool:
    """Remove all that carries the run's label, until nothing has shown up for a while; whether that was so in time.

    An engine that does not answer is asked again: it may be restarting.
    """
    from pytest_dockerlab.engine.reaper import remove_run

    quiet: Deadline | None = None
    for _ in deadline.poll(EVERY_S):
        try:
            with open_engine() as engine:
                left = remove_run(engine, run_id)
        except DockerLabError:
            quiet = None
            continue
        if left:
            quiet = None
        elif quiet is None:
            quiet = Deadline.after(settle_s)
        elif quiet.passed:
            return True
    return False


def clean_up_and_exit() -> None:
    """Clean up behind the run that `sys.argv` names, on the engine that `DOCKER_HOST` names."""
    from pytest_dockerlab.engine.connect import connect
    from pytest_dockerlab.engine.docker import DockerEngine

    # Whatever hangs below, this process does not stay for ever: SIGALRM ends it.
    signal.alarm(int(CLEAN_UP_S * 2))
    done = clean_up(sys.argv[1], lambda: DockerEngine(connect(read_idle_s=30)), Deadline.after(CLEAN_UP_S))
    sys.exit(0 if done else 1)
