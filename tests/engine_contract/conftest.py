"""One suite, several engines. A test says what a script does to a fake engine; a real one runs the script.

| engine | what stands behind it |
| --- | --- |
| fake | `FakeEngine` |
| docker | Docker's API, BuildKit through `docker buildx` |
| classic | Docker's API, the classic builder (builds only: the rest is the same code) |
| podman | Podman's Docker API, on a service of its own with its own storage, where podman is installed |
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from pytest_dockerlab.context import tar_of
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import buildx
from pytest_dockerlab.engine.base import BuildOutcome, BuildRequest, ContainerSpec, ContainerState, Engine
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.fake import FakeEngine, FakeProgram
from pytest_dockerlab.engine.labels import new_run_id, run_labels
from pytest_dockerlab.images import names
from pytest_dockerlab.sandbox import START_CAPS

MIB = 1 << 20
CLIENT = "dockerlab/client:latest"
INITS = ("/usr/libexec/podman/catatonit", "/usr/libexec/catatonit/catatonit", "/usr/bin/catatonit")
LONG_S = 60.0  # far more than anything here takes; a busy machine is slow

# What Podman 4.3.1's Docker API can't do, each seen. A test that names the point expects it to fail there.
PODMAN_LACKS: dict[str, str] = {
    "layers": "each step of a build stays as an image without a name or our labels",
    "build-stop": "a build whose connection is closed goes on with the step that runs, until that ends by itself",
    "init-words": "behind its init (catatonit), a command that is not there ends with status 1, without its name",
    "oom": "where cgroups are version 1, it does not say that the memory ran out: the exit code 137 is all there is",
    "links": "an archive of a link holds what the link points to, inside the container; never a file of the host",
}


@dataclass
class Rig:
    """An engine, and a way to say what a script does on it."""

    name: str
    engine: Engine
    image: str  # has a shell
    client: str  # has Python
    folder: Path
    run_id: str = field(default_factory=new_run_id)
    made: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)

    @property
    def fake(self) -> bool:
        return isinstance(self.engine, FakeEngine)

    @property
    def labels(self) -> dict[str, str]:
        return dict(run_labels(self.run_id, "contract"))

    def says(self, script: str, does: FakeProgram) -> str:
        """Tell a fake engine what a script does; a real one knows."""
        if isinstance(self.engine, FakeEngine):
            self.engine.program(script, does)
        return script

    def spec(self, script: str, does: FakeProgram | None = None, **changes: object) -> ContainerSpec:
        if does is not None:
            self.says(script, does)
        spec = ContainerSpec(
            image=self.image,
            labels=self.labels,
            network="none",
            memory_bytes=64 * MIB,
            cpus=1.0,
            pids=64,
            shm_bytes=MIB,
            entrypoint=("sh", "-c"),
            command=(script,),
            cap_add=START_CAPS,  # as for training: root of an image writes where it likes
        )
        return replace(spec, **changes)  # type: ignore[arg-type]

    def create(self, script: str, does: FakeProgram | None = None, **changes: object) -> str:
        container = self.engine.create(self.spec(script, does, **changes))
        self.made.append(container)
        return container

    def started(self, script: str, does: FakeProgram | None = None, **changes: object) -> str:
        container = self.create(script, does, **changes)
        assert self.engine.start(container) is None
        return container

    def ended(self, script: str, does: FakeProgram | None = None, **changes: object) -> str:
        """A container that has run to its end."""
        container = self.started(script, does, **changes)
        self.wait(container)
        return container

    def wait(self, container: str) -> ContainerState:
        for _ in Deadline.after(LONG_S).poll(0.05):
            state = self.engine.state(container)
            if not state.running:
                return state
        raise AssertionError("the container does not end")

    def build(
        self,
        dockerfile: str,
        files: dict[str, bytes] | None = None,
        name: str = "Dockerfile",
        within_s: float = LONG_S,
        replaced: dict[str, str] | None = None,
    ) -> tuple[str, BuildOutcome, list[str]]:
        context = self.folder / "context.tar"
        context.write_bytes(tar_of({name: dockerfile.encode(), **(files or {})}))
        tag = f"dockerlab-contract/{self.name}:{self.run_id}"
        self.images.append(tag)
        log: list[str] = []
        request = BuildRequest(context, name, tag, self.labels, replaced or {})
        return tag, self.engine.build(request, Deadline.after(within_s), log.append), log

    def close(self) -> None:
        for container in reversed(self.made):  # what shares another's network goes first
            self.engine.remove(container)
        for image in self.images:
            self.engine.remove_image(image)
        for thing in self.engine.owned(self.run_id):
            self.engine.remove_owned(thing)


def members(stream: Iterator[bytes] | None) -> dict[str, tarfile.TarInfo]:
    """The members of an archive, by name."""
    assert stream is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        return {member.name: member for member in archive}


def content(stream: Iterator[bytes] | None) -> bytes:
    """The bytes of the one file in an archive."""
    assert stream is not None
    with tarfile.open(fileobj=io.BytesIO(b"".join(stream))) as archive:
        [member] = archive.getmembers()
        source = archive.extractfile(member)
        assert source is not None
        return source.read()


@pytest.fixture
def archive_of() -> Callable[[Iterator[bytes] | None], dict[str, tarfile.TarInfo]]:
    return members


@pytest.fixture
def content_of() -> Callable[[Iterator[bytes] | None], bytes]:
    return content


ENGINES = [
    pytest.param("fake"),
    pytest.param("docker", marks=pytest.mark.engine),
    pytest.param("podman", marks=pytest.mark.engine),  # it gets its images from Docker
]
BUILDERS = [*ENGINES, pytest.param("classic", marks=pytest.mark.engine)]


@pytest.fixture(scope="session")
def real_images(user_config: Path) -> dict[str, str]:
    """A shell and our client, as this machine's maps name them."""
    files = [user_config / "config.toml", user_config / "standins.toml"]
    maps = [names.load_map(file) for file in files if file.is_file()]
    wanted = {"image": names.resolve("alpine:latest", *maps) or "alpine:latest", "client": CLIENT}
    with DockerEngine() as engine:
        for name in wanted.values():
            if engine.image(name) is None:
                pytest.skip(f"the image {name} is missing; run `dockerlab images ensure`")
    return wanted


