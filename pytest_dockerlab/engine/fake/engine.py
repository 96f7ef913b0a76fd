"""`FakeEngine`: images, containers, networks and volumes that exist in a dictionary."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import IO

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import (
    BuildOutcome,
    BuildRequest,
    ContainerSpec,
    ContainerState,
    EngineInfo,
    ExecResult,
    ImageConfig,
    Owned,
    Usage,
)
from pytest_dockerlab.engine.fake import http
from pytest_dockerlab.engine.fake.build import Builder
from pytest_dockerlab.engine.fake.containers import FakeContainer, FakeImage
from pytest_dockerlab.engine.fake.faults import Faults
from pytest_dockerlab.engine.fake.files import FakeFile, as_files, from_tar, to_tar
from pytest_dockerlab.engine.fake.programs import NOT_FOUND, FakeProgram, Program, Serves, builtin, shell_string
from pytest_dockerlab.engine.labels import RUN
from pytest_dockerlab.errors import EngineUnavailable, ImageUnavailable, InfraError
from pytest_dockerlab.images.names import normalise

GONE = "The engine went away (a fake one, as it was told)."

# container, argv, stdin -> a result, or None to leave the command to the registered programs
OnExec = Callable[[FakeContainer, tuple[str, ...], bytes], ExecResult | None]


class FakeEngine:
    """`Engine` in memory. Safe to use from several threads."""

    def __init__(self, on_exec: OnExec | None = None) -> None:
        """Start with no image at all."""
        self.on_exec = on_exec
        self.calls: list[str] = []
        self.containers: dict[str, FakeContainer] = {}
        self.closed = False
        self._programs: dict[str, Program] = {}
        self._images: dict[str, FakeImage] = {}
        self._names: dict[str, str] = {}
        self._others: dict[tuple[str, str], Owned] = {}
        self._faults = Faults()
        self._lock = threading.RLock()
        self._numbers = itertools.count(1)

    # -- what the test says

    def program(self, command: str, program: Program) -> None:
        """Say what a command does; `sh -c COMMAND` and the bare `COMMAND` are the same."""
        self._programs[command.strip()] = program

    def add_image(
        self, name: str, files: Mapping[str, FakeFile | bytes] | None = None, config: ImageConfig | None = None
    ) -> str:
        """Put an image on the engine, as if it had been pulled; its id."""
        config = config or ImageConfig("", 0)
        return self._keep(FakeImage(config, as_files(files or {}, config.workdir)), name)

    def add_volume(self, name: str, labels: Mapping[str, str]) -> None:
        """Put a volume on the engine."""
        self._others["volume", name] = Owned("volume", name, name, dict(labels))

    def add_network(self, name: str, labels: Mapping[str, str]) -> None:
        """Put a network on the engine."""
        self._others["network", name] = Owned("network", name, name, dict(labels))

    def fail(self, method: str, error: BaseException | None = None, after: int = 0, times: int = 1) -> None:
        """Have a method raise (default: the engine went away), `times` times, after so many calls that go well."""
        self._faults.plan(method, error or EngineUnavailable(GONE, fix="Start it."), after, times)

    def restart(self) -> None:
        """End every running container, as an engine does that is restarted."""
        for container in list(self.containers.values()):
            container.stop()

    def images(self) -> list[str]:
        """Return the names of all images."""
        return sorted(self._names)

    # -- the port

    def info(self) -> EngineInfo:
        """Describe the engine."""
        self._called("info")
        return EngineInfo(
            name="Fake",
            version="1.0",
            api_version="1.45",
            os="memory",
            architecture="x86_64",
            cpus=2,
            memory_bytes=4 << 30,
            runtimes=("runc",),
            storage_driver="dict",
            builder="fake",
        )

    def build(self, request: BuildRequest, deadline: Deadline, on_output: Callable[[str], None]) -> BuildOutcome:
        """Build what `fake.build` understands."""
        self._called("build")
        outcome, image = Builder(request, deadline, on_output, self._find, self._registered).run()
        if image is None:
            return outcome
        with self._lock:
            return replace(outcome, image_id=self._keep(image, request.tag))

    def image(self, name: str) -> ImageConfig | None:
        """Look up an image by name or id."""
        self._called("image")
        found = self._find(name)
        return found.config if found else None

    def create(self, spec: ContainerSpec, name: str | None = None) -> str:
        """Create a container."""
        self._called("create")
        image = self._find(spec.image)
        if image is None:
            raise ImageUnavailable(f"An image is missing while creating a container: {spec.image}")
        if spec.network.startswith("container:"):
            self._get(spec.network.partition(":")[2])
        with self._lock:
            container_id = self._new_id("container")
            made = FakeContainer(container_id, spec, image, name or f"fake_{len(self.containers)}")
            self.containers[container_id] = made
        return container_id

    def start(self, container: str) -> str | None:
        """Start what was registered for the command."""
        self._called("start")
        one = self._get(container)
        program = self._program_of(one)
        word = one.argv[0] if one.argv else "(no command)"
        if program is None and one.spec.init and one.argv:
            # The init is there and starts; it is the init that finds no program.
            missing = f"[FATAL tini (7)] exec {word} failed: No such file or directory\n".encode()
            program = FakeProgram(output=missing, exit_code=NOT_FOUND)
        if program is None or program.start_error:
            one.start_failed = (program.start_error if program else None) or (
                f'failed to create task: exec: "{word}": executable file not found in $PATH'
            )
            return one.start_failed
        one.start(program)
        return None

    def state(self, container: str) -> ContainerState:
        """Look at the clock."""
        self._called("state")
        return self._get(container).state()

    def output(self, container: str) -> Iterator[bytes]:
        """Follow the output; a fault of "output" breaks it in the middle."""
        one = self._get(container)

        def broken() -> None:
            self._called("output")
            if container not in self.containers:
                raise StopFollowing

        def chunks() -> Iterator[bytes]:
            with contextlib.suppress(StopFollowing, InfraError):
                yield from one.output(broken)

        return chunks()

    def usage(self, container: str) -> Usage:
        """What the program says that it uses."""
        self._called("usage")
        return self._get(container).usage()

    def written_bytes(self, container: str) -> int | None:
        """The size of the container's own layer."""
        self._called("written_bytes")
        return self._get(container).written_bytes()

    def kill(self, container: str) -> None:
        """End it."""
        self._called("kill")
        if container in self.containers:
            self.containers[container].stop()

    def changes(self, container: str) -> Iterator[tuple[str, str]]:
        """List what differs from the image."""
        self._called("changes")
        return iter(self._get(container).changes())

    def mounts(self, container: str) -> list[str]:
        """The volumes that the image declares."""
        self._called("mounts")
        return sorted(self._get(container).volumes)

    def read(self, container: str, path: str) -> Iterator[bytes] | None:
        """Stream a path as a tar archive."""
        self._called("read")
        return to_tar(self._get(container).files(), path.rstrip("/") or "/")

    def put(self, container: str, folder: str, archive: bytes | IO[bytes]) -> None:
        """Unpack into a folder."""
        self._called("put")
        data = archive if isinstance(archive, bytes) else archive.read()
        self._get(container).put(from_tar(data, folder))

    def exec(
        self,
        container: str,
        argv: tuple[str, ...],
        stdin: bytes | Iterable[bytes],
        deadline: Deadline,
        max_output: int,
    ) -> ExecResult:
        """Ask `on_exec`, else be our HTTP client where the job is one for it, else run a registered program."""
        self._called("exec")
        one = self._get(container)
        stdin = stdin if isinstance(stdin, bytes) else b"".join(stdin)
        if not one.running:
            raise InfraError(f"The engine refused while running a command: container {one.name} is not running")
        result = self.on_exec(one, argv, stdin) if self.on_exec else None
        if result is None and http.is_client_job(argv, stdin):
            result = ExecResult(0, http.answer_job(stdin, lambda: self._listeners(one)))
        if result is None:
            result = self._exec_program(one, argv, stdin, deadline)
        if len(result.stdout) > max_output:
            return ExecResult(None, result.stdout[:max_output], result.stderr, truncated=True)
        return result

    def remove(self, container: str) -> None:
        """Forget a container."""
        self._called("remove")
        with self._lock:
            if any(one.spec.network == f"container:{container}" for one in self.containers.values()):
                raise InfraError("The engine refused: another container has joined this one's network.")  # as Podman
            gone = self.containers.pop(container, None)
        if gone is not None:
            gone.stop()

    def remove_image(self, name: str) -> None:
        """Forget a name, and the image with its last name."""
        self._called("remove_image")
        with self._lock:
            image_id = self._id_of(name)
            if image_id is None:
                return
            names = [key for key, value in self._names.items() if value == image_id]
            for key in names if name == image_id else [normalise(name)]:
                self._names.pop(key, None)
            if image_id not in self._names.values():
                self._images.pop(image_id, None)

    def tag(self, image: str, name: str) -> None:
        """Give an image another name."""
        self._called("tag")
        with self._lock:
            image_id = self._id_of(image)
            if image_id is None:
                raise ImageUnavailable(f"An image is missing while tagging: {image}")
            self._names[normalise(name)] = image_id

    def owned(self, run_id: str | None = None) -> list[Owned]:
        """List by label."""
        self._called("owned")

        def ours(labels: Mapping[str, str]) -> bool:
            return RUN in labels and run_id in (None, labels[RUN])

        with self._lock:
            found = [
                Owned("container", one.id, one.name, dict(one.spec.labels), created=one.created)
                for one in self.containers.values()
                if ours(one.spec.labels)
            ]
            for image_id, image in self._images.items():
                if ours(image.config.labels):
                    name = next((key for key, value in self._names.items() if value == image_id), "<none>")
                    found.append(Owned("image", image_id, name, dict(image.config.labels), image.config.bytes))
            return found + [one for one in self._others.values() if ours(one.labels)]

    def remove_owned(self, thing: Owned) -> None:
        """Remove by kind."""
        self._called("remove_owned")
        if thing.kind == "container":
            self.remove(thing.id)
        elif thing.kind == "image":
            self.remove_image(thing.id)
        else:
            self._others.pop((thing.kind, thing.name), None)

    def close(self) -> None:
        """Note that the connection was let go of."""
        self.closed = True

    def __enter__(self) -> FakeEngine:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    # -- inside

    def _called(self, method: str) -> None:
        with self._lock:
            if method != "output":  # asked on every turn of a log's reader
                self.calls.append(method)
            self._faults.meet(method)

    def _new_id(self, kind: str) -> str:
        return hashlib.sha256(f"{kind}{next(self._numbers)}".encode()).hexdigest()

    def _keep(self, image: FakeImage, name: str) -> str:
        image_id = f"sha256:{self._new_id('image')}"
        size = sum(entry.bytes for entry in image.files.values())
        created = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        config = replace(image.config, image_id=image_id, bytes=size, created=created)
        self._images[image_id] = FakeImage(config, image.files)
        self._names[normalise(name)] = image_id
        return image_id

    def _id_of(self, name: str) -> str | None:
        return name if name in self._images else self._names.get(normalise(name))

    def _find(self, name: str) -> FakeImage | None:
        with self._lock:
            image_id = self._id_of(name)
            return self._images[image_id] if image_id else None

    def _get(self, container: str) -> FakeContainer:
        try:
            return self.containers[container]
        except KeyError:
            raise InfraError(f"The engine refused: no such container: {container[:12]}") from None

    def _registered(self, command: str) -> FakeProgram | None:
        found = self._programs.get(command)
        return found if isinstance(found, FakeProgram) else builtin(command)

    def _program_of(self, container: FakeContainer) -> FakeProgram | None:
        command = shell_string(container.argv)
        found = self._programs.get(command)
        if found is None and not container.argv:
            return None
        if found is None or isinstance(found, FakeProgram):
            return found or builtin(command)
        return found(container)

    def _listeners(self, client: FakeContainer) -> Mapping[str, Serves]:
        """Return what listens in the network namespace that a container of ours holds."""
        listening: dict[str, Serves] = {}
        for one in list(self.containers.values()):
            if one is client or one.spec.network == f"container:{client.id}":
                listening.update(one.listening())
        return listening

    def _exec_program(
        self, container: FakeContainer, argv: tuple[str, ...], stdin: bytes, deadline: Deadline
    ) -> ExecResult:
        command = shell_string(argv)
        found = self._programs.get(command)
        program = found(container) if found is not None and not isinstance(found, FakeProgram) else found
        program = program or builtin(command)
        if program is None:
            return ExecResult(127, b"", f"{argv[0]}: executable file not found in $PATH\n".encode())
        if program.duration_s > deadline.remaining_s:
            seen = b"".join(data for at, data in program.pieces if at < deadline.remaining_s)
            time.sleep(deadline.remaining_s)
            return ExecResult(None, seen, timed_out=True)
        time.sleep(program.duration_s)
        container.put(as_files(program.files, container.workdir))
        stdout = b"".join(data for _, data in program.pieces)
        return ExecResult(program.exit_code, stdout + (program.reply(stdin) if program.reply else b""))


class StopFollowing(Exception):
    """The container is gone: its output ends."""
