"""The narrow port to a container engine. Everything else in this package speaks only to `Engine`.

Two things stand behind it: `engine.docker.DockerEngine` (Docker, and Podman through its Docker API) and
`engine.fake.FakeEngine` for unit tests. `tests/engine_contract/` holds both to the same behaviour.

Every method raises `InfraError` (or a subclass) when the engine itself fails; what a container did wrong is returned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Protocol

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.facts import BuildStep


@dataclass(frozen=True)
class EngineInfo:
    """What answers."""

    name: str  # "Docker", "Podman", "Fake"
    version: str
    api_version: str
    os: str
    architecture: str
    cpus: int
    memory_bytes: int
    runtimes: tuple[str, ...] = ()
    cdi_devices: tuple[str, ...] = ()
    storage_driver: str = ""
    cgroup_version: str = ""
    cgroup_driver: str = ""
    builder: str = ""
    local: bool = True  # on this machine, so that its devices and processes are the engine's too
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)  # the API's own words

    def __str__(self) -> str:
        """Return e.g. `Docker 26.1.5`."""
        return f"{self.name} {self.version}"


@dataclass(frozen=True)
class BuildRequest:
    """One image build. `context` is a tar file that holds the Dockerfile too."""

    context: Path
    dockerfile: str
    tag: str
    labels: Mapping[str, str]
    replaced: Mapping[str, str] = field(default_factory=dict)  # a name after FROM -> a local image or a mirror's name
    cgroup_parent: str | None = None  # BuildKit's way to limits: `engine.cgroup` makes it
    memory_bytes: int | None = None  # the classic builder's


@dataclass(frozen=True)
class BuildOutcome:
    """How a build ended. `error` is the builder's own words; the log went to `on_output` as it came."""

    ok: bool
    builder: str
    seconds: float
    image_id: str | None = None
    steps: tuple[BuildStep, ...] = ()
    error: str | None = None
    timed_out: bool = False
    layers: tuple[str, ...] = ()  # images that the builder keeps of single steps, the last one first


@dataclass(frozen=True)
class ImageConfig:
    """What an image says of itself."""

    image_id: str
    bytes: int
    workdir: str = "/"
    user: str = ""
    env: Mapping[str, str] = field(default_factory=dict)
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()  # `8080/tcp`
    created: str = ""


@dataclass(frozen=True)
class Mount:
    """A folder of the host in a container."""

    source: Path
    target: str
    read_only: bool = True


@dataclass(frozen=True)
class DeviceGrant:
    """What an accelerator adds to a container, in the shapes of the engine's API; empty for the CPU."""

    device_requests: tuple[Mapping[str, Any], ...] = ()
    devices: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ContainerSpec:
    """A container as data. `sandbox` makes these; nothing else does."""

    image: str
    labels: Mapping[str, str]
    network: str  # "none", or "container:<id>" to share another's
    memory_bytes: int
    cpus: float
    pids: int
    shm_bytes: int
    entrypoint: tuple[str, ...] | None = None  # None: the image's own
    command: tuple[str, ...] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    mounts: tuple[Mount, ...] = ()
    tmpfs: Mapping[str, str] = field(default_factory=dict)
    ulimits: tuple[tuple[str, int, int], ...] = ()
    cap_drop: tuple[str, ...] = ("ALL",)
    cap_add: tuple[str, ...] = ()
    security_opt: tuple[str, ...] = ("no-new-privileges",)
    read_only: bool = False
    init: bool = True
    user: str | None = None
    runtime: str | None = None
    hostname: str | None = None
    extra_hosts: Mapping[str, str] = field(default_factory=dict)  # name -> address, into /etc/hosts
    grant: DeviceGrant = field(default_factory=DeviceGrant)


@dataclass(frozen=True)
class ContainerState:
    """The engine's own word on a container."""

    running: bool
    exit_code: int | None = None
    oom_killed: bool = False
    error: str = ""
    status: str = ""
    pid: int = 0


