"""A whole `pytest --dockerlab` is interrupted at work, or its engine restarts under it: nothing stays, nothing is lost.

Each submission runs an endless `sleep` of its own length at the stage in question, so that the machine's list of
processes tells when it is at work and when its containers are gone.
"""

from __future__ import annotations

import json
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pytest_dockerlab import paths
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.labels import PID

pytestmark = [pytest.mark.engine, pytest.mark.images, pytest.mark.usefixtures("lab_images")]

GONE_S = 15.0
AT_WORK_S = 90.0
MODEL = Path(__file__).parents[1] / "samples" / "artifacts" / "state_dict.pt"
CHECKS = ("dockerfile", "build", "train", "loss", "artifact", "serve", "predict")
ASSIGNMENT = """
schema = 1
name = "tiny"
title = {{ en = "Tiny", zh = "小" }}
{checks}
[train]
data = "none"
artifacts = ["*.pt"]
[serve]
server = "http"
[timeouts]
total = {total}
"""
TRAIN = """
for loss in 2.3 1.9 1.2 0.8 0.5; do echo "loss=$loss"; done
{wait}
cp model.bin model.pt
"""


def at_work(seconds: str) -> bool:
    """Whether that sleep runs; the engine's containers and build steps are processes of this machine."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"sleep") and seconds.encode() in words:
            return True
    return False


class Lab:
    """A submission that stops at one stage, and its grading."""

    def __init__(self, folder: Path, stage: str, seconds: str = "", total: int = 600) -> None:
        self.seconds = seconds or str(10_000_000 + secrets.randbelow(80_000_000))
        wait = f"sleep {self.seconds}"
        self.lab, self.student = folder / "lab", folder / "student"
        self.lab.mkdir()
        rows = (f'[[checks]]\nid = "{name}"\npoints = 1\ntitle = {{ en = "{name}", zh = "{name}" }}' for name in CHECKS)
        (self.lab / "assignment.toml").write_text(ASSIGNMENT.format(checks="\n".join(rows), total=total))
        mnist = Assignment.load("mnist").folder
        shutil.copyfile(mnist / "test_mnist.py", self.lab / "test_tiny.py")
        (self.student / "serve").mkdir(parents=True)
        step = f"RUN {wait}" if stage == "build" else ""
        (self.student / "Dockerfile").write_text(
            f'FROM alpine:3.20\nWORKDIR /lab\nCOPY . ./\n{step}\nCMD ["sh", "train.sh"]\n'
        )
        (self.student / "train.sh").write_text(TRAIN.format(wait=wait if stage == "train" else ""))
        (self.student / "serve" / "Dockerfile").write_text(
            f'FROM alpine:3.20\nCOPY model.pt /\nCMD ["sleep", "{self.seconds}"]\n'
        )
        shutil.copyfile(MODEL, self.student / "model.bin")
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> subprocess.Popen[str]:
        """Start grading, and wait until the sleep runs."""
        argv = [sys.executable, "-m", "pytest", "--dockerlab", f"--dockerlab-assignment={self.lab}"]
        self.process = subprocess.Popen(
            argv, cwd=self.student, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        looks = Deadline.after(AT_WORK_S).poll(0.1)
        assert any(at_work(self.seconds) or self.process.poll() is not None for _ in looks), "it was never at work"
        if self.process.poll() is not None:
            pytest.fail(f"it ended too early:\n{self.process.stdout.read()}")  # type: ignore[union-attr]
        return self.process

    def left(self) -> list[str]:
        """What the engine has of this grading, by the process that its labels name."""
        assert self.process is not None
        with DockerEngine() as engine:
            owned = [thing for thing in engine.owned() if thing.labels.get(PID) == str(self.process.pid)]
        return [f"{thing.kind} {thing.name}" for thing in owned]


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lab]]:
    """Make such a lab in a cache of its own; a grading that a failed test left is ended."""
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "cache"))
    made: list[Lab] = []

    def make(stage: str, **more: Any) -> Lab:
        made.append(Lab(tmp_path, stage, **more))
        return made[-1]

    yield make
    for one in made:
        if one.process is not None and one.process.poll() is None:
            one.process.terminate()
            one.process.wait(60)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name)
@pytest.mark.parametrize("stage", ["build", "train", "serve"])
def test_nothing_stays_of_a_killed_grading(lab: Callable[..., Lab], stage: str, sign: signal.Signals) -> None:
    one = lab(stage)
    process = one.start()
    assert stage == "build" or one.left()  # of an image nothing is there before its last step
    process.send_signal(sign)
    assert any(not at_work(one.seconds) and not one.left() for _ in Deadline.after(GONE_S).poll(0.2)), one.left()
    assert process.wait(GONE_S) not in (0, 1)
    output = process.stdout.read() if process.stdout else ""
    assert "INTERNALERROR" not in output
    assert "Traceback" not in output
    # What was seen until then is on disk, and is used by the next run.
    [run] = (paths.cache_dir() / "runs").iterdir()
    kept = {"build": ["dockerfile.json"], "train": ["build.json"], "serve": ["train.json", "artifact.json"]}
    for name in kept[stage]:
        assert (run / name).is_file(), sorted(path.name for path in run.iterdir())
    if stage != "build":
        assert "loss=0.5" in (run / "train.log").read_text()


def outcomes() -> dict[str, str]:
    """What became of each check, as the one run of this test's cache keeps it."""
    [run] = (paths.cache_dir() / "runs").iterdir()
    return {check["id"]: check["outcome"] for check in json.loads((run / "results.json").read_text())["checks"]}


@pytest.fixture
def elsewhere(own, user_config: Path, monkeypatch: pytest.MonkeyPatch):
    """An engine of the test's own, as the one to grade on."""
    own.load("alpine:3.20", user_config)
    own.load("dockerlab/client:latest", user_config)
    monkeypatch.setenv("DOCKER_HOST", own.host)
    return own


def test_training_begins_again_where_the_engine_restarts(elsewhere, lab: Callable[..., Lab]) -> None:
    one = lab("train", seconds=f"6.{secrets.randbelow(10**6):06}")
    process = one.start()
    elsewhere.stop()
    elsewhere.start()
    output, _ = process.communicate(timeout=120)
    assert "Trying once more" in output
    assert outcomes() == dict.fromkeys(CHECKS[:5], "passed") | {"serve": "failed", "predict": "blocked"}, output
    assert one.left() == []


def test_an_engine_that_stays_away_is_no_grade(elsewhere, lab: Callable[..., Lab]) -> None:
    one = lab("train", total=20)
    process = one.start()
    elsewhere.stop()
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 10, output
    assert "The engine went away" in output
    assert outcomes()["train"] == "infra"
    elsewhere.start()
    assert any(not one.left() for _ in Deadline.after(GONE_S).poll(0.5)), one.left()
