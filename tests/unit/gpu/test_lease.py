"""Leases between real processes: never two holders, the order of asking, and nothing stuck after a kill."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.gpu import FakeInventory, acquire, holders, lease, parse

RACER = Path(__file__).with_name("racer.py")
ZERO, ONE = "GPU-fake-0000", "GPU-fake-0001"
SOON = 20.0  # a busy machine takes seconds to start a process


class Arena:
    def __init__(self, home):
        self.home = home
        self.folder = home / "locks" / "gpu"
        self.racers = {}

    def start(self, name, choice="auto", *, hold=True, **more):
        if hold:
            (self.home / f"hold-{name}").touch()
        args = {"home": str(self.home), "name": name, "choice": choice, **more}
        self.racers[name] = subprocess.Popen([sys.executable, str(RACER), json.dumps(args)])
        return self.racers[name]

    def log(self):
        try:
            return (self.home / "log").read_text().splitlines()
        except FileNotFoundError:
            return []

    def until(self, line, seconds=SOON):
        ends = time.monotonic() + seconds
        while not any(seen.startswith(line) for seen in self.log()):
            assert time.monotonic() < ends, f"no {line!r} in {self.log()}"
            time.sleep(0.01)

    def let_go(self, name):
        (self.home / f"hold-{name}").unlink()

    def kill(self, name):
        self.racers[name].kill()
        self.racers[name].wait(SOON)

    def tickets(self):
        return [path for path in self.folder.iterdir() if path.name.startswith("ticket-")]

    def got(self):
        return [line.split()[0] for line in self.log() if " got " in line]

    def said(self, name):
        return (self.home / f"said-{name}").read_text()

    def close(self):
        for racer in self.racers.values():
            with contextlib.suppress(ProcessLookupError):
                racer.send_signal(signal.SIGCONT)
            racer.kill()
            racer.wait(SOON)
        assert not [line for line in self.log() if "VIOLATION" in line]


@pytest.fixture
def arena(tmp_path):
    arena = Arena(tmp_path)
    yield arena
    arena.close()


def take(arena, choice="auto", inventory=None, seconds=SOON, said=None, **more):
    say = said.append if said is not None else (lambda text: None)
    inventory = inventory or FakeInventory.of(2)
    return acquire(parse(choice), inventory, Deadline.after(seconds), say, folder=arena.folder, poll_s=0.02, **more)


def test_a_free_gpu_is_had_at_once_and_leaves_nothing_but_its_lock_file(arena):
    with take(arena, run_id="r1") as ours:
        assert ours.uuids == (ZERO,)
        who = holders(FakeInventory.of(2).gpus(), Deadline.after(5), arena.folder)
        assert list(who) == [ZERO]
        assert (who[ZERO].pid, who[ZERO].run_id) == (os.getpid(), "r1")
    assert holders(FakeInventory.of(2).gpus(), Deadline.after(5), arena.folder) == {}
    assert sorted(path.name for path in arena.folder.iterdir()) == [f"{ZERO}.lock", f"{ONE}.lock", "gate"]


def test_looking_for_holders_where_nobody_ever_leased_creates_nothing(tmp_path):
    assert holders(FakeInventory.of(1).gpus(), Deadline.after(1), tmp_path / "locks" / "gpu") == {}
    assert list(tmp_path.iterdir()) == []


def test_the_second_waits_is_told_who_holds_it_and_gets_it_after_the_first(arena):
    arena.start("a", "0")
    arena.until("a got")
    arena.start("b", "0")
    arena.until("b waits")
    said = arena.said("b")
    assert "run run-a" in said
    assert f"pid {arena.racers['a'].pid}" in said
    assert "since" in said
    arena.let_go("a")
    arena.until("b got")


def test_two_gpus_go_to_two_runs_at_a_time(arena):
    arena.start("a")
    arena.until("a got")
    arena.start("b")
    arena.until("b got")
    assert {line.split()[2] for line in arena.log() if " got " in line} == {ZERO, ONE}


def test_first_come_first_served(arena):
    arena.start("holder", "0")
    arena.until("holder got")
    names = ["first", "second", "third", "fourth", "fifth"]
    for name in names:
        arena.start(name, "0", hold=False, hold_s=0)
        arena.until(f"{name} waits")
    arena.let_go("holder")
    arena.until("fifth done")
    assert arena.got() == ["holder", *names]


@pytest.mark.parametrize("killed", ["first", "second", "third"])
def test_a_killed_waiter_blocks_nobody_and_the_order_stays(arena, killed):
    arena.start("holder", "0")
    arena.until("holder got")
    names = ["first", "second", "third"]
    for name in names:
        arena.start(name, "0", hold=False, hold_s=0)
        arena.until(f"{name} waits")
    arena.kill(killed)
    arena.let_go("holder")
    names.remove(killed)
    arena.until(f"{names[-1]} done")
    assert arena.got() == ["holder", *names]
    with take(arena, "0"):  # whoever looks next removes the ticket of the dead
        assert arena.tickets() == []


def test_a_killed_holder_frees_its_gpu(arena):
    arena.start("a", "0")
    arena.until("a got")
    arena.start("b", "0")
    arena.until("b waits")
    arena.kill("a")
    arena.until("b got", seconds=5)


def test_a_stopped_waiter_is_passed_by_and_has_its_place_when_it_goes_on(arena, monkeypatch):
    monkeypatch.setattr(lease, "STOPPED_AFTER_S", 0.5)
    arena.start("stopped", "0,1")
    arena.until("stopped got")
    arena.start("sleeper", "0")
    arena.until("sleeper waits")
    arena.racers["sleeper"].send_signal(signal.SIGSTOP)
    arena.let_go("stopped")
    arena.until("stopped done")
    started = time.monotonic()
    with take(arena, "0"):
        assert 0.2 < time.monotonic() - started < 10
        arena.racers["sleeper"].send_signal(signal.SIGCONT)
        time.sleep(0.3)
        assert "sleeper" not in arena.got()
    arena.until("sleeper got")


def test_a_run_that_waits_for_one_gpu_does_not_keep_others_from_the_other(arena):
    arena.start("a", "0")
    arena.until("a got")
    arena.start("b", "0")
    arena.until("b waits")
    with take(arena, "auto", seconds=10) as ours:
        assert ours.uuids == (ONE,)


def test_a_run_that_needs_two_is_not_starved_by_those_that_need_one(arena):
    arena.start("one", "0")
    arena.until("one got")
    arena.start("both", "0,1", hold=False, hold_s=0)
    arena.until("both waits")
    arena.start("late", "auto", hold=False, hold_s=0)
    arena.until("late waits")  # though GPU 1 is free
    time.sleep(0.3)
    assert arena.got() == ["one"]
    arena.let_go("one")
    arena.until("late done")
    assert arena.got() == ["one", "both", "late"]


def test_two_at_once_in_either_order_do_not_deadlock(arena):
    for number in range(4):
        arena.start(f"r{number}", "0,1" if number % 2 else "1,0", hold=False, hold_s=0.005, rounds=10)
    for racer in arena.racers.values():
        assert racer.wait(60) == 0
    assert arena.log().count("r0 done") == 10


def test_a_race_with_kills_ends_with_every_survivor_served(arena):
    """Ten processes, half of them killed while they hold or wait: never two holders, and nobody is left over."""
    chance = random.Random(7)
    survivors = [f"s{number}" for number in range(5)]
    victims = [f"v{number}" for number in range(5)]
    choices = ["auto", "required", "0", "1", "0,1"]
    for number in range(5):
        arena.start(survivors[number], choices[number], hold=False, hold_s=0.01, rounds=8)
        arena.start(victims[number], choices[number], hold=False, hold_s=0.3, rounds=1000)
    for victim in victims:
        time.sleep(chance.uniform(0.2, 0.8))
        arena.kill(victim)
    for name in survivors:
        assert arena.racers[name].wait(60) == 0
        assert arena.log().count(f"{name} done") == 8
    with take(arena, "0,1", seconds=5):
        assert arena.tickets() == []


def test_a_forked_child_does_not_keep_the_lease_of_its_killed_parent(arena):
    arena.start("parent", "0", fork=True)
    arena.until("parent child")
    child = next(int(line.split()[2]) for line in arena.log() if line.startswith("parent child"))
    try:
        arena.kill("parent")
        with take(arena, "0", seconds=5) as ours:
            assert ours.uuids == (ZERO,)
    finally:
        os.kill(child, signal.SIGKILL)


def test_a_helper_that_was_handed_the_lease_keeps_it_until_released(arena):
    with take(arena, "0") as ours:
        helper = subprocess.Popen(["sleep", "60"], pass_fds=ours.filenos())
        plain = subprocess.Popen(["sleep", "60"], close_fds=False)
        try:
            ours.release()
            with take(arena, "0", seconds=5):  # although the helper still has the file open
                pass
        finally:
            for process in (helper, plain):
                process.kill()
                process.wait()


def test_a_lease_that_only_a_helper_still_has_is_held(arena):
    code = (
        "import sys, subprocess, json; sys.path.insert(0, sys.argv[1]); from racer import *\n"
        "from pytest_dockerlab.gpu import acquire\n"
        "with acquire(parse('0'), FakeInventory.of(1), Deadline.after(9), print, folder=Path(sys.argv[2])) as lease:\n"
        "    helper = subprocess.Popen(['sleep', '60'], pass_fds=lease.filenos(), stdout=subprocess.DEVNULL)\n"
        "    print(helper.pid, flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    command = [sys.executable, "-c", code, str(RACER.parent), str(arena.folder)]
    helper = int(subprocess.run(command, stdout=subprocess.PIPE, check=False).stdout)
    try:
        with pytest.raises(GpuUnavailable), take(arena, "0", seconds=0.3):
            pass
    finally:
        os.kill(helper, signal.SIGKILL)
    with take(arena, "0", seconds=5) as ours:
        assert ours.uuids == (ZERO,)


def test_the_wait_ends_with_the_deadline_and_names_the_holder(arena):
    said = []
    started = time.monotonic()
    with take(arena, "0", run_id="r1"):
        with pytest.raises(GpuUnavailable, match=r"held by run r1 \(pid \d+") as caught, take(arena, "0", seconds=0.5):
            pass
        with take(arena, "auto", FakeInventory.of(1), seconds=0.3, said=said) as ours:
            assert ours is None
    assert time.monotonic() - started < 5
    assert caught.value.fix
    assert "CPU" in said[-1]
    assert arena.tickets() == []


def test_a_deadline_that_is_over_still_takes_what_is_free(arena):
    with take(arena, "0", seconds=0) as ours:
        assert ours.uuids == (ZERO,)


def test_a_message_comes_when_the_situation_changes_not_at_every_look(arena):
    said = []
    with take(arena, "0"), contextlib.suppress(GpuUnavailable), take(arena, "0", seconds=0.5, said=said):
        pass
    assert len(said) == 1


def test_a_gpu_full_of_something_else_is_left_and_named(arena):
    inventory = FakeInventory.of(2)
    inventory.use(ZERO, {4242: 7 * 2**30})
    with take(arena, inventory=inventory, min_memory_bytes=4 * 2**30) as ours:
        assert ours.uuids == (ONE,)
        with (
            pytest.raises(GpuUnavailable, match="full of something that is no run of dockerlab"),
            take(arena, "required", inventory, seconds=0.2, min_memory_bytes=4 * 2**30),
        ):
            pass
        with take(arena, "required", inventory, seconds=5, min_memory_bytes=2**30) as small:
            assert small.uuids == (ZERO,)


def test_a_card_that_vanishes_while_waiting_ends_the_wait(arena):
    inventory = FakeInventory.of(1)

    def say(text):
        inventory.remove(ZERO)

    with (
        take(arena, "0", inventory),
        pytest.raises(GpuUnavailable, match="not here"),
        acquire(parse("0"), inventory, Deadline.after(10), say, folder=arena.folder, poll_s=0.02),
    ):
        pass
    assert arena.tickets() == []


def test_an_error_in_the_block_is_not_taken_for_a_missing_gpu(arena):
    with pytest.raises(GpuUnavailable, match="from inside"), take(arena):
        raise GpuUnavailable("from inside")
    assert holders(FakeInventory.of(2).gpus(), Deadline.after(5), arena.folder) == {}


def test_ticket_numbers_grow_also_when_the_gate_was_emptied(arena):
    arena.start("holder", "0")
    arena.until("holder got")
    arena.start("first", "0", hold=False, hold_s=0)
    arena.until("first waits")
    (arena.folder / "gate").write_text("")
    arena.start("second", "0", hold=False, hold_s=0)
    arena.until("second waits")
    arena.let_go("holder")
    arena.until("second done")
    assert arena.got() == ["holder", "first", "second"]


def test_two_uuids_never_share_a_lock_file():
    uuids = ["a/b=c", "a_b=c", "a_2f_b=c", "A/b=c", "GPU-1", "MIG-GPU-1/0/1", "../../etc/passwd", ""]
    names = [lease.lock_name(uuid) for uuid in uuids]
    assert len(set(names)) == len(names)
    assert not [name for name in names if "/" in name]
