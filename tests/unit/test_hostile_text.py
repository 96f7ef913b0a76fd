"""What hostile Dockerfiles, dockerlab.toml and image names can't do: each was a finding of a review."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dockerlab import dockerfiles, sandbox, tomlfile
from pytest_dockerlab.engine.classic import needs_buildkit
from pytest_dockerlab.errors import ImageUnavailable, UsageError
from pytest_dockerlab.facts import BaseImage
from pytest_dockerlab.serve.dockerfile import scan
from pytest_dockerlab.stages.build import _raise_if_registry
from pytest_dockerlab.submission import SubmissionFile

HUB_DOWN = (
    "failed to solve: pytorch/pytorch:1: failed to resolve source metadata for docker.io/pytorch/pytorch:1: "
    "failed to do request: dial tcp: i/o timeout"
)


def test_variables_that_double_stay_small():
    lines = ["FROM x", "ENV v0=aaaaaaaaaaaaaaaa", *(f"ENV v{n + 1}=$v{n}$v{n}" for n in range(60)), "RUN echo $v60"]
    assert scan("\n".join(lines)).sources == ()  # within moments, and no terabyte


def test_long_runs_of_blanks_are_read_at_once():
    assert dockerfiles.parse("FROM a" + " " * 200_000 + "x").has_from
    assert needs_buildkit("\n" * 200_000 + "FROM x") is None


def test_a_registry_that_is_down_is_nobodys_dockerfile():
    with pytest.raises(ImageUnavailable):
        _raise_if_registry(HUB_DOWN, (BaseImage("pytorch/pytorch:1"),))


@pytest.mark.parametrize(
    ("error", "base"),
    [
        ('process "/bin/sh -c exit 1 # pulling: dial tcp" did not complete successfully: exit code: 1', "python:3"),
        (HUB_DOWN.replace("docker.io", "localhost:1"), "localhost:1/x"),
    ],
    ids=["a step that quotes it", "a registry of the student's own"],
)
def test_words_of_the_dockerfile_are_no_outage(error: str, base: str):
    _raise_if_registry(error, (BaseImage(base),))


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a" + ".a" * 3000 + " = 1"], ids=["lists", "keys"])
def test_deep_toml_is_refused(tmp_path: Path, text: str):
    (tmp_path / "dockerlab.toml").write_text(text)
    with pytest.raises(UsageError, match=r"dockerlab\.toml"):
        tomlfile.load(tmp_path / "dockerlab.toml", SubmissionFile)


@pytest.mark.parametrize("workdir", ["/a:b", "/proc/self", "/sys", "/dev/shm"])
def test_data_is_mounted_only_where_it_can_be(workdir: str):
    assert sandbox.data_targets(workdir) == ["/data"]
