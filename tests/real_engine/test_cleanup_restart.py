"""A run is killed while the engine is down: what it left goes once that is back. On an engine of the test's own."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import tarfile
import textwrap

import docker
import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.labels import new_run_id, process_started
from pytest_dockerlab.errors import EngineUnavailable

pytestmark = pytest.mark.engine

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


def test_the_helper_waits_for_an_engine_that_comes_back(own) -> None:
    empty = io.BytesIO()
    tarfile.open(fileobj=empty, mode="w").close()
    docker.DockerClient(base_url=own.host).api.import_image_from_data(empty.getvalue(), repository="empty")
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
