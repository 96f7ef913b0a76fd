"""Take the model file that the run wrote out of its container."""

from __future__ import annotations

from pytest_dockerlab import artifact
from pytest_dockerlab.artifact import first_file
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.facts import Artifact
from pytest_dockerlab.stages.context import RunContext

FILE = "artifact.bin"

__all__ = ["FILE", "first_file", "run"]


def run(context: RunContext, container: str, probe: str, image: ImageConfig) -> Artifact:
    """Find and fetch the artifact; `probe` is a container of the same image that never ran."""
    spec = context.assignment.spec
    fact = artifact.collect(
        context.engine, container, probe, image, spec.train.artifacts, spec.limits.artifact, context.store.file(FILE)
    )
    context.store.save("artifact", fact)
    return fact
