"""Start the student's model server from the artifact, with no way out to any network, and ask it for digits.

A small container of ours (`--network none`) holds the network namespace and the HTTP client; the student's server is
joined to it. Nothing else is reachable from there, the host included, and no port is published (ENGINE.md, point 9).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pytest_dockerlab import dockerfiles, sandbox
from pytest_dockerlab.artifact import parts
from pytest_dockerlab.data import canary
from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.watch import Watch, Watched
from pytest_dockerlab.errors import ImageUnavailable, InfraError
from pytest_dockerlab.facts import MAX_RAW, Artifact, Ended, Prediction, Predictions, Serving
from pytest_dockerlab.images import recipes
from pytest_dockerlab.serve import draw
from pytest_dockerlab.serve.base import Asker, Line, ModelServer, Readiness, ServeOptions, server
from pytest_dockerlab.serve.fixes import FIXES
from pytest_dockerlab.serve.http import ExecHttpClient
from pytest_dockerlab.serve.verdict import Rules, wants_probes
from pytest_dockerlab.stages import artifact as artifact_stage
from pytest_dockerlab.stages import build as build_stage
from pytest_dockerlab.stages.context import RunContext

LOG = "serve.log"
CLIENT_SPARE_S = 60.0  # our container outlives the server's budgets by this much, then ends by itself


@dataclass
class Server:
    """A live server: the student's container, watched in a thread, and ours beside it."""

    context: RunContext
    client: str
    container: str
    watch: Watch
    line: Line
    asker: Asker | None = None
    _thread: threading.Thread | None = None
    _end: list[Watched] = field(default_factory=list)
    _error: list[BaseException] = field(default_factory=list)

    def run(self, deadline: Deadline) -> None:
        """Start the container and watch it until `stop`, its own end or the deadline."""

        def watch() -> None:
            try:
                self._end.append(self.watch.run(deadline))
            except BaseException as error:  # noqa: BLE001  # handed to the thread that waits
                self._error.append(error)

        self._thread = threading.Thread(target=watch, name="dockerlab-serve-watch", daemon=True)
        self._thread.start()

    def alive(self) -> bool:
        """Whether the container runs, or is about to; raises what went wrong on our side."""
        if self._error:
            raise self._error[0]
        return not self._end

    def stop(self) -> Watched | None:
        """End both containers; how the server ended, or `None` where that could not be told."""
        if self._thread is not None and not self._end:
            self.watch.stop()
            self._thread.join(30)
        for container in (self.container, self.client):
            self.context.remove(container)
        return self._end[0] if self._end else None


def start(context: RunContext, artifact: Artifact) -> tuple[Serving, Server | None]:
    """Build the serving image around the artifact, start it, wait until a canary digit is answered.

    The server is `None` where it did not get ready; then nothing of it runs any more.
    """
    found = _dockerfile(context)
    if found is None:
        return (
            Serving(
                ready=False,
                layout="none",
                reason="no_serving",
                detail="There is no Dockerfile for serving (looked for serve/Dockerfile, Dockerfile.serve).",
                fix='Add serve/Dockerfile, or say where it is in dockerlab.toml: [serve] dockerfile = "…".',
            ),
            None,
        )
    dockerfile, folder = found
    own = context.submission.file.serve
    target = own.artifact or Path(artifact.path or "model").name
    if own.artifact is not None and folder != "." and own.artifact.startswith(f"{folder}/"):
        target = own.artifact.removeprefix(f"{folder}/")  # said from the submission's root; the context is what counts
    parsed = dockerfiles.parse(context.submission.read_text(dockerfile) or "")
    image_build = build_stage.build(
        context,
        "serve",
        folder,
        dockerfile,
        parsed.bases,
        {**parts(artifact.kind, context.store.file(artifact_stage.FILE), target)},
    )
    if not image_build.ok or image_build.tag is None:
        return Serving(ready=False, layout="dockerfile", image_build=image_build, reason="build_failed"), None
    kind = server(own.server or context.assignment.spec.serve.server)
    running = _launch(context, image_build.tag)
    return _open(context, running, kind, image_build)


def _dockerfile(context: RunContext) -> tuple[str, str] | None:
    """Return the serving Dockerfile and its context."""
    own = context.submission.file.serve
    if own.dockerfile:
        parent = str(Path(own.dockerfile).parent)
        return own.dockerfile, own.context or parent
    for name, folder in (("serve/Dockerfile", "serve"), ("Dockerfile.serve", "."), ("serve.Dockerfile", ".")):
        if context.submission.read_text(name) is not None:
            return name, own.context or folder
    return None


def _options(context: RunContext) -> ServeOptions:
    table, own = context.assignment.spec.serve, context.submission.file.serve
    return ServeOptions(
        port=own.port or table.port,
        model=own.model or table.model,
        path=own.path or table.path,
        method=table.method,
        form=table.form,
    )


