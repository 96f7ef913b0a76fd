"""Watching a container: whose files they are that fill the engine's disk."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pytest_dockerlab import sandbox
from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import disk
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.engine.fake import FakeEngine, FakeProgram
from pytest_dockerlab.engine.watch import Watch, Watched
from pytest_dockerlab.facts import Ended


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Run a container that writes so many files, on a disk on which 1000 appear meanwhile."""
    monkeypatch.setattr(disk, "MAX_FILES", 100)
    monkeypatch.setattr(disk.NewFiles, "count", lambda _: 1000)

    def run(files: int, volumes: tuple[str, ...] = ()) -> Watched:
        engine = FakeEngine()
        image = ImageConfig("", 0, workdir="/app", cmd=("train",), volumes=volumes)
        engine.add_image("lab", {}, image)
        engine.program("train", FakeProgram(files={f"/out/{number}": b"" for number in range(files)}))
        container = engine.create(sandbox.training("lab", image, Limits(), {}))
        return Watch(engine, container, Limits(), tmp_path / "log").run(Deadline.after(30))

    return run


@pytest.mark.parametrize("volumes", [(), ("/out",)])
def test_too_many_files_are_its_own(watched, volumes):
    found = watched(200, volumes)
    assert (found.ended, found.error) == (Ended.DISK_LIMIT, "It made more than 100 files.")


@pytest.mark.parametrize("volumes", [(), ("/out",)])
def test_too_many_files_are_somebody_elses(watched, volumes):
    found = watched(50, volumes)
    assert (found.ended, found.error) == (Ended.EXITED, None)


@pytest.mark.parametrize(
    ("files", "before", "after", "counted"),
    [(1000, 900, 600, 300), (1000, 600, 900, 0), (0, 0, 0, 0)],
    ids=["made", "removed", "no bound"],
)
def test_new_files_are_counted(tmp_path, monkeypatch, files, before, after, counted):
    told = SimpleNamespace(f_files=files, f_ffree=before)
    monkeypatch.setattr(disk.os, "statvfs", lambda _: told)
    found = disk.NewFiles(tmp_path)
    told.f_ffree = after
    assert found.count() == counted
    found.restart()
    assert found.count() == 0


@pytest.mark.parametrize("root", [None, "nowhere"])
def test_a_disk_that_is_not_ours_counts_nothing(tmp_path, root):
    assert disk.NewFiles(tmp_path / root if root else None).count() == 0
