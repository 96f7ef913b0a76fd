"""Training under gVisor, on an engine of the test's own that has the runtime; the shared one stays as it is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pytest_dockerlab import sandbox
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.engine.connect import connect
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.grade import Grade, grade
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission

pytestmark = [pytest.mark.engine, pytest.mark.images]

ARGS = ["--platform=systrap", "--network=none"]  # ENGINE.md: --network=sandbox fails in a root network namespace
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
def gvisor(user_config: Path, start_engine) -> Iterator[str]:
    """The address of an engine that has the runtime, and the stand-in for Python."""
    runsc = shutil.which("runsc")
    if runsc is None:
        pytest.skip("not here: runsc (Debian 13's package also installs on Debian 12)")
    own = start_engine(runtimes={"runsc": {"path": runsc, "runtimeArgs": ARGS}})
    own.load("python:3.11-slim", user_config)
    yield own.host
    own.stop()


@pytest.fixture
def engine(gvisor: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """That engine, as the one to use."""
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
