"""Training under gVisor, on an engine of the test's own that has the runtime; the shared one stays as it is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_dockerlab import sandbox
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.engine.connect import connect
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.grade import Grade, grade
from pytest_dockerlab.images import names
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission

pytestmark = [pytest.mark.engine, pytest.mark.images]

ARGS = ["--platform=systrap", "--network=none"]  # ENGINE.md: --network=sandbox fails in a root network namespace
START_S = 60.0
TOML = """
schema = 1
name = "sandboxed"
title = {{ en = "S", zh = "S" }}
[[checks]]
id = "train"
points = 10
title = {{ en = "t", zh = "t" }}
[train]
data = "none"
[limits]
memory = "{memory}"
pids = 128
[timeouts]
train = 60
"""


@pytest.fixture(scope="module")
def gvisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a dockerd in a network of its own (else it would take the first one's bridge away)."""
    missing = [name for name in ("dockerd", "runsc", "unshare", "docker") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"not here: {', '.join(missing)} (Debian 13's package runsc also installs on Debian 12)")
    if os.geteuid() != 0:
        pytest.skip("an engine of one's own needs root")
    folder = tmp_path_factory.mktemp("gvisor")
    host = f"unix://{folder}/docker.sock"
    config = folder / "daemon.json"
    config.write_text(json.dumps({"runtimes": {"runsc": {"path": shutil.which("runsc"), "runtimeArgs": ARGS}}}))
    argv = [
        "unshare",
        "--net",
        "dockerd",
        "--config-file",
        str(config),
        "-H",
        host,
        "--data-root",
        str(folder / "data"),
    ]
    argv += ["--exec-root", str(folder / "exec"), "--pidfile", str(folder / "pid"), "--bridge=none", "--iptables=false"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + START_S
        while subprocess.run(["docker", "-H", host, "version"], capture_output=True, check=False).returncode:
            if process.poll() is not None or time.monotonic() > until:
                pytest.skip("an engine of the test's own does not start: " + (folder / "log").read_text()[-300:])
            time.sleep(0.5)
        yield host
    finally:
        process.terminate()
        process.wait(30)


@pytest.fixture
def engine(gvisor: str, monkeypatch: pytest.MonkeyPatch, user_config: Path) -> str:
    """That engine, with the stand-in for Python under the name that Dockerfiles use."""
    maps = [
        names.load_map(file) for file in user_config.glob("*.toml") if file.name in ("config.toml", "standins.toml")
    ]
    python = names.resolve("python:3.11-slim", *maps) or "python:3.11-slim"
    with subprocess.Popen(["docker", "save", python], stdout=subprocess.PIPE) as saved:
        subprocess.run(["docker", "-H", gvisor, "load"], stdin=saved.stdout, check=True, capture_output=True)
    subprocess.run(["docker", "-H", gvisor, "tag", python, "python:3.11-slim"], check=True)
    monkeypatch.setenv("DOCKER_HOST", gvisor)
    return gvisor


def graded(folder: Path, script: str, runtime: str, memory: str = "512MiB") -> Grade:
    submission, lab = folder / "student", folder / "lab"
    submission.mkdir()
    lab.mkdir()
    (submission / "Dockerfile").write_text('FROM python:3.11-slim\nCOPY train.py /\nCMD ["python3", "/train.py"]\n')
    (submission / "train.py").write_text(script)
    (lab / "assignment.toml").write_text(TOML.format(memory=memory))
    assignment = Assignment.load(str(lab))
    settings = Settings(submission=submission, gpu="none", runtime=runtime, given=frozenset({"gpu"}))
    return grade(Submission.load(submission, assignment.spec.limits), assignment, settings)


def test_training_runs_under_gvisor(engine: str, tmp_path: Path):
    script = "print(open('/proc/version').read())\nfor n in range(5): print(f'Epoch {n} loss: {1 / (n + 1)}')\n"
    found = graded(tmp_path, script, "runsc")
    [check] = found.checks
    assert check.outcome.value == "passed", check.message
    assert found.facts["train"].runtime == "runsc"
    # gVisor's own kernel says that it is Linux 4.4.0, whatever runs below.
    log = (found.folder / "train.log").read_text()
    assert "Linux version 4.4.0" in log
    assert os.uname().release not in log
    assert len(found.facts["loss"].points) == 5


def test_the_memory_limit_holds_under_gvisor(engine: str, tmp_path: Path):
    found = graded(tmp_path, "held = []\nwhile True: held.append(bytearray(8 << 20))\n", "runsc", "256MiB")
    [check] = found.checks
    assert check.outcome.value == "failed"
    assert found.facts["train"].ended.value in ("oom", "killed", "exited")
    assert found.facts["train"].peak_rss_bytes is None or found.facts["train"].peak_rss_bytes <= 260 << 20


def test_the_default_runtime_is_named(engine: str, tmp_path: Path):
    found = graded(tmp_path, "print(open('/proc/version').read())\n", "auto")
    assert found.checks[0].outcome.value == "passed", found.checks[0].message
    assert found.facts["train"].runtime == "runc"
    assert "Linux version 4.4.0" not in (found.folder / "train.log").read_text()


def test_a_runtime_that_is_not_there_is_no_grade():
    with DockerEngine(connect()) as engine:
        info = engine.info()
    if "runsc" in info.runtimes:
        pytest.skip("this engine has runsc")
    with pytest.raises(InfraError, match="runsc was asked for") as caught:
        sandbox.runtime_for("runsc", info)
    assert "daemon.json" in (caught.value.fix or "")
    assert sandbox.runtime_for("runc", info) == "runc"
    assert sandbox.runtime_for("auto", info) is None