@pytest.fixture(scope="session")
def docker_engine() -> Iterator[DockerEngine]:
    with DockerEngine() as engine:
        yield engine


@pytest.fixture(scope="session")
def classic_engine() -> Iterator[DockerEngine]:
    """Docker as it is on a machine without buildx."""
    with DockerEngine() as engine:
        # Only while it is asked: a patch that lasts for the session would take buildx from every later test.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(buildx, "buildx_version", lambda: None)
            assert engine.info().builder == "classic"
        yield engine


@pytest.fixture(scope="session")
def podman_engine(tmp_path_factory: pytest.TempPathFactory, real_images: dict[str, str]) -> Iterator[DockerEngine]:
    """Podman's service, with storage of its own, and the images that the tests need."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not installed (apt-get install podman catatonit)")
    if not any(Path(place).exists() for place in INITS):
        pytest.skip("podman has no init for its containers (apt-get install catatonit)")
    import docker

    folder = tmp_path_factory.mktemp("podman")
    socket = folder / "podman.sock"
    # Low limits, which any machine can set: Podman's own default is a million, which takes CAP_SYS_RESOURCE.
    config = folder / "containers.conf"
    config.write_text('[containers]\ndefault_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]\n')
    environment = {**os.environ, "CONTAINERS_CONF": str(config)}
    argv = ["podman", "--root", str(folder / "root"), "--runroot", str(folder / "run"), "--tmpdir", str(folder / "tmp")]
    with (folder / "service.log").open("wb") as log:
        service = subprocess.Popen(
            [*argv, "system", "service", "--time=0", f"unix://{socket}"],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,  # conmon leaves a file `oom` where the service was started
        )
        try:
            for _ in Deadline.after(30).poll(0.1):
                if socket.exists() or service.poll() is not None:
                    break
            if not socket.exists():
                pytest.skip(f"podman's service does not start: {(folder / 'service.log').read_text()[-300:]}")
            for image in real_images.values():
                with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
                    subprocess.run([*argv, "load"], stdin=saved.stdout, check=True, capture_output=True, timeout=300)
            client = docker.DockerClient(base_url=f"unix://{socket}", version="auto", timeout=60)
            with DockerEngine(client) as engine:
                assert engine.info().name == "Podman"
                yield engine
        finally:
            service.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                service.wait(10)
            service.kill()
            end_monitors(folder)
            subprocess.run([*argv, "system", "reset", "--force"], capture_output=True, timeout=120, check=False)
            unmount_below(folder)


def end_monitors(folder: Path) -> None:
    """End the monitor (conmon) of each `exec`: after five minutes it calls podman, which makes its folders anew."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            program, *argv = entry.read_bytes().split(b"\0")
            if program.endswith(b"/conmon") and any(os.fsencode(folder) in word for word in argv):
                os.kill(int(entry.parent.name), signal.SIGKILL)


def unmount_below(folder: Path) -> None:
    """Podman leaves its storage mounted on itself; pytest could never remove the folder."""
    points = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for point in sorted((point for point in points if point.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", point], capture_output=True, check=False)


def rig_for(request: pytest.FixtureRequest, folder: Path) -> Rig:
    if request.param == "fake":
        engine: Engine = FakeEngine()
        for name in ("shell:latest", "client:latest"):
            engine.add_image(name, {"/bin/busybox": b"\x7fELF", "/etc/hostname": b"image\n"})
        return Rig("fake", engine, "shell:latest", "client:latest", folder)
    images = request.getfixturevalue("real_images")
    if request.param == "podman":
        lacking = request.node.get_closest_marker("podman_lacks")
        if lacking is not None:
            request.applymarker(
                pytest.mark.xfail(reason=PODMAN_LACKS[lacking.args[0]], strict=lacking.args[0] != "oom")
            )
    engine = request.getfixturevalue(f"{request.param}_engine")
    return Rig(request.param, engine, images["image"], images["client"], folder)


@pytest.fixture(params=ENGINES)
def rig(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    rig = rig_for(request, tmp_path)
    yield rig
    rig.close()


@pytest.fixture(params=BUILDERS)
def builder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Rig]:
    rig = rig_for(request, tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def seconds() -> Callable[[], float]:
    """A stopwatch."""
    started = time.monotonic()
    return lambda: time.monotonic() - started
