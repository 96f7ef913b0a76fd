"""Killed runs leave nothing: SIGINT, SIGTERM and SIGKILL while a container runs and while an image is built."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_dockerlab import sandbox
from pytest_dockerlab.clean_cli import clean
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import reaper
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.guard import Guard
from pytest_dockerlab.engine.labels import new_run_id, run_labels

pytestmark = pytest.mark.engine

HERE = Path(__file__).parent
GONE_S = 15.0
BASE = "dockerlab/standin-base:latest"


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    with DockerEngine() as engine:
        if engine.image(BASE) is None:
            pytest.skip(f"{BASE} is missing; run `dockerlab images ensure --standins base`")
        yield engine


@pytest.fixture
def run_id(engine: DockerEngine) -> Iterator[str]:
    run_id = new_run_id()
    yield run_id
    reaper.remove_run(engine, run_id)


def start(what: str, run_id: str) -> subprocess.Popen[str]:
    """Start a run and wait until it is at work."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / "killed_run.py"), what, run_id], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = process.stdout.readline()
    assert said == "at work\n", said
    return process


def left(engine: DockerEngine, run_id: str) -> list[str]:
    return [f"{thing.kind} {thing.name}" for thing in engine.owned(run_id)]


def sleeping(run_id: str) -> bool:
    """Whether the build's endless step still runs; the engine's containers are processes of this machine."""
    seconds = str(int(run_id.rpartition("-")[2], 16) % 10_000_000 + 10_000_000).encode()
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = entry.read_bytes().split(b"\0")
        except OSError:
            continue
        if words[0].endswith(b"sleep") and seconds in words:
            return True
    return False


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name)
def test_a_run_killed_while_its_container_runs_leaves_nothing(
    engine: DockerEngine, run_id: str, sign: signal.Signals
) -> None:
    process = start("container", run_id)
    kinds = [line.split()[0] for line in left(engine, run_id)]
    assert sorted(kinds) == ["container", "container", "network", "volume"]
    process.send_signal(sign)
    killed = time.monotonic()
    assert any(not left(engine, run_id) for _ in Deadline.after(GONE_S).poll(0.2)), left(engine, run_id)
    assert time.monotonic() - killed < GONE_S
    assert process.wait(GONE_S) != 0


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda sign: sign.name)
def test_a_run_killed_while_it_builds_ends_the_step_and_leaves_no_image(
    engine: DockerEngine, run_id: str, sign: signal.Signals
) -> None:
    process = start("build", run_id)
    assert any(sleeping(run_id) for _ in Deadline.after(10).poll(0.1)), "the step never ran"
    process.send_signal(sign)
    assert any(not sleeping(run_id) for _ in Deadline.after(GONE_S).poll(0.2)), "the step goes on"
    assert any(not left(engine, run_id) for _ in Deadline.after(GONE_S).poll(0.2)), left(engine, run_id)
    assert process.wait(GONE_S) != 0


def test_a_second_signal_ends_at_once_and_the_helper_does_the_rest(engine: DockerEngine, run_id: str) -> None:
    process = start("container", run_id)
    process.send_signal(signal.SIGSTOP)  # so that both are there before anything is unwound
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGCONT)
    time.sleep(1.2)
    process.send_signal(signal.SIGTERM)
    assert any(not left(engine, run_id) for _ in Deadline.after(GONE_S).poll(0.2)), left(engine, run_id)
    process.wait(GONE_S)


def test_what_is_handed_over_goes_and_another_run_stays(engine: DockerEngine, run_id: str) -> None:
    mine = engine.create(sandbox.probe(BASE, run_labels(run_id, "test")))
    other_id = new_run_id()
    other = engine.create(sandbox.probe(BASE, run_labels(other_id, "test")))
    try:
        Guard.start(run_id, engine.host).hand_over()
        assert any(not left(engine, run_id) for _ in Deadline.after(GONE_S).poll(0.2))
        assert engine.state(other).status == "created"
        assert mine != other
    finally:
        engine.remove(other)


def test_the_reaper_takes_a_dead_runs_things_and_leaves_a_live_ones(engine: DockerEngine, run_id: str) -> None:
    live_id = new_run_id()
    live = engine.create(sandbox.probe(BASE, run_labels(live_id, "test")))
    try:
        process = start("unguarded", run_id)
        assert run_id not in {one.run for one in reaper.leftovers(engine)}  # it still runs
        process.kill()
        process.wait()
        found = [one for one in reaper.leftovers(engine) if one.run in (run_id, live_id)]
        assert [one.thing.kind for one in found] == ["container", "container", "network", "volume"]
        assert {one.run for one in found} == {run_id}

        shown = CliRunner().invoke(clean, ["--dry-run", "--json"])
        things = [row for row in json.loads(shown.output)["things"] if row["run"] == run_id]
        assert sorted(row["kind"] for row in things) == ["container", "container", "network", "volume"]
        assert {row["removed"] for row in things} == {False}
        assert run_id in CliRunner().invoke(clean, ["--dry-run"]).output

        # Only this test's: other suites may use the same engine.
        done = reaper.remove(engine, found, Deadline.after(30))
        assert [one.error for one in done] == [None] * 4
        assert left(engine, run_id) == []
        assert left(engine, live_id) != []
        again = reaper.remove(engine, found, Deadline.after(30))  # what is gone is no error
        assert [one.error for one in again] == [None] * 4
    finally:
        engine.remove(live)


def test_an_image_of_a_run_goes_by_its_name_and_a_name_of_somebody_else_stays(
    engine: DockerEngine, run_id: str
) -> None:
    api = engine._api
    container = engine.create(sandbox.probe(BASE, run_labels(run_id, "test")))
    api.commit(container, "dockerlab/train", run_id)
    theirs = f"somebody/else:{run_id}"
    try:
        assert sorted(line.split()[0] for line in left(engine, run_id)) == ["container", "image"]
        engine.tag(f"dockerlab/train:{run_id}", theirs)
        for _ in range(2):
            reaper.remove_run(engine, run_id)
        assert engine.image(f"dockerlab/train:{run_id}") is None
        assert engine.image(theirs) is not None
    finally:
        engine.remove_image(theirs)
