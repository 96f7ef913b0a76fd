"""What ended runs left on the engine: found by its labels, removed at the next start and by `dockerlab clean`.

Who may be reaped is decided by `owner`, on the safe side: a thing goes only where its run is known to have ended. On a
shared engine that is known for runs of this machine, and of this process namespace; what a CI job in a container of
its own left is removed by its helper (`engine.guard`), else by `dockerlab clean --all`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import Engine, Owned
from pytest_dockerlab.engine.labels import (
    BOOT,
    BORN,
    HOST,
    KEEP,
    NAMESPACE,
    PID,
    RUN,
    STARTED,
    boot_id,
    boot_time,
    host_id,
    pid_namespace,
    process_started,
)
from pytest_dockerlab.errors import EngineUnavailable, InfraError

# A container uses its image, network and volumes, so it goes first.
ORDER = ("container", "network", "volume", "image")

OUR_NAMES = "dockerlab/"  # how every image of a run is called
TOOLS = ("dockerlab/standin-", "dockerlab/client:")  # `dockerlab images remove` is for these
UNNAMED = ("<none>:<none>", "<none>")

REAP_S = 30.0  # at a start, nobody wants to wait longer for somebody else's leftovers


class Owner(str, Enum):
    """What is known of the run that a thing belongs to; the value is the reason for the table."""

    LIVE = "its run goes on"
    ENDED = "its run has ended"
    KEPT = "its run has ended, and asked to keep it"
    ELSEWHERE = "of another machine or container: whether its run has ended can't be seen from here"


@dataclass(frozen=True)
class Here:
    """The machine that we run on, as labels name it."""

    boot: str
    namespace: str
    host: str
    booted: float | None
    started: Callable[[int], str | None]  # of a process id: when that process started, `None` where there is none

    @classmethod
    def now(cls) -> Here:
        """Look."""
        return cls(boot_id(), pid_namespace(), host_id(), boot_time(), process_started)


@dataclass(frozen=True)
class Removal:
    """A thing that goes, or went; `error` says why it did not."""

    thing: Owned
    why: str
    error: str | None = None

    @property
    def run(self) -> str:
        """The run that made it."""
        return self.thing.labels.get(RUN, "")

    @property
    def age_s(self) -> float | None:
        """How old it is; `None` where the engine and the labels do not tell."""
        made = self.thing.created or _number(self.thing.labels.get(STARTED))
        return max(0.0, time.time() - made) if made else None


def owner(labels: Mapping[str, str], here: Here) -> Owner:
    """Return what is known of the run whose labels these are. Pure but for the look at the process."""
    ended = Owner.KEPT if labels.get(KEEP) == "1" else Owner.ENDED
    pid, born = labels.get(PID, ""), labels.get(BORN)
    if labels.get(BOOT) == here.boot and labels.get(NAMESPACE) == here.namespace:
        if not (pid.isdigit() and born):
            return Owner.ELSEWHERE
        return Owner.LIVE if here.started(int(pid)) == born else ended
    made = _number(labels.get(STARTED))
    if labels.get(HOST) == here.host and labels.get(BOOT) != here.boot and made and here.booted and made < here.booted:
        return ended  # this machine has started anew since
    return Owner.ELSEWHERE


def leftovers(
    engine: Engine, *, kept: bool = False, everything: bool = False, here: Here | None = None
) -> list[Removal]:
    """List what ended runs left, in the order of removing; with `kept`, also what they were asked to keep.

    With `everything`, all that carries our labels, of whatever run: that ends runs that go on.
    """
    here = here or Here.now()
    wanted = {Owner.ENDED, Owner.KEPT} if kept else {Owner.ENDED}
    found = []
    for thing in engine.owned():
        whose = owner(thing.labels, here)
        if _is_ours(thing) and (everything or whose in wanted):
            found.append(Removal(thing, whose.value))
    return sorted(found, key=lambda removal: ORDER.index(removal.thing.kind))


def over_budget(engine: Engine, max_disk: int, *, here: Here | None = None) -> list[Removal]:
    """List the images of ours that have to go, oldest first, until the rest takes at most `max_disk` bytes.

    Those of ended runs only, kept ones too, and none that a container of its run may need. Layers that images share
    count for each of them, as in `docker images`: the engine tells the real sum only after seconds of work.
    """
    here = here or Here.now()
    things = [thing for thing in engine.owned() if _is_ours(thing)]
    in_use = {thing.labels.get(RUN) for thing in things if thing.kind == "container"}
    images = [thing for thing in things if thing.kind == "image"]
    total = sum(image.bytes for image in images)
    found = []
    for image in sorted(images, key=lambda image: image.created):
        if total <= max_disk:
            break
        if image.labels.get(RUN) in in_use or owner(image.labels, here) not in (Owner.ENDED, Owner.KEPT):
            continue
        total -= image.bytes
        found.append(Removal(image, f"images of ours take more than max_disk ({max_disk / 1e9:.1f} GB)"))
    return found


def remove(engine: Engine, removals: Iterable[Removal], deadline: Deadline) -> list[Removal]:
    """Remove, and return what became of each. One that stays does not keep the others; a lost engine does.

    What was refused is tried again once something else has gone: Podman removes no container whose network another one
    has joined, and lists the two in no order.
    """
    done, refused = [], []
    for removal in removals:
        if deadline.passed:
            done.append(replace(removal, error=removal.error or "no time was left for it"))
            continue
        try:
            _remove(engine, removal.thing)
        except EngineUnavailable:
            raise
        except InfraError as error:
            refused.append(replace(removal, error=error.message))
        else:
            done.append(replace(removal, error=None))
    return done + (remove(engine, refused, deadline) if done else refused)


def reap(engine: Engine, deadline: Deadline | None = None, *, max_disk: int | None = None) -> list[Removal]:
    """Remove, at a start, what ended runs left, and images beyond the budget. Raises only where the engine is gone."""
    deadline = deadline or Deadline.after(REAP_S)
    done = remove(engine, leftovers(engine), deadline)
    if max_disk is not None:
        done += remove(engine, over_budget(engine, max_disk), deadline)
    return done


def remove_run(engine: Engine, run_id: str) -> int:
    """Remove what one run owns, and return how many things there were. For `engine.guard`'s helper."""
    if not run_id:  # the port would list every run's
        raise ValueError("no run id")
    # Asked for by the label, and looked at again: this must never reach another run.
    things = [thing for thing in engine.owned(run_id) if thing.labels.get(RUN) == run_id and _is_ours(thing)]
    things.sort(key=lambda thing: ORDER.index(thing.kind))
    remove(engine, [Removal(thing, Owner.ENDED.value) for thing in things], Deadline.after(REAP_S))
    return len(things)


def _remove(engine: Engine, thing: Owned) -> None:
    if thing.kind == "image" and thing.name not in UNNAMED:
        # By name: an id takes every name with it, also one that somebody else gave to the image.
        engine.remove_image(thing.name)
    else:
        engine.remove_owned(thing)


def _is_ours(thing: Owned) -> bool:
    """Whether a thing with our label may be touched: an image inherits labels from its base, whoever built it."""
    if thing.kind != "image" or thing.name in UNNAMED:
        return True
    return thing.name.startswith(OUR_NAMES) and not thing.name.startswith(TOOLS)


def _number(text: str | None) -> float | None:
    try:
        return float(text or "")
    except ValueError:
        return None
