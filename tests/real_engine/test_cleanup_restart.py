"""A run is killed while the engine is down: what it left goes once that is back. On an engine of the test's own."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.labels import new_run_id, process_started
from pytest_dockerlab.errors import EngineUnavailable

pytestmark = pytest.mark.engine

UP_S = 60.0
PROGRAM = """
    import sys, time, docker
    from pytest_dockerlab import sandbox
    from pytest_dockerlab.engine.docker import DockerEngine
    from pytest_dockerlab.engine.guard import Guard
    from pytest_dockerlab.engine.labels import run_labels
    run_id, host = sys.argv[1:]
    engine = DockerEngine(docker.DockerClient(base_url=host))
    guard = Guard.start(run_id, engine.host)
    engine.create(sandbox.probe("empty:latest", run_labels(run_id, "test")))
    print(guard.pid, flush=True)
    time.sleep(600)
"""


class OwnEngine:
    """A dockerd that only this test knows, without networks."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        # In a network namespace of its own: a dockerd with --bridge=none removes docker0 wherever it finds it, and so
        # takes the network away from the containers of the machine's own engine (seen on 26.1.5).
        argv = ["unshare", "--net", "dockerd", "--host", self.host, "--bridge=none"]
        argv += ["--iptables=false", "--ip6tables=false"]
        argv += ["--data-root", str(self.folder / "data"), "--exec-root", str(self.folder / "exec")]
        argv += ["--pidfile", str(self.folder / "dockerd.pid")]
        with (self.folder / "dockerd.log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
        if not any(self.answers() for _ in Deadline.after(UP_S).poll(0.3)):
            self.stop()
            pytest.skip(f"no second engine can run here: {(self.folder / 'dockerd.log').read_text()[-300:]}")

    def answers(self) -> bool:
        try:
            docker.DockerClient(base_url=self.host, timeout=5).ping()
        except (docker.errors.DockerException, OSError):
            return False
        return True

    def stop(self) -> None:
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
        return DockerEngine(docker.DockerClient(base_url=self.host))


@pytest.fixture
def own(tmp_path: Path) -> Iterator[OwnEngine]:
    if os.geteuid() != 0 or shutil.which("dockerd") is None or shutil.which("unshare") is None:
        pytest.skip("a second engine needs root, dockerd and unshare")
    engine = OwnEngine(tmp_path)
    engine.start()
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    docker.DockerClient(base_url=engine.host).api.import_image_from_data(empty.getvalue(), repository="empty")
    yield engine
    engine.stop()


def test_the_helper_waits_for_an_engine_that_comes_back(own: OwnEngine) -> None:
    run_id = new_run_id()
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM), run_id, own.host], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    helper = int(process.stdout.readline())
    with own.port() as port:
        assert len(port.owned(run_id)) == 1
    own.stop()
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with pytest.raises((EngineUnavailable, docker.errors.DockerException)):
        own.port().owned(run_id)
    assert process_started(helper) is not None
    own.start()
    with own.port() as port:
        assert any(not port.owned(run_id) for _ in Deadline.after(15).poll(0.2))
    assert any(process_started(helper) is None for _ in Deadline.after(15).poll(0.2)), "the helper stays"
