"""Engines of a test's own, beside the machine's: to be stopped, or to have a runtime that the machine's has not."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.images import names

UP_S = 60.0


class OwnEngine:
    """A dockerd that only one test knows, without networks."""

    def __init__(self, folder: Path, config: dict[str, object]) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        (folder / "daemon.json").write_text(json.dumps(config))
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it anew; the test is skipped where it does not come up."""
        # In a network namespace of its own: a dockerd with --bridge=none removes docker0 wherever it finds it, and so
        # takes the network away from the containers of the machine's own engine (seen on 26.1.5).
        argv = ["unshare", "--net", "dockerd", "--host", self.host, "--bridge=none"]
        argv += ["--iptables=false", "--ip6tables=false", "--config-file", str(self.folder / "daemon.json")]
        argv += ["--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")]
        argv += ["--pidfile", str(self.folder / "dockerd.pid")]
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        looks = Deadline.after(UP_S).poll(0.3)
        if not any(self.answers() or self._process.poll() is not None for _ in looks) or not self.answers():
            self.stop()
            pytest.skip(f"no second engine can run here: {(self.folder / 'dockerd.log').read_text()[-300:]}")

    def answers(self) -> bool:
        """Whether it is up."""
        try:
            docker.DockerClient(base_url=self.host, timeout=5).ping()
        except (docker.errors.DockerException, OSError):
            return False
        return True

    def stop(self) -> None:
        """End it, and with it what runs on it."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def port(self) -> DockerEngine:
        """Return our port to it."""
        return DockerEngine(docker.DockerClient(base_url=self.host))

    def load(self, name: str, user_config: Path) -> None:
        """Copy an image of the machine's engine, under the name that Dockerfiles use."""
        files = (user_config / file for file in (names.CONFIG_FILE, names.STANDINS_FILE))
        image = names.resolve(name, *(names.load_map(file) for file in files if file.is_file())) or name
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saved:
            subprocess.run(["docker", "-H", self.host, "load"], stdin=saved.stdout, check=True, capture_output=True)
        subprocess.run(["docker", "-H", self.host, "tag", image, name], check=True)


@pytest.fixture(scope="session")
def start_engine() -> Iterator[Callable[..., OwnEngine]]:
    """Start such an engine with settings of daemon.json; it ends with the session at the latest."""
    missing = [name for name in ("dockerd", "docker", "unshare") if shutil.which(name) is None]
    if missing or os.geteuid() != 0:
        pytest.skip(f"an engine of a test's own needs root, dockerd, docker and unshare; missing: {missing or 'root'}")
    started: list[OwnEngine] = []

    def start(**config: object) -> OwnEngine:
        # Not below pytest's folder: the path of a socket is short (containerd takes 104 characters).
        started.append(OwnEngine(Path(tempfile.mkdtemp(prefix="dockerd-")), config))
        started[-1].start()
        return started[-1]

    yield start
    for engine in started:
        engine.stop()
        shutil.rmtree(engine.folder)


@pytest.fixture
def own(start_engine: Callable[..., OwnEngine]) -> Iterator[OwnEngine]:
    """An engine that ends with the test."""
    engine = start_engine()
    yield engine
    engine.stop()
