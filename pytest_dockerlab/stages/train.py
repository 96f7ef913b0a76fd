"""Run the training container: its own command, no network, data mounted where the course's scripts look."""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pytest_dockerlab import integrity, sandbox
from pytest_dockerlab.assignment import MiB
from pytest_dockerlab.data import canary
from pytest_dockerlab.data.mnist import DataSet, ensure_mnist
from pytest_dockerlab.engine.base import ImageConfig, Mount
from pytest_dockerlab.engine.watch import Watch
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.facts import Artifact, Ended, Finding, ImageBuild, IntegrityFacts, LossCurve, TrainingRun
from pytest_dockerlab.stages import artifact, metrics
from pytest_dockerlab.stages.context import RunContext

LOG = "train.log"


def run(context: RunContext, build: ImageBuild) -> tuple[TrainingRun, LossCurve, Artifact | None]:
    """Train, and take what the run left before its container goes: the losses that its output told, and the artifact.

    The artifact is `None` where the run did not end well.
    """
    from pytest_dockerlab.train.loss import LossReader

    assert build.tag is not None
    tag, spec = build.tag, context.assignment.spec
    engine_info = context.engine.info()
    runtime = sandbox.runtime_for(context.settings.runtime, engine_info)
    image = context.image(tag)
    reader = LossReader()
    lock = threading.Lock()

    def on_output(data: bytes, at_s: float) -> None:
        with lock:
            points = reader.feed(data, at_s)
        for point in points:
            context.observer.loss(point)

    with context.container(sandbox.probe(tag, context.labels("inspect"))) as probe, _data(context) as data:
        mounts = _data_mounts(context, image, probe, data)
        granted = context.accelerator.acquire(image, context.observer.note, context.settings.lang)
        container_spec = sandbox.training(
            tag, image, spec.limits, context.labels("train"), mounts, granted.grant, spec.train.network, runtime
        )
        with context.container(container_spec) as container:

            def on_tick() -> None:
                if granted.watch is not None:
                    granted.watch.sample(context.engine.pids(container))

            watched = Watch(context.engine, container, spec.limits, context.store.file(LOG), on_output, on_tick).run(
                context.budget("the training", spec.timeouts.train)
            )
            used = granted.watch.result() if granted.watch is not None else None
            with lock:
                curve = reader.finish()
            fact = TrainingRun(
                ended=watched.ended,
                exit_code=watched.exit_code,
                seconds=watched.seconds,
                accelerator=granted.fact,
                command=(*image.entrypoint, *image.cmd),
                workdir=image.workdir,
                data_mounts=tuple(mount.target for mount in mounts),
                cpu_s=watched.cpu_s,
                peak_rss_bytes=watched.peak_bytes,
                bytes_written=watched.written_bytes,
                gpu_s=used.seconds if used else None,
                gpu_peak_bytes=used.peak_bytes if used else None,
                gpu_used=used.used if used else None,
                runtime=runtime or engine_info.raw.get("DefaultRuntime"),
                log=LOG,
                log_bytes=watched.log_bytes,
                log_truncated=watched.log_truncated,
                log_tail=watched.log_tail,
                error=context.time_is_up() if watched.ended is Ended.TIMED_OUT else watched.error,
            )
            # Rule 1: what the run cost is on disk before anything else is asked of its container.
            context.store.save("train", fact)
            context.store.save("loss", curve)
            told = curve
            try:
                if fact.ended is not Ended.DISK_LIMIT:  # a disk that is too full to be looked through
                    told = metrics.best(context, container, curve)
            except InfraError:
                if fact.ok:
                    raise
                # A run that failed has failed, whatever can still be read of it: no fault of ours out of theirs.
            if told is not curve:
                context.store.save("loss", told)
            found = artifact.run(context, container, probe, image, tag) if fact.ok else None
            if found is not None:
                found = _with_findings(context, fact, curve, found, data)
    return fact, told, found


@contextlib.contextmanager
def _data(context: RunContext) -> Iterator[DataSet | None]:
    """Yield the data to train on; a data canary's is made for this run, and removed with its labels afterwards."""
    spec = context.assignment.spec
    if spec.train.data == "none":
        yield None
        return
    data = ensure_mnist(spec.train.data_source, say=context.observer.note)
    if not spec.integrity.data_canary:
        yield data
        return
    secret = canary.of(context.store.folder, context.settings.secret, context.submission.sha256)
    folder = context.store.file(canary.FOLDER)
    try:
        yield canary.write(secret, data, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _data_mounts(context: RunContext, image: ImageConfig, probe: str, data: DataSet | None) -> tuple[Mount, ...]:
    """Mount the data read-only at each place where the image holds nothing of its own."""
    if data is None:
        return ()
    free = [target for target in sandbox.data_targets(image.workdir) if not _holds_files(context, probe, target)]
    return sandbox.data_mounts(Path(data.path), free)


def _with_findings(
    context: RunContext, fact: TrainingRun, curve: LossCurve, found: Artifact, data: DataSet | None
) -> Artifact:
    """Add what the facts tell of where the artifact came from, and keep it."""
    spec = context.assignment.spec
    images: Finding | None = None
    if data is not None and spec.integrity.data_canary:
        with context.store.file(LOG).open("rb") as log:
            totals = integrity.shown_totals(log.read(integrity.MAX_LOG))
        images = integrity.images_match(totals, data.train, data.test)
    findings = integrity.after_training(fact, curve, found, spec.limits.cpus, images)
    found = replace(found, findings=findings)
    context.store.save("artifact", found)
    context.store.save("integrity", IntegrityFacts(findings))
    return found


def _holds_files(context: RunContext, probe: str, target: str) -> bool:
    """Whether a folder of the image has something in it that a mount would hide."""
    return context.files(probe, 64 * MiB).any_in(str(PurePosixPath(target)))
