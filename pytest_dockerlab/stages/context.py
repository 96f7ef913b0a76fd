"""What every stage needs: the hand-in, the rules, the engine, a folder, and a promise to leave nothing behind."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import cgroup
from pytest_dockerlab.engine.base import BuildOutcome, BuildRequest, ContainerSpec, Engine, ImageConfig
from pytest_dockerlab.engine.files import ContainerFiles
from pytest_dockerlab.engine.guard import Guard
from pytest_dockerlab.engine.labels import run_labels
from pytest_dockerlab.engine.logfile import CappedLog
from pytest_dockerlab.errors import ImageUnavailable, InfraError, StudentError
from pytest_dockerlab.facts import BaseImage
from pytest_dockerlab.images import names
from pytest_dockerlab.observer import Observer
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.stages.accelerator import AcceleratorPlan
from pytest_dockerlab.store import RunStore
from pytest_dockerlab.submission import Submission

STANDIN = "dockerlab.standin"
RESTART_S = 60.0  # dockerd was back after 2 s; it gives containers up to 15 s to end (its shutdown-timeout)
READ_S = 120.0  # 1.5 million files were listed in 20 s; what is read of them was copied and hashed at 278 MB/s
FASTER = "Make the earlier stages shorter: a build that installs less, fewer epochs."


@dataclass
class RunContext:
    """One run. `close` removes every container and image that the run made, unless `--dockerlab-keep` was given."""

    submission: Submission
    assignment: Assignment
    settings: Settings
    engine: Engine
    store: RunStore
    observer: Observer
    run_id: str
    deadline: Deadline
    accelerator: AcceleratorPlan
    guard: Guard | None = None  # cleans up behind us where we can not
    _containers: list[str] = field(default_factory=list)
    _images: list[str] = field(default_factory=list)

    def budget(self, what: str, seconds: float) -> Deadline:
        """Return a stage's deadline, never later than the whole run's. Raises `StudentError` where that is over."""
        if over := self.time_is_up():
            raise StudentError(f"{over} {what[:1].upper()}{what[1:]} could not start.", fix=FASTER)
        return self.deadline.sooner(seconds)

    def time_is_up(self) -> str | None:
        """Return a sentence where the whole run's time is over, not only a stage's."""
        if not self.deadline.passed:
            return None
        return f"The whole run's time, {self.assignment.spec.timeouts.total:.0f} s (timeouts.total), is over."

    def labels(self, role: str) -> Mapping[str, str]:
        """Return the labels of one thing of this run."""
        return run_labels(self.run_id, role, keep=self.settings.keep)

    def create(self, spec: ContainerSpec) -> str:
        """Create a container that `close` removes."""
        container = self.engine.create(spec)
        self._containers.append(container)
        return container

    @contextlib.contextmanager
    def container(self, spec: ContainerSpec) -> Iterator[str]:
        """Create a container and remove it at the end of the block."""
        container = self.create(spec)
        try:
            yield container
        finally:
            self.remove(container)

    def remove(self, container: str) -> None:
        """Remove a container now, unless containers are kept."""
        if self.settings.keep or container not in self._containers:
            return
        try:
            self.engine.remove(container)
        except InfraError:  # it stays on the list: what was seen must not be lost for it, and `close` tries again
            return
        self._containers.remove(container)

    def files(self, container: str, most_bytes: int) -> ContainerFiles:
        """Return what reads a container's files. The time for it is ours, so it is not taken from the run's."""
        return ContainerFiles(self.engine, container, Deadline.after(READ_S), most_bytes)

    def build_image(
        self, role: str, tar: Path, dockerfile: str, bases: tuple[BaseImage, ...], deadline: Deadline, log: Path
    ) -> tuple[str, BuildOutcome, CappedLog]:
        """Build an image that `close` removes; its tag, how it went, and the log with its last lines."""
        tag = f"dockerlab/{role}:{self.run_id}"
        self._images.append(tag)
        capped = CappedLog(log, self.assignment.spec.limits.log)

        def on_output(line: str) -> None:
            capped.write(line.encode("utf-8", "replace") + b"\n")
            self.observer.output(role, line)

        request = BuildRequest(
            context=tar,
            dockerfile=dockerfile,
            tag=tag,
            labels=self.labels(role),
            replaced={base.name: base.replaced_by for base in bases if base.replaced_by},
        )
        try:
            return tag, cgroup.build(self.engine, request, self.assignment.spec.limits, deadline, on_output), capped
        finally:
            capped.close()

    def image(self, name: str) -> ImageConfig:
        """Inspect an image that has to be there."""
        config = self.engine.image(name)
        if config is None:
            raise ImageUnavailable(f"The image {name} is gone.", fix="Grade again with --dockerlab-fresh.")
        return config

    def replace_bases(self, bases: tuple[str, ...]) -> tuple[BaseImage, ...]:
        """Send each name after FROM where the `[images]` maps say: the user's first, then the assignment's."""
        maps = [*names.user_maps(), self.assignment.spec.images]
        replaced = []
        for name in bases:
            target = names.resolve(name, *maps)
            config = self.engine.image(target) if target else None
            if target and config is None and target.startswith("dockerlab/"):
                raise ImageUnavailable(
                    f"{name} is to be replaced by {target}, which is not on this engine.", fix="dockerlab images ensure"
                )
            replaced.append(BaseImage(name, target, standin=config is not None and STANDIN in config.labels))
        return tuple(replaced)

    def reconnect(self) -> None:
        """Wait until an engine that went away answers, and forget what it lost. Each request connects anew."""
        for _ in self.deadline.sooner(RESTART_S).poll(1.0):
            with contextlib.suppress(InfraError):
                there = {thing.id for thing in self.engine.owned(self.run_id)}
                self._containers = [container for container in self._containers if container in there]
                return

    def close(self) -> None:
        """Remove what is left; an engine that is gone by now is left to the reaper of the next run."""
        self.accelerator.close()
        clean = True
        if not self.settings.keep:
            left: list[tuple[Callable[[str], None], str]] = [
                (self.engine.remove, name) for name in reversed(self._containers)
            ]
            left += [(self.engine.remove_image, name) for name in self._images]
            for remove, name in left:
                try:
                    remove(name)
                except InfraError:
                    clean = False
            self._containers.clear()
            self._images.clear()
        if self.guard is None:
            return
        if clean:
            self.guard.done()
        else:  # an engine that restarts: the helper tries again for some minutes
            self.guard.hand_over()
