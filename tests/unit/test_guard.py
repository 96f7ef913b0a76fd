"""The helper that outlives a run, without an engine: what it hears, whom it ends, when it cleans up."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import guard as guard_module
from pytest_dockerlab.engine.base import Engine, Owned
from pytest_dockerlab.engine.guard import Guard, clean_up, guard_for, watched
from pytest_dockerlab.engine.guard_helper import Orders, end_groups, is_run_id, is_still
from pytest_dockerlab.engine.labels import PID, RUN, process_started, run_labels
from pytest_dockerlab.errors import EngineUnavailable, InfraError

RUN_ID = "20260101-000000-abcd1234"
OTHER = "20260101-000000-ffffffff"
WAIT_S = 15.0


def until(condition: Callable[[], Any], seconds: float = WAIT_S) -> bool:
    return any(condition() for _ in Deadline.after(seconds).poll(0.05))


def alive(pid: int) -> bool:
    return process_started(pid) is not None


@pytest.fixture
def marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the helper writes instead of cleaning an engine up: the run's id and the engine's address."""
    file = tmp_path / "cleaned"
    program = f"import os, sys; open({str(file)!r}, 'w').write(sys.argv[1] + ' ' + os.environ['DOCKER_HOST'])"
    monkeypatch.setattr(guard_module, "_CLEAN_UP", program)
    return file


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    yield process
    process.kill()
    process.wait()


def test_done_lets_the_helper_go_without_cleaning_up(marker: Path) -> None:
    guard = Guard.start(RUN_ID, "unix:///nowhere.sock")
    assert alive(guard.pid)
    guard.done()
    assert until(lambda: not alive(guard.pid))
    assert not marker.exists()
    guard.done()  # again, and after it is over: nothing
    guard.hand_over()


def test_a_block_that_is_not_done_is_cleaned_up_behind(marker: Path) -> None:
    with Guard.start(RUN_ID, "unix:///some/where.sock") as guard:
        assert not marker.exists()
    assert until(marker.exists)
    assert until(lambda: marker.read_text() == f"{RUN_ID} unix:///some/where.sock")
    assert until(lambda: not alive(guard.pid))