@dataclass(frozen=True)
class Usage:
    """What a container has used so far. `None`: the engine does not tell."""

    cpu_s: float | None = None
    memory_bytes: int | None = None
    peak_bytes: int | None = None
    pids: int | None = None


@dataclass(frozen=True)
class ExecResult:
    """A command that ran inside a container of ours."""

    exit_code: int | None
    stdout: bytes
    stderr: bytes = b""
    truncated: bool = False
    timed_out: bool = False


@dataclass(frozen=True)
class Owned:
    """Something on the engine that carries our labels."""

    kind: str  # "container", "image", "network", "volume"
    id: str
    name: str
    labels: Mapping[str, str]
    bytes: int = 0
    created: float = 0.0


class Engine(Protocol):
    """The port. Containers are named by the id that `create` returns."""

    def info(self) -> EngineInfo:
        """Describe the engine."""

    def build(self, request: BuildRequest, deadline: Deadline, on_output: Callable[[str], None]) -> BuildOutcome:
        """Build an image; at the deadline the running step is stopped. `on_output` gets the log, a line at a time."""

    def image(self, name: str) -> ImageConfig | None:
        """Return what an image says of itself, or `None` where it is not on this engine."""

    def create(self, spec: ContainerSpec, name: str | None = None) -> str:
        """Create a container without starting it; its id."""

    def start(self, container: str) -> str | None:
        """Start; returns the engine's own words where the container's command could not be started, else `None`."""

    def state(self, container: str) -> ContainerState:
        """Return the state. Raises `InfraError` where the container is gone."""

    def output(self, container: str) -> Iterator[bytes]:
        """Yield what the container writes, from the start, as it comes, until it ends or `kill`/`remove` ends it."""

    def usage(self, container: str) -> Usage:
        """Return what it has used so far; an empty `Usage` once it has ended."""

    def pids(self, container: str) -> list[int]:
        """Return its processes, by the host's numbers; none once it has ended."""

    def written_bytes(self, container: str) -> int | None:
        """Return the bytes in the container's own writable layer."""

    def kill(self, container: str) -> None:
        """End it now (SIGKILL). Quiet where it has ended already."""

    def changes(self, container: str) -> Iterator[tuple[str, str]]:
        """Yield `(path, "added" | "modified" | "deleted")` for what differs from the image, folders too.

        As they come from the engine: millions take no memory here.
        """

    def mounts(self, container: str) -> list[str]:
        """Return where its volumes are, whose files are in no `changes`; folders of the host are left out."""

    def read(self, container: str, path: str) -> Iterator[bytes] | None:
        """Stream a path as a tar archive, links kept as they are; `None` where there is no such path."""

    def put(self, container: str, folder: str, archive: bytes | IO[bytes]) -> None:
        """Unpack a tar archive of ours, or what is left to read of one, into a folder of a container."""

    def exec(
        self,
        container: str,
        argv: tuple[str, ...],
        stdin: bytes | Iterable[bytes],
        deadline: Deadline,
        max_output: int,
    ) -> ExecResult:
        """Run a command of ours inside a container of ours; pieces of `stdin` are taken as they are sent."""

    def remove(self, container: str) -> None:
        """Remove a container with its anonymous volumes, running or not. Quiet where it is gone.

        One whose network another has joined goes after that one: Podman refuses it before.
        """

    def remove_image(self, name: str) -> None:
        """Remove an image by tag or id. Quiet where it is gone."""

    def tag(self, image: str, name: str) -> None:
        """Give an image another name."""

    def owned(self, run_id: str | None = None) -> list[Owned]:
        """List what carries the label `dockerlab.run` (of one run, or of all)."""

    def remove_owned(self, thing: Owned) -> None:
        """Remove what `owned` listed. Quiet where it is gone."""

    def close(self) -> None:
        """Let go of the connection."""

    def __enter__(self) -> Engine:
        """Return itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
