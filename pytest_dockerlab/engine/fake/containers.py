"""A fake container: a program on a clock, over the files of an image."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_dockerlab.engine.base import ContainerSpec, ContainerState, ImageConfig, Usage
from pytest_dockerlab.engine.fake.files import FakeFile, Files, absolute, as_files, folders, parents
from pytest_dockerlab.engine.fake.programs import FakeProgram, Serves

KILLED = 137


@dataclass
class FakeImage:
    """An image: what it says of itself, and its files."""

    config: ImageConfig
    files: Files = field(default_factory=dict)


class FakeContainer:
    """One container. Nothing runs in the background: what is true now follows from the clock."""

    def __init__(self, container_id: str, spec: ContainerSpec, image: FakeImage, name: str) -> None:
        """Create it; `start` gives it a program."""
        self.id = container_id
        self.name = name
        self.spec = spec
        self.image = image
        self.created = time.time()
        self._layer: Files = {}
        self._deleted: set[str] = set()
        self._changed = threading.Condition()
        self._program: FakeProgram | None = None
        self._started: float | None = None
        self._ended: float | None = None  # by a signal
        self._settled = False
        self._exit_code: int | None = None
        self.start_failed = ""

    # -- what a program may look at

    @property
    def argv(self) -> tuple[str, ...]:
        """The command: entry point and arguments, from the spec or else from the image."""
        if self.spec.entrypoint is not None:
            return (*self.spec.entrypoint, *(self.spec.command or ()))
        command = self.spec.command if self.spec.command is not None else self.image.config.cmd
        return (*self.image.config.entrypoint, *command)

    @property
    def env(self) -> Mapping[str, str]:
        """The environment."""
        return {**self.image.config.env, **self.spec.env, **self.spec.grant.env}

    @property
    def workdir(self) -> str:
        """The working folder."""
        return self.image.config.workdir

    def files(self) -> Files:
        """Return every file: the image's, what was written since, and mounted ones."""
        self._settle()
        merged = {path: entry for path, entry in self.image.files.items() if path not in self._deleted}
        merged.update(self._layer)
        for mount in self.spec.mounts:
            if mount.source.is_dir():
                for path in sorted(mount.source.rglob("*")):
                    if path.is_file():
                        name = absolute(str(path.relative_to(mount.source)), mount.target)
                        merged[name] = FakeFile(path.read_bytes())
            elif mount.source.is_file():
                merged[mount.target] = FakeFile(mount.source.read_bytes())
        return merged

    # -- life

    def start(self, program: FakeProgram) -> None:
        """Begin."""
        with self._changed:
            self._program = program
            self._started = time.monotonic()
            self._ended, self._settled, self._exit_code = None, False, None
            if program.runs_forever:
                self._write(program)
            self._changed.notify_all()

    def stop(self) -> None:
        """SIGKILL; quiet where it has ended."""
        self._settle()
        with self._changed:
            if self._started is not None and self._exit_code is None:
                self._ended = time.monotonic()
                self._exit_code = KILLED
                self._settled = True
            self._changed.notify_all()

    def _settle(self) -> None:
        """Take note of an end that the clock has brought."""
        with self._changed:
            program = self._program
            if program is None or self._started is None or self._settled:
                return
            if time.monotonic() - self._started < program.duration_s:
                return
            self._settled = True
            self._exit_code = KILLED if program.oom else program.exit_code
            if not program.runs_forever:
                self._write(program)
            self._changed.notify_all()

    def _write(self, program: FakeProgram) -> None:
        self._layer.update(as_files(program.files, self.workdir))
        for name in program.deleted:
            path = absolute(name, self.workdir)
            self._layer.pop(path, None)
            if path in self.image.files:
                self._deleted.add(path)

    @property
    def running(self) -> bool:
        """Whether it runs now."""
        self._settle()
        return self._started is not None and self._exit_code is None

    def listening(self) -> Mapping[str, Serves]:
        """Return what listens in it now."""
        program = self._program
        if program is None or self._started is None or not self.running:
            return {}
        return program.serves if time.monotonic() - self._started >= program.ready_s else {}

    def state(self) -> ContainerState:
        """The state, as an engine would tell it."""
        running = self.running
        status = "running" if running else ("exited" if self._started is not None else "created")
        oom = bool(self._program and self._program.oom and self._settled and self._ended is None)
        return ContainerState(
            running=running,
            exit_code=None if running else (self._exit_code or 0),
            oom_killed=oom,
            error=self.start_failed,
            status=status,
            pid=4242 if running else 0,
        )

    def output(self, check: Callable[[], None]) -> Iterator[bytes]:
        """Yield the output from its beginning, as it comes, until the container ends. `check` may end it sooner."""
        number = 0
        while True:
            check()
            with self._changed:
                pieces = self._program.pieces if self._program else []
                if self._started is None:
                    if self.start_failed:
                        return
                    self._changed.wait(0.05)
                    continue
                if number < len(pieces):
                    due = self._started + pieces[number][0]
                    cut = self._ended is not None and due > self._ended
                    if not cut and due > time.monotonic():
                        self._changed.wait(min(0.05, due - time.monotonic()))
                        continue
                    data = b"" if cut else pieces[number][1]
                    number = len(pieces) if cut else number + 1
                else:
                    data = b""
            if data:
                for start in range(0, len(data), 1 << 15):
                    yield data[start : start + (1 << 15)]
            elif number >= len(pieces):
                if not self.running:
                    return
                with self._changed:
                    self._changed.wait(0.02)

    # -- what it left

    def put(self, files: Files) -> None:
        """Write files from outside."""
        with self._changed:
            self._layer.update(files)

    def usage(self) -> Usage:
        """What it uses; nothing once it has ended."""
        if not self.running or self._program is None:
            return Usage()
        return Usage(cpu_s=self._program.cpu_s, memory_bytes=self._program.memory_bytes, pids=1)

    def written_bytes(self) -> int:
        """The size of its own layer."""
        self._settle()
        if self._program is not None and self._program.written_bytes is not None:
            return self._program.written_bytes
        return sum(entry.bytes for entry in self._layer.values())

    @property
    def volumes(self) -> set[str]:
        """Where its volumes are."""
        return {absolute(path) for path in self.image.config.volumes}

    def changes(self) -> list[tuple[str, str]]:
        """List what differs from the image, folders too, as `docker diff` does: nothing of its volumes."""
        self._settle()
        before = self.image.files
        known = folders(before) | {path for path, entry in before.items() if entry.kind == "folder"}
        written = [path for path in self._layer if not self.volumes & {path, *parents(path)}]
        rows = {path: "modified" if path in before else "added" for path in written}
        rows |= {mount.target: "added" for mount in self.spec.mounts if mount.target not in known}
        rows |= dict.fromkeys(self._deleted - self._layer.keys(), "deleted")
        for folder in folders(list(rows)):
            rows.setdefault(folder, "modified" if folder in known else "added")
        return sorted(rows.items())