def test_what_is_kept_stays_and_its_builder_is_ended(marker: Path) -> None:
    # A child process, so that the guard loses its harness while a process group is watched.
    program = f"""
        import subprocess, sys, os, signal
        from pytest_dockerlab.engine import guard
        guard._CLEAN_UP = {guard_module._CLEAN_UP!r}
        mine = guard.Guard.start({RUN_ID!r}, "unix:///x", keep=True)
        builder = subprocess.Popen(["sleep", "300"], start_new_session=True)
        mine.watch_process(builder.pid)
        print(builder.pid, mine.pid, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    builder, helper = _child(program)
    assert until(lambda: not alive(builder))
    assert until(lambda: not alive(helper))
    assert not marker.exists()


@pytest.mark.parametrize("sign", ["SIGTERM", "SIGKILL"])
def test_a_killed_harness_is_cleaned_up_behind_and_its_builder_ended(marker: Path, sign: str) -> None:
    program = f"""
        import subprocess, sys, os, signal, time
        from pytest_dockerlab.engine import guard
        guard._CLEAN_UP = {guard_module._CLEAN_UP!r}
        mine = guard.Guard.start({RUN_ID!r}, "unix:///x")
        # It ignores SIGTERM, as hung builders do.
        builder = subprocess.Popen([sys.executable, "-c",
            "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(1, flush=True); time.sleep(300)"
        ], start_new_session=True, stdout=subprocess.PIPE)
        builder.stdout.readline()
        with guard.watched(builder.pid):
            print(builder.pid, mine.pid, flush=True)
            os.kill(os.getpid(), signal.{sign})
            time.sleep(300)
    """
    builder, helper = _child(program)
    assert until(marker.exists)
    assert not alive(builder)
    assert marker.read_text().startswith(RUN_ID)
    assert until(lambda: not alive(helper))


def _child(program: str) -> list[int]:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, timeout=60, check=False
    )
    return [int(word) for word in done.stdout.split()]


def test_a_forked_child_does_not_hold_the_pipe(marker: Path) -> None:
    guard = Guard.start(RUN_ID, "unix:///x")
    forked = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    forked.start()
    try:
        guard.hand_over()
        assert until(marker.exists), "the forked child kept the pipe open"
    finally:
        forked.kill()
        forked.join()


def test_it_is_light_and_starts_fast_and_shares_no_group_with_us(marker: Path) -> None:
    started = time.monotonic()
    guard = Guard.start(RUN_ID, "unix:///x")
    took = time.monotonic() - started
    try:
        status = Path(f"/proc/{guard.pid}/status").read_text()
        peak_kb = int(status.split("VmHWM:")[1].split()[0])
        assert peak_kb < 40_000
        assert os.getpgid(guard.pid) != os.getpgid(0)
        assert os.getsid(guard.pid) != os.getsid(0)
        environ = Path(f"/proc/{guard.pid}/environ").read_bytes()
        assert b"RUNNER_TRACKING_ID" not in environ
        assert took < 3  # 0.1 s on an idle machine; tests run beside others
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(guard.pid, sign)
        time.sleep(0.1)
        assert alive(guard.pid)
    finally:
        guard.done()


@pytest.mark.parametrize("run_id", ["", " ", "a b", "../x", "--help", "x" * 200])
def test_no_run_id_no_guard(run_id: str) -> None:
    assert not is_run_id(run_id)
    with pytest.raises(ValueError, match="no run id"):
        Guard.start(run_id, "unix:///x")


def test_a_helper_that_does_not_start_is_infra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "_WAIT", "raise SystemExit(3)")
    with pytest.raises(InfraError, match="does not start"):
        Guard.start(RUN_ID, "unix:///x")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(InfraError, match="does not start"):
        Guard.start(RUN_ID, "unix:///x")


def test_a_helper_that_somebody_ended_is_no_trouble(marker: Path) -> None:
    guard = Guard.start(RUN_ID, "unix:///x")
    os.kill(guard.pid, signal.SIGKILL)
    assert until(lambda: not alive(guard.pid))
    with watched(os.getpid()):
        pass
    guard.done()


def test_orders_are_read_and_nonsense_is_not() -> None:
    orders = Orders()
    for line in ("watch 12 777", "watch 13 778", "unwatch 13", "watch x y", "watch 1", "", "unwatch", "cle"):
        orders.take(line)
    assert orders.groups == {12: "777"}
    assert not orders.clean
    orders.take("keep")
    orders.take("lives")
    orders.take("clean")
    assert (orders.groups, orders.keep, orders.clean) == ({}, True, True)


def test_a_process_group_of_somebody_else_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    assert is_still(sleeper.pid, process_started(sleeper.pid) or "")
    end_groups({sleeper.pid: "1"}, grace_s=0.2)
    assert sleeper.poll() is None
    end_groups({sleeper.pid: process_started(sleeper.pid) or ""})
    assert sleeper.wait(5) == -signal.SIGTERM
    end_groups({sleeper.pid: "1", 2**22 - 1: "1"})  # gone: nothing to do


def test_a_group_whose_leader_has_gone_is_ended() -> None:
    leader = subprocess.Popen(["sh", "-c", "sleep 300 & echo $!"], start_new_session=True, stdout=subprocess.PIPE)
    started = process_started(leader.pid)
    assert leader.stdout is not None
    member = int(leader.stdout.readline())
    leader.wait()
    assert alive(member)
    end_groups({leader.pid: started or "1"})
    assert not alive(member)


class Stub:
    """An engine that has things of two runs, answers only the third time, and gets one more thing late."""

    def __init__(self, silent: int = 0, late: Owned | None = None) -> None:
        self.things = [
            Owned("image", "i1", f"dockerlab/train:{RUN_ID}", run_labels(RUN_ID, "train")),
            Owned("container", "c1", "one", run_labels(RUN_ID, "train")),
            Owned("container", "c2", "two", run_labels(OTHER, "train")),
        ]
        self.removed: list[str] = []
        self.asked = 0
        self.silent = silent
        self.late = late

    def __enter__(self) -> Stub:
        self.asked += 1
        if self.asked <= self.silent:
            raise EngineUnavailable("restarting")
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def owned(self, run_id: str | None = None) -> list[Owned]:
        found = list(self.things)  # as an engine that ignores the filter would
        if self.late and self.removed:
            self.things.append(self.late)
            self.late = None
        return found

    def remove_owned(self, thing: Owned) -> None:
        self._gone(thing.id)

    def remove_image(self, name: str) -> None:
        self._gone(next(thing.id for thing in self.things if thing.name == name))

    def _gone(self, id_: str) -> None:
        self.removed.append(id_)
        self.things = [thing for thing in self.things if thing.id != id_]


def test_cleaning_up_takes_only_its_run_waits_for_the_engine_and_for_latecomers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(guard_module, "EVERY_S", 0.01)
    late = Owned("container", "c3", "late", run_labels(RUN_ID, "train"))
    engine = Stub(silent=2, late=late)
    assert clean_up(RUN_ID, lambda: cast(Engine, engine), Deadline.after(10), settle_s=0.1)
    assert engine.removed == ["c1", "i1", "c3"]
    assert [thing.id for thing in engine.things] == ["c2"]


def test_cleaning_up_gives_an_engine_up_that_does_not_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "EVERY_S", 0.01)
    engine = Stub(silent=10**9)
    assert not clean_up(RUN_ID, lambda: cast(Engine, engine), Deadline.after(0.2))
    assert engine.removed == []


def test_labels_tell_this_process_from_every_other() -> None:
    labels = run_labels(RUN_ID, "train")
    assert labels[RUN] == RUN_ID
    assert labels[PID] == str(os.getpid())
    assert labels["dockerlab.born"] == process_started(os.getpid())
    assert labels["dockerlab.keep"] == "0"
    assert all(isinstance(value, str) and value for value in labels.values())
    assert run_labels(RUN_ID, "train", keep=True)["dockerlab.keep"] == "1"


def test_a_zombie_and_a_number_that_nobody_has_are_no_process() -> None:
    process = subprocess.Popen(["true"])
    assert until(lambda: process_started(process.pid) is None)
    process.wait()
    assert process_started(2**22 - 1) is None


def test_an_engine_without_an_address_needs_no_helper(marker: Path) -> None:
    class WithAddress(Stub):
        host = "unix:///x"

    assert guard_for(cast(Engine, Stub()), RUN_ID) is None
    guard = guard_for(cast(Engine, WithAddress()), RUN_ID, keep=True)
    assert guard is not None
    guard.hand_over()
    assert until(lambda: not alive(guard.pid))
    assert not marker.exists()
