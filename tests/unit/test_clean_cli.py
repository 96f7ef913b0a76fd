"""`dockerlab clean` without an engine: what it shows, what it removes, how it ends."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import filelock
import pytest
from click.testing import CliRunner, Result

from pytest_dockerlab.clean_cli import clean
from pytest_dockerlab.cli import DockerLabGroup
from pytest_dockerlab.engine.base import Owned
from pytest_dockerlab.engine.labels import KEEP, PID, run_labels
from pytest_dockerlab.errors import EngineUnavailable, InfraError

GROUP = DockerLabGroup("dockerlab")
GROUP.add_command(clean)
NOBODY = str(2**22 - 1)


def run(*args: str) -> Result:
    return CliRunner().invoke(GROUP, ["clean", *args], prog_name="dockerlab")


class Stub:
    def __init__(self) -> None:
        dead = {**run_labels("dead-1", "train"), PID: NOBODY}
        self.things = [
            Owned("image", "i", "dockerlab/train:dead-1", dead, bytes=1_500_000_000, created=time.time() - 7200),
            Owned("container", "c", "odd\x1b[31m[bold]name", {**dead, KEEP: "1"}, created=time.time() - 90),
            Owned("container", "l", "alive", run_labels("live-1", "train"), created=time.time()),
        ]
        self.removed: list[str] = []
        self.refuse = False

    def __enter__(self) -> Stub:
        return self

    def __exit__(self, *_: object) -> None: ...

    def owned(self) -> list[Owned]:
        return self.things

    def remove_owned(self, thing: Owned) -> None:
        if self.refuse:
            raise InfraError("it is stuck")
        self.removed.append(thing.id)

    def remove_image(self, name: str) -> None:
        self.removed.append(name)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr("pytest_dockerlab.engine.docker.DockerEngine", lambda: stub)
    return stub


def test_what_goes_is_shown_in_a_table(engine: Stub) -> None:
    result = run()
    assert result.exit_code == 0
    assert engine.removed == ["c", "dockerlab/train:dead-1"]
    for words in ("1.5 GB", "dead-1", "2 h", "2 min", "its run has ended", "clean: 2 removed"):
        assert words in result.output
    assert "alive" not in result.output
    assert "\x1b" not in result.output
    assert "[bold]name" in result.output


def test_a_dry_run_removes_nothing(engine: Stub) -> None:
    result = run("--dry-run")
    assert engine.removed == []
    assert "clean: 2 would be removed" in result.output
    told = json.loads(run("--dry-run", "--all", "--json").output)
    assert told["dry_run"] is True
    assert [(row["kind"], row["removed"]) for row in told["things"]] == [
        ("container", False),
        ("container", False),
        ("image", False),
    ]
    assert engine.removed == []


def test_all_takes_what_lives_too(engine: Stub) -> None:
    run("--all")
    assert set(engine.removed) == {"c", "l", "dockerlab/train:dead-1"}


def test_what_can_not_be_removed_is_said_and_is_infra(engine: Stub) -> None:
    engine.refuse = True
    result = run()
    assert result.exit_code == 10
    assert "NOT REMOVED: it is stuck" in result.output
    assert "1 removed" in result.output
    row = next(row for row in json.loads(run("--json").output)["things"] if row["kind"] == "container")
    assert (row["error"], row["removed"]) == ("it is stuck", False)


def test_nothing_to_do(engine: Stub) -> None:
    engine.things = []
    assert run().output == "clean: nothing to remove\n"
    assert json.loads(run("--json").output) == {"dry_run": False, "things": []}


def test_no_engine_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing() -> None:
        raise EngineUnavailable("No container engine answers.", fix="Start Docker.")

    monkeypatch.setattr("pytest_dockerlab.engine.docker.DockerEngine", nothing)
    result = run()
    assert result.exit_code == 10
    assert "Traceback" not in result.output
    assert "Start Docker" in result.output


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path))
    for name, days in (("old", 40), ("week", 8), ("new", 0)):
        folder = tmp_path / "runs" / name
        (folder / "deep").mkdir(parents=True)
        (folder / "train.log").write_bytes(b"x" * 1000)
        (folder / "deep" / "model").write_bytes(b"x" * 500)
        then = time.time() - days * 86_400
        for path in (folder / "train.log", folder / "deep", folder):
            os.utime(path, (then, then))
    (tmp_path / "runs" / "link").symlink_to(tmp_path)
    (tmp_path / "data").mkdir()
    return tmp_path / "runs"


def test_the_cache_loses_what_nobody_used(runs: Path) -> None:
    assert "would be removed" in run("--cache", "--dry-run").output
    assert (runs / "old").is_dir()
    result = run("--cache")
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in runs.iterdir()) == ["link", "new", "week"]
    assert "1.5 kB" in result.output
    assert "40 d" in result.output
    assert json.loads(run("--cache", "7", "--json").output)["things"][0]["run"] == "week"
    assert sorted(path.name for path in runs.iterdir()) == ["link", "new"]
    assert runs.parent.joinpath("data").is_dir()


def test_a_stored_run_that_is_at_work_stays(runs: Path) -> None:
    with filelock.FileLock(runs / "old" / ".lock"):
        then = time.time() - 40 * 86_400
        os.utime(runs / "old" / ".lock", (then, then))
        os.utime(runs / "old", (then, then))
        result = run("--cache")
    assert result.exit_code == 10
    assert "a run is at work on it" in result.output
    assert (runs / "old" / "train.log").is_file()


def test_no_cache_no_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "none"))
    assert run("--cache").output == "clean: nothing to remove\n"


@pytest.mark.parametrize("args", [("--cache", "--all"), ("--cache", "-1"), ("--what",)])
def test_wrong_use_is_a_usage_error(args: tuple[str, ...]) -> None:
    assert run(*args).exit_code == 4


def test_help_has_an_example() -> None:
    assert "dockerlab clean --dry-run" in run("--help").output