def _launch(context: RunContext, tag: str) -> Server:
    """Create both containers and start them."""
    spec = context.assignment.spec
    budget = spec.timeouts.serve + spec.timeouts.predict
    client_spec = sandbox.client(_client_image(context), context.labels("client"), budget + CLIENT_SPARE_S)
    client = context.create(client_spec)
    refused = context.engine.start(client)
    if refused:
        raise InfraError(f"Our client container does not start: {refused}")
    image = context.image(tag)
    granted = context.accelerator.acquire(image, context.observer.note, context.settings.lang)
    container = context.create(sandbox.server(tag, image, spec.limits, context.labels("serve"), client, granted.grant))
    watch = Watch(context.engine, container, spec.limits, context.store.file(LOG))
    http = ExecHttpClient(lambda argv, stdin, end, most: context.engine.exec(client, argv, stdin, end, most))
    running = Server(context, client, container, watch, Line(http))
    running.line = Line(http, log_tail=watch.tail, alive=running.alive)
    running.run(context.deadline.sooner(budget))
    return running


def _client_image(context: RunContext) -> str:
    tag = f"{recipes.get('client').repository}:latest"
    if context.engine.image(tag) is None:
        context.observer.note("making the harness's own client image (once)")
        from pytest_dockerlab.engine.connect import connect
        from pytest_dockerlab.images.standins import ensure

        ensure(["client"], connect(), context.observer.note)
        if context.engine.image(tag) is None:
            raise ImageUnavailable(f"The harness's image {tag} is missing.", fix="dockerlab images ensure client")
    return tag


def _open(
    context: RunContext, running: Server, kind: ModelServer, image_build: object
) -> tuple[Serving, Server | None]:
    """Wait for readiness; keep what was seen."""
    from pytest_dockerlab.facts import ImageBuild

    assert isinstance(image_build, ImageBuild)
    options = _options(context)
    deadline = context.deadline.sooner(context.assignment.spec.timeouts.serve)
    try:
        seen: Readiness = kind.open(running.line, options, load_digits(context.settings.digits)[0].png, deadline)
    except BaseException:
        running.stop()
        raise
    ended: Watched | None = None
    if seen.ready:
        running.asker = seen.askers[0]
    else:
        ended = running.stop()
    reason, detail = seen.reason, seen.detail
    if ended is not None and ended.ended is Ended.START_FAILED:
        reason, detail = "start_failed", f"The container's command could not be started: {ended.error}"
    elif ended is not None and ended.ended in (Ended.OOM, Ended.OUTPUT_LIMIT, Ended.DISK_LIMIT):
        reason, detail = ended.ended.value, f"The serving container was ended: {ended.ended.value.replace('_', ' ')}."
    fact = Serving(
        ready=seen.ready,
        layout="dockerfile",
        server=kind.name,
        endpoint=seen.askers[0].note if seen.askers else None,
        ready_s=seen.seconds if seen.ready else None,
        image_build=image_build,
        models=seen.models,
        listening=seen.listening,
        reason=reason,
        detail=detail,
        fix=FIXES.get(reason or ""),
        ended=ended.ended if ended else None,
        exit_code=ended.exit_code if ended else None,
        log=LOG,
        log_tail=running.watch.last_lines(),
        answers=seen.answers,
    )
    return fact, running if seen.ready else None


def predict(context: RunContext, running: Server) -> Predictions:
    """Ask for the drawn digits and stop the server."""
    table = context.assignment.spec.predict
    seed = draw.seed_of(context.settings.secret, context.submission.sha256)
    questions = draw.draw(load_digits(context.settings.digits), seed, table.images)
    permuted = context.assignment.spec.integrity.data_canary
    if permuted:
        secret = canary.of(context.store.folder, context.settings.secret, context.submission.sha256)
        questions = secret.relabel(questions)
    deadline = context.deadline.sooner(context.assignment.spec.timeouts.predict)
    try:
        items = _ask(running, questions, deadline, table.concurrency)
        probes = _ask(running, draw.again(questions, seed), deadline, table.concurrency)
        rules = Rules(min_correct=table.min_correct)
        if wants_probes(Predictions(items=items), rules):
            for kind in draw.PROBES:
                probes += _ask(running, draw.probes(questions, kind), deadline, table.concurrency)
        gone = None if running.alive() else "the server ended while it was asked"
    finally:
        running.stop()
    times = sorted(item.ms for item in items if item.ms is not None and item.got is not None)
    return Predictions(
        items=items,
        probes=probes,
        error=gone,
        permuted=permuted,
        log=LOG,
        log_tail=running.watch.last_lines(),
        p50_ms=times[len(times) // 2] if times else None,
        p99_ms=times[min(len(times) - 1, int(len(times) * 0.99))] if times else None,
    )


def _ask(
    running: Server, questions: Sequence[draw.Question], deadline: Deadline, concurrency: int
) -> tuple[Prediction, ...]:
    """Ask; the labels are put beside the answers here, outside of every container."""
    assert running.asker is not None
    asker = running.asker
    requests = [asker.make(question.png) for question in questions]
    answers = running.line.client.send(requests, deadline, concurrency=concurrency)
    items = []
    for question, answer in zip(questions, answers, strict=True):
        meant = asker.read(answer)
        items.append(
            Prediction(
                image=question.name,
                expected=question.label,
                got=meant.digit,
                raw=answer.text(MAX_RAW),
                ms=answer.ms,
                status=answer.status,
                error=None if meant.digit is not None else meant.how,
            )
        )
    return tuple(items)
