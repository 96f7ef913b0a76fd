"""Take the model file that the run wrote out of its container, and have it looked into."""

from __future__ import annotations

from pytest_dockerlab import artifact
from pytest_dockerlab.assignment import MiB
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.facts import Artifact
from pytest_dockerlab.stages import inspect
from pytest_dockerlab.stages.context import RunContext

FILE = "artifact.bin"


def run(context: RunContext, container: str, probe: str, image: ImageConfig, tag: str) -> Artifact:
    """Find, fetch and look into the artifact; `probe` is a container of the same image, `tag`, that never ran."""
    spec = context.assignment.spec
    most = artifact.READ_FACTOR * spec.limits.artifact + 64 * MiB  # and the headers of all archives
    fact = artifact.collect(
        context.files(container, most),
        context.files(probe, most),
        image,
        spec.train.artifacts,
        spec.limits.artifact,
        context.store.file(FILE),
        require_new=spec.integrity.artifact_new == "fail",
    )
    fact = inspect.run(context, tag, fact, FILE)
    context.store.save("artifact", fact)
    return fact
