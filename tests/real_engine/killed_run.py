"""A run that is to be killed: `killed_run.py container|build|unguarded RUN_ID`. Prints a line once it is at work."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from pytest_dockerlab import sandbox
from pytest_dockerlab.context import tar_of
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import process
from pytest_dockerlab.engine.base import BuildRequest
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.guard import Guard
from pytest_dockerlab.engine.labels import run_labels
from pytest_dockerlab.engine.reaper import remove_run
from pytest_dockerlab.engine.signals import orderly_termination

BASE = "dockerlab/standin-base:latest"


def at_work() -> None:
    print("at work", flush=True)


def containers(engine: DockerEngine, run_id: str) -> None:
    """One that runs, one that was only created, and a network and a volume."""
    api: Any = engine._api
    labels = dict(run_labels(run_id, "test"))
    engine.create(sandbox.probe(BASE, labels))
    api.create_network(f"dockerlab-{run_id}", labels=labels, internal=True)
    api.create_volume(f"dockerlab-{run_id}", labels=labels)
    running = engine.create(sandbox.client(BASE, labels, 600))
    engine.start(running)
    at_work()
    time.sleep(600)


def build(engine: DockerEngine, run_id: str) -> None:
    """A step that does not end, seen in the process list by the run's own number of seconds."""
    seconds = int(run_id.rpartition("-")[2], 16) % 10_000_000 + 10_000_000
    dockerfile = f"FROM {BASE}\nRUN echo {run_id}\nRUN sleep {seconds}\n"
    with tempfile.NamedTemporaryFile(suffix=".tar") as tar:
        tar.write(tar_of({"Dockerfile": dockerfile.encode()}))
        tar.flush()
        request = BuildRequest(Path(tar.name), "Dockerfile", f"dockerlab/train:{run_id}", run_labels(run_id, "train"))

        def on_output(line: str) -> None:
            if f"RUN sleep {seconds}" in line:
                at_work()

        outcome = engine.build(request, Deadline.after(120), on_output)
    print(f"the build ended: {outcome}", flush=True)


def main() -> None:
    what, run_id = sys.argv[1:]
    with contextlib.ExitStack() as stack:
        engine = stack.enter_context(DockerEngine())
        if what == "unguarded":
            containers(engine, run_id)
            return
        stack.enter_context(orderly_termination())
        guard = stack.enter_context(Guard.start(run_id, engine.host))
        if not hasattr(process, "watched"):  # `run_process` does this itself where it is wired

            class Watched(subprocess.Popen):  # type: ignore[type-arg]
                def __init__(self, *args: Any, **more: Any) -> None:
                    super().__init__(*args, **more)
                    guard.watch_process(self.pid)

            process.subprocess.Popen = Watched  # type: ignore[misc]
        try:
            containers(engine, run_id) if what == "container" else build(engine, run_id)
        finally:
            if remove_run(engine, run_id) == 0:
                guard.done()


main()
