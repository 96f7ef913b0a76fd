"""All checks in the order of their lines, each held to a time and none able to end the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from pytest_dockerlab.doctor import engine, host, labs
from pytest_dockerlab.doctor.finding import Finding, fail, warn
from pytest_dockerlab.doctor.machine import Asked, Machine, TookTooLong
from pytest_dockerlab.errors import DockerLabError

CHECK_S = 20.0

Check = Callable[[Machine], list[Finding]]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("python", host.python),
    ("git", host.git),
    ("engine", engine.engine),
    ("builder", engine.builder),
    ("runtimes", engine.runtimes),
    ("cgroup", engine.cgroup),
    ("build-limits", engine.build_limits),
    ("quota", engine.quota),
    ("disk", host.disk),
    ("gpu", labs.gpu),
    ("registry", labs.registry),
    ("images", labs.images),
    ("data", labs.data),
    ("leftovers", engine.leftovers),
)

# What only the engine can tell.
NEED_ENGINE = frozenset({"runtimes", "cgroup", "build-limits", "quota", "registry", "images", "leftovers"})


def examine(machine: Machine) -> Iterator[Finding]:
    """Yield the findings as they are made; never raises."""
    for name, check in CHECKS:
        if machine.client is None and name in NEED_ENGINE:
            yield warn(name, "not known: no engine answers")
            continue
        try:
            yield from Asked(partial(check, machine)).answer(CHECK_S)
        except DockerLabError as error:
            yield fail(name, error.message, error.fix)
        except TookTooLong as error:
            yield warn(name, f"not known: {error}")
        except Exception as error:  # noqa: BLE001  # a doctor who faints is of no use to anybody
            yield warn(name, f"not known: the check itself failed ({type(error).__name__}: {error})")
