"""Look into the artifact, in a container that has no network, no data and a read-only root.

Our own client image reads all that plain Python can read: what a student's Python would say of a student's file is
worth less. Only HDF5 and Keras files need a library, which the student's training image has if any has it.

A read-only root takes no `put_archive` (the engine refuses it), so the file goes in over standard input, into a tmpfs.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

from pytest_dockerlab import inspection, sandbox
from pytest_dockerlab.assignment import MiB
from pytest_dockerlab.engine.base import ContainerSpec
from pytest_dockerlab.errors import EngineUnavailable, InfraError
from pytest_dockerlab.facts import Artifact
from pytest_dockerlab.images import recipes
from pytest_dockerlab.stages import harness
from pytest_dockerlab.stages.context import RunContext

BUDGET_S = 90.0
MAX_BYTES = 512 * MiB  # of a file that is looked into
NEED_A_LIBRARY = ("hdf5", "keras")
PYTHONS = ("python3", "python", "/opt/conda/bin/python3", "/usr/bin/python3", "/usr/local/bin/python3")


def run(context: RunContext, tag: str, artifact: Artifact, file: str) -> Artifact:
    """Return the fact with its `details`, and with what the reader found wrong in `problem`.

    `tag` is the training image. Whatever keeps the file from being read is a detail; it fails nobody.
    """
    if artifact.path is None or artifact.problem is not None or artifact.kind is None:
        return artifact
    path = context.store.file(file)
    names = inspection.static_names(path, artifact.kind)
    if artifact.bytes > MAX_BYTES:
        details: dict[str, Any] = {"read": False, "why": f"bigger than {MAX_BYTES >> 20} MiB"}
    else:
        details = _details(context, tag, artifact.kind, path)
    names = sorted({*names, *details.pop("globals", [])})
    details["unusual"] = inspection.unusual(names)[:20]
    details["runs"] = inspection.runs_commands(names)[:20]
    return replace(artifact, details=details, problem=details.get("problem"))


def _details(context: RunContext, tag: str, kind: str, file: Path) -> dict[str, Any]:
    ours = f"{recipes.get('client').repository}:latest"
    images = [tag] if kind in NEED_A_LIBRARY else [ours, tag]
    last: dict[str, Any] = {"read": False, "why": "no image with Python is there"}
    for image in images:
        if context.engine.image(image) is None:
            continue
        found = None
        for python in PYTHONS:
            try:
                found = _ask(context, container_spec(context, image, python, file.stat().st_size), python, kind, file)
            except EngineUnavailable:
                raise
            except InfraError as error:
                found = {"read": False, "why": error.message[:300]}
            if found is not None:
                break
        if found is not None:
            last = found | {"where": "our own image" if image == ours else "the training image"}
        if last["read"] or last.get("problem"):
            break
    return last


def container_spec(context: RunContext, image: str, python: str, size: int) -> ContainerSpec:
    """Return the container: as locked down as our client's, with room for the file and for reading it."""
    return replace(
        sandbox.client(image, context.labels("inspect"), BUDGET_S),
        entrypoint=(python,),
        command=("-I", "-c", f"import time; time.sleep({BUDGET_S + 30:.0f})"),
        init=False,  # with one, an image without this Python would start, and end at once
        memory_bytes=512 * MiB + 6 * size,
        tmpfs={"/tmp": f"size={16 * MiB + 3 * size}"},  # noqa: S108  # inside the container
        # An image's ENV can name libraries to load, and asks NVIDIA's runtime for a GPU.
        env={"LD_PRELOAD": "", "LD_AUDIT": "", "NVIDIA_VISIBLE_DEVICES": "void"},
    )


def _ask(context: RunContext, spec: ContainerSpec, python: str, kind: str, file: Path) -> dict[str, Any] | None:
    """Run the reader; `None` where the image has no such Python."""
    engine = context.engine
    reader = inspection.bundle()
    with context.container(spec) as container:
        if engine.start(container) is not None:
            return None
        done = engine.exec(
            container,
            (python, "-I", "-c", inspection.BOOT, kind),
            itertools.chain((len(reader).to_bytes(8, "little"), reader), harness.pieces(file)),
            context.deadline.sooner(BUDGET_S),
            inspection.MAX_ANSWER,
        )
        if done.timed_out:
            return {"read": False, "why": f"not done within {BUDGET_S:.0f} s"}
        if done.truncated:
            return {"read": False, "why": "the reader wrote more than is taken"}
        if done.exit_code == 137:
            return {"read": False, "why": "reading it took more memory than is given"}
        return inspection.parse(done.stdout)
