"""Whose things are reaped: a table of labels, and the image budget."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from typing import cast

import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import Engine, Owned
from pytest_dockerlab.engine.labels import BOOT, BORN, HOST, KEEP, NAMESPACE, PID, RUN, STARTED, run_labels
from pytest_dockerlab.engine.reaper import Here, Owner, leftovers, over_budget, owner, reap, remove, remove_run
from pytest_dockerlab.errors import EngineUnavailable, InfraError

BOOTED = 1_700_000_000.0
HERE = Here(boot="boot-1", namespace="pid:[1]", host="host-1", booted=BOOTED, started={100: "777", 101: "778"}.get)
MINE = {
    RUN: "run-1", PID: "100", BORN: "777", NAMESPACE: "pid:[1]", BOOT: "boot-1", HOST: "host-1",
    STARTED: str(int(BOOTED) + 60), KEEP: "0",
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, Owner.LIVE),
        ({KEEP: "1"}, Owner.LIVE),
        ({PID: "102"}, Owner.ENDED),  # nobody has this number
        ({PID: "101"}, Owner.ENDED),  # somebody else has it by now
        ({PID: "102", KEEP: "1"}, Owner.KEPT),
        ({HOST: "renamed"}, Owner.LIVE),  # the boot is the machine
        ({HOST: "renamed", PID: "102"}, Owner.ENDED),
        # The same boot seen from another container: its numbers mean nothing here.
        ({NAMESPACE: "pid:[2]"}, Owner.ELSEWHERE),
        ({NAMESPACE: "pid:[2]", PID: "102"}, Owner.ELSEWHERE),
        # Another boot: ours, before this one; or another machine, also one that looks like ours.
        ({BOOT: "boot-0", STARTED: str(int(BOOTED) - 60)}, Owner.ENDED),
        ({BOOT: "boot-0", STARTED: str(int(BOOTED) - 60), KEEP: "1"}, Owner.KEPT),
        ({BOOT: "boot-0", STARTED: str(int(BOOTED) + 60)}, Owner.ELSEWHERE),
        ({BOOT: "boot-0", HOST: "host-2", STARTED: str(int(BOOTED) - 60)}, Owner.ELSEWHERE),
        # What older versions, and strangers, write.
        ({BORN: None}, Owner.ELSEWHERE),
        ({BORN: ""}, Owner.ELSEWHERE),
        ({PID: "x; rm"}, Owner.ELSEWHERE),
        ({PID: None}, Owner.ELSEWHERE),
        ({NAMESPACE: None}, Owner.ELSEWHERE),
        ({BOOT: None, STARTED: "nonsense"}, Owner.ELSEWHERE),
    ],
)
def test_whose_it_is(changed: Mapping[str, str | None], expected: Owner) -> None:
    labels = {name: value for name, value in {**MINE, **changed}.items() if value is not None}
    assert owner(labels, HERE) is expected


def test_this_process_is_alive_to_itself() -> None:
    assert owner(run_labels("run-1", "train"), Here.now()) is Owner.LIVE
    assert owner({**run_labels("run-1", "train"), PID: str(2**22 - 1)}, Here.now()) is Owner.ENDED
    assert owner({RUN: "run-1"}, Here.now()) is Owner.ELSEWHERE


class Stub:
    """An engine as far as the reaper looks at it."""

    def __init__(self, *things: Owned, refuse: frozenset[str] = frozenset(), lost: bool = False) -> None:
        self.things = list(things)
        self.removed: list[str] = []
        self.refuse = refuse
        self.lost = lost

    def owned(self, run_id: str | None = None) -> list[Owned]:
        return [thing for thing in self.things if run_id in (None, thing.labels.get(RUN))]

    def remove_owned(self, thing: Owned) -> None:
        self._go(thing.id)

    def remove_image(self, name: str) -> None:
        self._go(name)

    def _go(self, name: str) -> None:
        if self.lost:
            raise EngineUnavailable("gone")
        if name in self.refuse:
            raise InfraError("in use")
        self.removed.append(name)
        self.things = [thing for thing in self.things if name not in (thing.id, thing.name)]


def engine(stub: Stub) -> Engine:
    return cast(Engine, stub)


def thing(
    kind: str, name: str, run: str = "run-1", *, dead: bool = True, bytes: int = 0, created: float = 0, keep: str = "0"
) -> Owned:
    labels = {**MINE, RUN: run, PID: "102" if dead else "100", KEEP: keep}
    return Owned(kind, f"id-{name}", name, labels, bytes, created)


def test_containers_go_first_and_images_by_their_name() -> None:
    stub = Stub(
        thing("image", "dockerlab/train:run-1"),
        thing("volume", "v"),
        thing("network", "n"),
        thing("container", "c"),
        thing("image", "<none>:<none>"),
        thing("container", "live", "run-2", dead=False),
    )
    done = remove(engine(stub), leftovers(engine(stub), here=HERE), Deadline.after(10))
    assert stub.removed == ["id-c", "id-n", "id-v", "dockerlab/train:run-1", "id-<none>:<none>"]
    assert {one.why for one in done} == {"its run has ended"}
    assert [left.name for left in stub.things] == ["live"]


@pytest.mark.parametrize(
    "name",
    [
        "somebody/made:this",
        "train:latest",
        "dockerlab/standin-torch:latest",
        "dockerlab/client:latest",
        "dockerlab/client:1",
    ],
)
def test_an_image_that_is_not_a_runs_own_is_never_touched(name: str) -> None:
    stub = Stub(thing("image", name, bytes=10**12))
    assert leftovers(engine(stub), everything=True, kept=True, here=HERE) == []
    assert over_budget(engine(stub), 0, here=HERE) == []
    assert remove_run(engine(stub), "run-1") == 0
    assert stub.removed == []


def test_what_is_kept_waits_for_a_person() -> None:
    stub = Stub(thing("container", "kept", keep="1"), thing("container", "elsewhere"))
    stub.things[1] = Owned("container", "x", "elsewhere", {**MINE, BOOT: "other", HOST: "other"})
    assert leftovers(engine(stub), here=HERE) == []
    assert [one.thing.name for one in leftovers(engine(stub), kept=True, here=HERE)] == ["kept"]
    assert [one.thing.name for one in leftovers(engine(stub), everything=True, here=HERE)] == ["kept", "elsewhere"]


def test_one_that_can_not_be_removed_does_not_keep_the_others() -> None:
    stub = Stub(thing("container", "a"), thing("container", "b"), refuse=frozenset({"id-a"}))
    done = remove(engine(stub), leftovers(engine(stub), here=HERE), Deadline.after(10))
    assert {one.thing.name: one.error for one in done} == {"a": "in use", "b": None}


def test_without_time_nothing_is_removed_and_that_is_said() -> None:
    stub = Stub(thing("container", "a"))
    done = remove(engine(stub), leftovers(engine(stub), here=HERE), Deadline.after(-1))
    assert [one.error for one in done] == ["no time was left for it"]
    assert stub.removed == []


def test_a_lost_engine_ends_it() -> None:
    stub = Stub(thing("container", "a"), lost=True)
    with pytest.raises(EngineUnavailable):
        remove(engine(stub), leftovers(engine(stub), here=HERE), Deadline.after(10))


def test_the_oldest_images_go_until_the_rest_fits() -> None:
    stub = Stub(
        thing("image", "dockerlab/train:new", "new", bytes=4, created=30, keep="1"),
        thing("image", "dockerlab/train:old", "old", bytes=4, created=10, keep="1"),
        thing("image", "dockerlab/train:mid", "mid", bytes=4, created=20, keep="1"),
        thing("image", "dockerlab/train:used", "used", bytes=4, created=1, keep="1"),
        thing("container", "c", "used", keep="1"),
        thing("image", "dockerlab/train:live", "live", dead=False, bytes=4, created=2),
    )
    assert [one.thing.name for one in over_budget(engine(stub), 20, here=HERE)] == []
    assert [one.thing.name for one in over_budget(engine(stub), 13, here=HERE)] == [
        "dockerlab/train:old",
        "dockerlab/train:mid",
    ]
    every = [one.thing.name for one in over_budget(engine(stub), 0, here=HERE)]
    assert every == ["dockerlab/train:old", "dockerlab/train:mid", "dockerlab/train:new"]


def test_reaping_at_a_start_takes_the_dead_and_keeps_to_the_budget() -> None:
    dead = {**run_labels("dead", "train"), PID: str(2**22 - 1)}
    stub = Stub(
        Owned("container", "c", "c", dead, created=1),
        Owned("container", "mine", "mine", run_labels("mine", "train"), created=1),
        Owned("image", "i", "dockerlab/train:kept", {**dead, RUN: "kept", KEEP: "1"}, bytes=10, created=1),
    )
    done = reap(engine(stub))
    assert stub.removed == ["c"]
    assert done[0].run == "dead"
    reap(engine(stub), max_disk=5)
    assert stub.removed == ["c", "dockerlab/train:kept"]


def test_no_run_id_removes_nothing() -> None:
    with pytest.raises(ValueError, match="no run id"):
        remove_run(engine(Stub(thing("container", "a"))), "")


def test_ages() -> None:
    here = Here.now()
    labels = {**run_labels("r", "train"), PID: str(2**22 - 1), STARTED: str(int(time.time()) - 100)}
    stub = Stub(
        Owned("network", "n", "n", labels),
        Owned("volume", "v", "v", {name: value for name, value in labels.items() if name != STARTED}),
    )
    ages = [one.age_s for one in leftovers(engine(stub), here=here)]
    assert ages[0] == pytest.approx(100, abs=5)
    assert ages[1] is None
    assert os.getpid() != 2**22 - 1
