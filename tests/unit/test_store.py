"""Facts on disk: whole or not at all, one run at a time."""

from __future__ import annotations

import errno
import os

import pytest

from pytest_dockerlab.errors import DiskFull, InfraError
from pytest_dockerlab.facts import Artifact, Ended, LossCurve, LossPoint, TrainingRun
from pytest_dockerlab.store import RunStore, run_key, write_atomic


@pytest.fixture
def store(tmp_path):
    return RunStore(tmp_path / "run")


def test_facts_come_back(store):
    run = TrainingRun(ended=Ended.OOM, exit_code=137, seconds=1.5, log_tail=("a", "\ufffd"))
    store.save("train", run)
    assert store.load("train", TrainingRun) == run


def test_nan_comes_back(store):
    store.save("loss", LossCurve(points=(LossPoint(float("nan")), LossPoint(float("inf")))))
    points = store.load("loss", LossCurve).points
    assert points[0].value != points[0].value
    assert points[1].value == float("inf")


def test_what_is_not_there_or_damaged_is_none(store):
    assert store.load("train", TrainingRun) is None
    for text in ("", "{", "[]", '{"ended": "exited"}', '{"path": 3}'):
        store.file("train.json").write_text(text)
        assert store.load("train", TrainingRun) is None


def test_forget_and_clear(store):
    store.save("artifact", Artifact())
    store.forget("artifact", "train")
    assert store.load("artifact", Artifact) is None
    store.file("train.log").write_text("x")
    (store.folder / "sub").mkdir()
    (store.folder / "sub" / "x").write_text("x")
    with store.locked(1):
        store.clear()
        assert [path.name for path in store.folder.iterdir()] == [".lock"]


def test_keys():
    assert run_key("a", "b") == run_key("a", "b")
    assert run_key("a", "b") != run_key("ab", "") != run_key("", "ab")
    assert len(run_key("a")) == 24


def test_one_run_at_a_time(store):
    with store.locked(1), pytest.raises(InfraError, match="Another run"), RunStore(store.folder).locked(0.1):
        pass
    with store.locked(1):
        pass


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    write_atomic(path, b"old")

    def full(_handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFull, match="No room left"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["x.json"]


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InfraError, match="can't be written"):
        write_atomic(tmp_path / "file" / "x.json", b"")
