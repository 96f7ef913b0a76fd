"""What a build may write and print, without an engine."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pytest_dockerlab.context import tar_of
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import cgroup, classic, disk
from pytest_dockerlab.engine.base import BuildRequest
from pytest_dockerlab.engine.process import run_process


@pytest.fixture
def group(tmp_path, monkeypatch):
    """A group of one process, whose layer is a folder of this test's."""
    monkeypatch.setattr(cgroup.Group, "_a_pid_of_each", lambda _: iter([1]))
    monkeypatch.setattr(cgroup, "_own_layer", lambda _: tmp_path)
    return cgroup.Group("/none", {})


def test_what_a_step_wrote_is_measured(group, tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "big").write_bytes(os.urandom(3 << 20))
    assert group.wrote_too_much(4 << 20) is None
    assert group.wrote_too_much(2 << 20) == "more than 2 MiB"


def test_a_file_that_goes_meanwhile_hides_no_other(group, tmp_path, monkeypatch):
    for name in ("a", "b", "c"):
        (tmp_path / name).write_bytes(os.urandom(3 << 20))
    scandir = os.scandir

    class Removing:
        """The entries of a folder, each of whose files is removed before it is looked at, but for the last."""

        def __init__(self, folder):
            self.entries = sorted(scandir(folder), key=lambda entry: entry.name)

        def __enter__(self):
            for entry in self.entries[:-1]:
                Path(entry.path).unlink()
            return iter(self.entries)

        def __exit__(self, *_):
            return None

    monkeypatch.setattr(cgroup.os, "scandir", Removing)
    assert group.wrote_too_much(2 << 20) == "more than 2 MiB"


def test_files_without_content_are_counted(group, tmp_path, monkeypatch):
    monkeypatch.setattr(disk, "MAX_FILES", 20)
    for number in range(30):
        (tmp_path / str(number)).touch()
    assert group.wrote_too_much(1 << 40) == "more than 20 files"


def test_what_no_path_reaches_is_too_much(group, tmp_path):
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("x" * 200, dir_fd=here)
        inside = os.open("x" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inside
    os.close(here)
    assert "no path reaches" in (group.wrote_too_much(1 << 40) or "")


def test_a_step_that_prints_like_the_builder_is_held_within_bounds(tmp_path, monkeypatch):
    """Images and steps are read from the classic builder's words, which a step can print without end."""
    line = " ---> {number:012x}\\nStep 1/1 : RUN x\\n"
    program = f"import json\nfor number in range(5000): print(json.dumps({{'stream': f'{line}'}}))\n"

    def run(_argv, deadline, on_line, env):
        return run_process([sys.executable, "-c", program], deadline, on_line, env=env)

    monkeypatch.setattr(classic, "run_process", run)
    context = tmp_path / "context.tar"
    context.write_bytes(tar_of({"Dockerfile": b"FROM x\n"}))
    request = BuildRequest(context, "Dockerfile", "x", {})
    found = classic.build(request, Deadline.after(30), lambda _line: None, "unix:///nowhere")
    assert found.layers == tuple(f"{number:012x}" for number in range(4999, 4999 - classic.MAX_LAYERS, -1))
    assert len(found.steps) == classic.MAX_STEPS


@pytest.mark.parametrize(
    ("syntax", "error", "lacks"),
    [
        ("a heredoc (`<<EOF`)", "unknown instruction: echo", True),
        ("a heredoc (`<<EOF`)", 'stat: "/<<EOF": no such file', True),
        ("`RUN --network` or `--security`", "unknown instruction: FOO", False),
        ("`COPY --link`", "COPY only supports the --chmod flags", True),
        ("`COPY --link`", "the command failed", False),
    ],
)
def test_what_podmans_builder_lacks_is_told_from_a_students_mistake(syntax, error, lacks):
    assert classic.podman_lacks(syntax, error) is lacks
