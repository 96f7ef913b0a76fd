"""Start the student's model server from the artifact, with no way out to any network.

A small container of ours (`--network none`) holds the network namespace and the HTTP client; the student's server is
joined to it. Nothing else is reachable from there, the host included, and no port is published (ENGINE.md, point 9).
What is started is `serve_layouts`' business, asking the digits is `predict`'s.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

from pytest_dockerlab import sandbox
from pytest_dockerlab.checks.serving import KEPT
from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.watch import Watch, Watched
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.facts import Artifact, Ended, Serving
from pytest_dockerlab.serve.base import Asker, Line, Readiness, server
from pytest_dockerlab.serve.fixes import FIXES
from pytest_dockerlab.serve.http import ExecHttpClient
from pytest_dockerlab.stages import artifact as artifact_stage
from pytest_dockerlab.stages import harness, serve_layouts
from pytest_dockerlab.stages.context import RunContext
from pytest_dockerlab.stages.serve_layouts import Model, Plan
from pytest_dockerlab.store import write_atomic

CLIENT_SPARE_S = 60.0  # our container outlives the server's budgets by this much, then ends by itself
HOST = "dockerlab"  # a name that resolves: without one the JVM waits 0.8 s for its own host's name (measured)


@dataclass
class Server:
    """A live server: the student's container, watched in a thread, and ours beside it."""

    context: RunContext
    client: str
    container: str
    watch: Watch
    line: Line
    log: str
    askers: tuple[Asker, ...] = ()
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


def start(context: RunContext, artifact: Artifact, model: Model | None = None) -> tuple[Serving, Server | None]:
    """Start what the submission serves with, around the artifact, and wait until a canary digit is answered.

    The server is `None` where it did not get ready; then nothing of it runs any more. `model`: a copy to serve instead.
    """
    context.budget("the server", context.assignment.spec.timeouts.serve)
    model = model or Model(artifact, context.store.file(artifact_stage.FILE))
    try:
        made = serve_layouts.plan(context, model)
    except harness.BadFile as error:
        return Serving(ready=False, layout="none", reason="bad_files", detail=error.message, fix=error.fix), None
    if isinstance(made, Serving):
        return made, None
    fact, running = _try(context, made, model.role)
    if made.fallback is not None and fact.reason == "model_api_off":
        context.observer.note("the server's configuration lets no model be registered: starting it with ours")
        fact, running = _try(context, made.fallback, model.role)
    if model.role == "serve":
        _keep_answers(context, fact)
    return fact, running


def _try(context: RunContext, plan: Plan, role: str) -> tuple[Serving, Server | None]:
    return _open(context, _launch(context, plan, f"{role}.log"), plan)


def _launch(context: RunContext, plan: Plan, log: str) -> Server:
    """Create both containers and start them."""
    spec = context.assignment.spec
    budget = spec.timeouts.serve + spec.timeouts.predict
    client_image = harness.image(context, "client")
    client_spec = sandbox.client(client_image, context.labels("client"), budget + CLIENT_SPARE_S)
    client = context.create(replace(client_spec, hostname=HOST, extra_hosts={HOST: "127.0.0.1"}))
    refused = context.engine.start(client)
    if refused:
        raise InfraError(f"Our client container does not start: {refused}")
    image = context.image(plan.tag)
    granted = context.accelerator.acquire(image, context.observer.note, context.settings.lang)
    container = context.create(
        sandbox.server(
            plan.tag,
            image,
            spec.limits,
            context.labels("serve"),
            client,
            granted.grant,
            command=plan.command,
            entrypoint=plan.entrypoint,
        )
    )
    if plan.files:
        harness.put(context, container, plan.files)
    watch = Watch(context.engine, container, spec.limits, context.store.file(log))
    http = ExecHttpClient(lambda argv, stdin, end, most: context.engine.exec(client, argv, stdin, end, most))
    running = Server(context, client, container, watch, Line(http), log)
    running.line = Line(http, log_tail=watch.tail, alive=running.alive)
    running.run(context.deadline.sooner(budget))
    return running


def _open(context: RunContext, running: Server, plan: Plan) -> tuple[Serving, Server | None]:
    """Wait for readiness; keep what was seen."""
    kind = server(plan.server)
    deadline = context.deadline.sooner(context.assignment.spec.timeouts.serve)
    try:
        seen: Readiness = kind.open(running.line, plan.options, load_digits(context.settings.digits)[0].png, deadline)
    except BaseException:
        running.stop()
        raise
    ended: Watched | None = None
    if seen.ready:
        running.askers = seen.askers
    else:
        ended = running.stop()
    reason, detail = seen.reason, seen.detail
    if ended is not None and ended.ended is Ended.START_FAILED:
        reason, detail = "start_failed", f"The container's command could not be started: {ended.error}"
    elif ended is not None and ended.ended in (Ended.OOM, Ended.OUTPUT_LIMIT, Ended.DISK_LIMIT):
        reason, why = ended.ended.value, f" {ended.error}" if ended.error else ""
        detail = f"The serving container was ended: {ended.ended.value.replace('_', ' ')}.{why}"
    fact = Serving(
        ready=seen.ready,
        layout=plan.layout,
        server=kind.name,
        endpoint=seen.askers[0].note if seen.askers else None,
        ready_s=seen.seconds if seen.ready else None,
        image_build=plan.image_build,
        models=seen.models,
        listening=seen.listening,
        reason=reason,
        detail=detail,
        fix=FIXES.get(reason or ""),
        ended=ended.ended if ended else None,
        exit_code=ended.exit_code if ended else None,
        log=running.log,
        log_tail=running.watch.last_lines(),
        answers=seen.answers,
    )
    return fact, running if seen.ready else None


def _keep_answers(context: RunContext, fact: Serving) -> None:
    """Keep the answers to /ping and to a prediction as files: the lab's report asks for both."""
    for name, key in KEPT.items():
        path = context.store.file(name)
        if key in fact.answers:
            write_atomic(path, (fact.answers[key] + "\n").encode("utf-8", "replace"))
        else:
            path.unlink(missing_ok=True)
