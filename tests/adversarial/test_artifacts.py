"""Runs that leave links, pipes, gigantic and badly named files, and pickles with teeth, on the real engine.

Nothing here may hang, read a file of the host, unpack anything, or run what a pickle says.
"""

from __future__ import annotations

import json
import os
import pickle
import time
import zipfile
from pathlib import Path

import pytest

from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.checks.base import CheckResult
from pytest_dockerlab.facts import Artifact
from pytest_dockerlab.grade import Grade, grade
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission

pytestmark = [pytest.mark.engine, pytest.mark.images, pytest.mark.usefixtures("lab_images")]

SAMPLES = Path(__file__).parents[1] / "samples" / "artifacts"
ASSIGNMENT = """
schema = 1
name = "tiny"
title = { en = "Tiny", zh = "小" }
[[checks]]
id = "dockerfile"
points = 1
title = { en = "Dockerfile", zh = "Dockerfile" }
[[checks]]
id = "build"
points = 1
title = { en = "build", zh = "构建" }
[[checks]]
id = "train"
points = 1
title = { en = "train", zh = "训练" }
[[checks]]
id = "artifact"
points = 7
title = { en = "artifact", zh = "模型" }
[train]
data = "none"
artifacts = ["*.pt"]
[limits]
artifact = "8MiB"
disk = "1TiB"
"""
DOCKERFILE = """FROM alpine:3.20
WORKDIR /lab
COPY . ./
CMD ["sh", "run.sh"]
"""


@pytest.fixture
def run(tmp_path: Path):
    """Grade a submission whose training is a shell script; `model.bin` is a sound state_dict."""

    def graded(script: str, files: dict[str, bytes] | None = None) -> Grade:
        folder = tmp_path / "student"
        folder.mkdir()
        (folder / "Dockerfile").write_text(DOCKERFILE)
        (folder / "run.sh").write_text(script)
        (folder / "model.bin").write_bytes((SAMPLES / "state_dict.pt").read_bytes())
        for name, data in (files or {}).items():
            (folder / name).write_bytes(data)
        (tmp_path / "tiny").mkdir()
        (tmp_path / "tiny" / "assignment.toml").write_text(ASSIGNMENT)
        assignment = Assignment.load(str(tmp_path / "tiny"))
        submission = Submission.load(folder, assignment.spec.limits)
        return grade(submission, assignment, Settings(submission=folder, gpu="none"))

    return graded


def of(result: Grade) -> tuple[CheckResult, Artifact]:
    by_id = {check.id: check for check in result.checks}
    assert by_id["train"].outcome.value == "passed", by_id["train"].message
    fact = result.facts["artifact"]
    assert isinstance(fact, Artifact)
    json.dumps(result.to_results(), allow_nan=False).encode()
    return by_id["artifact"], fact


def test_a_link_to_a_file_of_the_host(run):
    check, fact = of(run("ln -s /etc/hostname model.pt; ln -s ../../../../etc/passwd other.pt"))
    assert check.outcome.value == "failed"
    assert "is a link, not a file" in check.message
    assert {one.state for one in fact.candidates} == {"link"}
    assert fact.file is None


def test_a_folder_that_is_a_link(run):
    check, fact = of(run("ln -s / all; mkdir real; ln -s ../model.bin real/model.pt"))
    assert check.outcome.value == "failed"
    assert [one.path for one in fact.candidates] == ["/lab/real/model.pt"]


def test_a_hard_link_is_an_ordinary_file(run):
    check, fact = of(run("ln model.bin model.pt"))
    assert check.outcome.value == "passed"
    assert fact.details["parameters"] == 119


def test_a_pipe(run):
    check, _ = of(run("mkfifo model.pt"))
    assert "is a pipe or a device, not a file" in check.message


def test_no_device_can_be_made(run):
    check, _ = of(run("mknod model.pt c 1 5 2>/dev/null; true"))
    assert "wrote no model file" in check.message


def test_a_sparse_terabyte_is_not_read(run):
    started = time.monotonic()
    check, fact = of(run("dd if=/dev/zero of=model.pt bs=1 count=1 seek=1098437885951"))
    assert "bigger than is allowed" in check.message
    assert fact.candidates[0].bytes == 1023 << 30
    assert time.monotonic() - started < 120


def test_a_hundred_thousand_files(run):
    script = "mkdir model.pt d && cd d && seq 100000 | sed 's/$/.pt/' | xargs touch && cp ../model.bin ../a.pt"
    started = time.monotonic()
    check, fact = of(run(script))
    assert check.outcome.value == "passed", check.message
    assert fact.path == "/lab/a.pt"
    assert len(fact.candidates) <= 50
    assert time.monotonic() - started < 180


@pytest.mark.parametrize(
    "name",
    [
        r"a\nb.pt",
        r"\033[31mred\033[0m\007.pt",
        "<script>alert(1)<.script>.pt",
        "::error::x.pt",
        r"\377\376.pt",
        "-rf.pt",
    ],
    ids=["newline", "terminal", "html", "workflow", "not-utf8", "option"],
)
def test_names_that_bite(run, name: str):
    check, fact = of(run(f"cp model.bin ./\"$(printf '{name}')\""))
    if name.startswith(r"\377"):  # the engine's own answer has no such name, so the file can't be asked for
        assert check.outcome.value == "failed"
        return
    assert check.outcome.value == "passed", check.message
    assert fact.path == "/lab/" + name.encode().decode("unicode_escape")


class Bomb:
    def __reduce__(self):
        return os.system, ("touch /canary; echo bang > /tmp/canary",)


def test_a_pickle_bomb_is_named_and_does_not_go_off(run, tmp_path: Path):
    path = tmp_path / "bomb"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"w": Bomb()}, 2))
    before = (Path("/canary").exists(), Path("/tmp/canary").exists())
    check, fact = of(run("cp bomb model.pt", {"bomb": path.read_bytes()}))
    assert check.outcome.value == "failed"
    assert "system: loading it would run that" in check.message
    assert fact.details["read"] is True
    assert fact.details["tensor_count"] == 0
    assert (Path("/canary").exists(), Path("/tmp/canary").exists()) == before == (False, False)


def test_a_pickle_that_eats_memory_is_stopped(run, tmp_path: Path):
    # Three million lists from a few kB of zip file: the reader's container has a limit, the host reads opcodes only.
    data = b"\x80\x02(" + b"]" * 3_000_000 + b"l."
    path = tmp_path / "eater"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/data/0", bytes(1 << 20))
    check, fact = of(run("cp eater model.pt", {"eater": path.read_bytes()}))
    assert check.outcome.value in ("passed", "failed")
    assert "read" in fact.details


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><title>403</title>", "is an HTML page"),
        ((SAMPLES / "state_dict.pt").read_bytes()[:-400], "ends too early"),
        ((SAMPLES / "zeros.pt").read_bytes(), "holds one value only"),
        (b"", "is empty"),
    ],
    ids=["html", "cut-off", "zeros", "empty"],
)
def test_what_is_no_trained_model(run, data: bytes, words: str):
    check, _ = of(run("cp given model.pt", {"given": data}))
    assert check.outcome.value == "failed"
    assert words in check.message


def test_nan_is_told(run):
    result = run("cp given model.pt", {"given": (SAMPLES / "nan.pt").read_bytes()})
    check, _ = of(result)
    assert check.outcome.value == "passed"
    assert any("1 of 9 tensors hold NaN" in note for note in result.notes)
