"""Make a TorchServe archive inside the student's serving image, with the `torch-model-archiver` that is in there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pytest_dockerlab import sandbox
from pytest_dockerlab.engine.watch import Watch
from pytest_dockerlab.facts import Ended, Serving
from pytest_dockerlab.serve import mar
from pytest_dockerlab.stages import harness
from pytest_dockerlab.stages.context import RunContext

LOG = "archive.log"
BUDGET_S = 120.0
HERE, OUT = "dockerlab/archive", "dockerlab/out"


@dataclass(frozen=True)
class Order:
    """What goes into an archive; all names are those of `files`, which lie side by side."""

    name: str
    serialized: str
    handler: str
    model_file: str | None
    extra: tuple[str, ...]
    files: Mapping[str, Path | bytes]


def make(context: RunContext, tag: str, order: Order, target: Path, layout: str) -> Path | Serving:
    """Return the archive, at `target`; where the image has no archiver, written by us."""
    limits = context.assignment.spec.limits
    spec = replace(
        sandbox.training(tag, context.image(tag), limits, context.labels("archive")),
        entrypoint=("torch-model-archiver",),
        command=(
            *mar.arguments(
                order.name,
                f"/{HERE}/{order.serialized}",
                f"/{HERE}/{order.handler}",
                f"/{HERE}/{order.model_file}" if order.model_file else None,
                tuple(f"/{HERE}/{name}" for name in order.extra),
            ),
            "--config-file",
            f"/{HERE}/{mar.CONFIG}",
            "--export-path",
            f"/{OUT}",
        ),
    )
    files = {f"{HERE}/{name}": content for name, content in order.files.items()}
    files[f"{HERE}/{mar.CONFIG}"] = mar.CONFIG_TEXT
    with context.container(spec) as container:
        harness.put(context, container, files, writable=(OUT,))
        watch = Watch(context.engine, container, limits, context.store.file(LOG))
        seen = watch.run(context.deadline.sooner(BUDGET_S))
        if seen.ended is Ended.EXITED and seen.exit_code == 0:
            # The archive holds the artifact and some small files.
            limit = limits.artifact + limits.context
            got = context.files(container, 2 * limit).retrieve(f"/{OUT}/{order.name}.mar", limit, target)
            if got.state == "file":
                return target
    tail = watch.last_lines()
    missing = seen.ended is Ended.START_FAILED or seen.exit_code == 127
    if missing or (seen.exit_code == 2 and any("--config-file" in line for line in tail)):
        context.observer.note("the serving image has no torch-model-archiver of today: the harness writes the archive")
        mar.write(target, order.name, order.serialized, order.handler, order.model_file, order.files)
        return target
    last = next((line.strip() for line in reversed(tail) if line.strip()), "it wrote no archive")
    return Serving(
        ready=False,
        layout=layout,
        reason="archive_failed",
        detail=f"torch-model-archiver failed in the serving image ({seen.ended.value}): {last[:300]}",
        fix="Run torch-model-archiver in the image yourself, with the handler and the model file.",
        log=LOG,
        log_tail=tail,
    )
