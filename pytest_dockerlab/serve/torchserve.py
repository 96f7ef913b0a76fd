"""TorchServe, as far as 0.12.0 goes.

`/ping` says "Healthy" while every worker is dead, so it only shows that something answers. Ready is a digit that comes
back for a canary. Where the model isn't loaded and the management API allows it, the model is registered
synchronously: that answer is definite, within seconds, while a worker that `--models` started is tried again for
minutes after it died.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from urllib.parse import quote, urlencode

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.serve.answers import EXPECTED
from pytest_dockerlab.serve.base import (
    SILENT,
    Asker,
    Line,
    Readiness,
    ServeOptions,
    digit_request,
    judge_canary,
    localhost_only,
    nothing_there,
    reader,
    wait_for,
)
from pytest_dockerlab.serve.causes import Cause, prediction_cause, torchserve_cause
from pytest_dockerlab.serve.http import HttpAnswer, HttpRequest

MANAGEMENT_PORT = 8081
# What starts fastest (measured; bench/serve.py): one worker, a small JVM without its second compiler, no metrics.
CONFIG_PROPERTIES = b"""\
inference_address=http://0.0.0.0:8080
management_address=http://0.0.0.0:8081
metrics_address=http://127.0.0.1:8082
disable_token_authorization=true
enable_model_api=true
default_workers_per_model=1
default_startup_timeout=60
default_response_timeout=30
disable_system_metrics=true
enable_metrics_api=false
vmargs=-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xms64m -Xmx256m
"""
# Everything to standard output, in the words that `causes` reads, and no log files.
LOG4J = b"""\
<?xml version="1.0" encoding="UTF-8"?>
<Configuration>
  <Appenders>
    <Console name="out" target="SYSTEM_OUT"><PatternLayout pattern="%d{ISO8601} [%-5p] %t %c - %m%n"/></Console>
  </Appenders>
  <Loggers>
    <Logger name="ACCESS_LOG" level="off"/>
    <Logger name="TS_METRICS" level="off"/>
    <Logger name="MODEL_METRICS" level="off"/>
    <Logger name="io.netty" level="error"/>
    <Logger name="org.apache" level="off"/>
    <Logger name="org.pytorch.serve.wlm.WorkerThread" level="debug"/>
    <Root level="info"><AppenderRef ref="out"/></Root>
  </Loggers>
</Configuration>
"""
QUICK_S = 5.0  # `/ping` and the list of models need no model


def _message(answer: HttpAnswer) -> tuple[str, str]:
    """Return the type and the message of TorchServe's own error answers."""
    said = answer.json()
    if not isinstance(said, dict):
        return "", answer.text(200)
    return str(said.get("type", ""))[:100], str(said.get("message", ""))[:300]


def _wants_token(answer: HttpAnswer) -> bool:
    return answer.status in (400, 401, 403) and b"InvalidKeyException" in answer.body


def _elsewhere(log: str, port: int) -> Cause | None:
    """Return the cause where TorchServe says that it serves on another port; it needs no more waiting then."""
    bound = re.findall(r"Inference API bind to: (\S{1,200}?:([0-9]{1,5}))\s", log)
    if not bound or any(int(number) == port for _, number in bound):
        return None
    return Cause("other_port", f"Nothing listens on port {port}: TorchServe serves on {bound[-1][0]}.")


TOKEN = Cause(
    "token_auth",
    "TorchServe answers 400 InvalidKeyException: it asks for a token, as it does by default since 0.11.1.",
)


@dataclass
class _Seen:
    """What was seen so far; it becomes the `Readiness`."""

    deadline: Deadline
    models: tuple[str, ...] = ()
    listening: tuple[str, ...] = ()
    answers: dict[str, str] | None = None

    def keep(self, name: str, answer: HttpAnswer) -> None:
        """Keep an answer as evidence."""
        shown = answer.text(2000) if answer.status is not None else f"{answer.error}: {answer.detail}"
        self.answers = {**(self.answers or {}), name: shown}

    def result(self, cause: Cause | None, askers: tuple[Asker, ...] = ()) -> Readiness:
        """Return the readiness: ready where there is no cause against it."""
        return Readiness(
            ready=cause is None,
            reason=cause.reason if cause else None,
            detail=cause.sentence if cause else None,
            seconds=round(self.deadline.budget_s - self.deadline.remaining_s, 3),
            models=self.models,
            listening=self.listening,
            answers=dict(self.answers or {}),
            askers=askers if cause is None else (),
        )


class TorchServe:
    """See the module."""

    name = "torchserve"
    port = 8080

    def explain(self, log: str) -> Cause | None:
        """Return why TorchServe or its worker does not serve, where the log tells."""
        return torchserve_cause(log)

    def open(self, line: Line, options: ServeOptions, canary: bytes, deadline: Deadline) -> Readiness:
        """Wait for any answer, see to it that the model is there, then wait for the canary's digit."""
        port = options.port or self.port
        deadline = deadline.sooner(deadline.remaining_s)  # a budget that starts now, for the seconds that are told
        seen = _Seen(deadline)

        def hopeless() -> Cause | None:
            log = line.log_tail()
            return torchserve_cause(log) or _elsewhere(log, port)

        ping = HttpRequest("/ping", port=port, timeout_s=QUICK_S, retry_on=("refused", "reset", "empty"))
        answer, cause = wait_for(line, ping, deadline, lambda one: one.status is not None, hopeless)
        listening = line.client.listening(deadline)
        seen.listening = listening.shown()
        seen.keep("ping", answer)
        if answer.status is None:
            # A cause that the log tells is worth more than that nothing answers.
            known = cause if cause and cause.reason != "exited" else hopeless()
            return seen.result(known or cause or nothing_there(line, port, listening))
        cause = localhost_only(port, listening)
        if cause is None and _wants_token(answer):
            cause = TOKEN
        if cause is not None:
            return seen.result(cause)

        model, cause = self._model(line, options, seen, deadline)
        if cause is not None:
            return seen.result(cause)
        path = options.path or f"/predictions/{quote(model, safe='')}"
        asker = Asker(
            note=f"{options.method} {path}, {options.send}",
            make=lambda png: digit_request(options, path, port, png),
            read=reader(options.form),
        )
        return self._canary(line, asker, canary, seen, deadline)

    def _model(self, line: Line, options: ServeOptions, seen: _Seen, deadline: Deadline) -> tuple[str, Cause | None]:
        """Return the model to ask, registered where it has to be, or the cause why there is none."""
        wanted = options.model or "mnist"
        port = options.management_port or MANAGEMENT_PORT
        [answer] = line.client.send([HttpRequest("/models?limit=100", port=port, timeout_s=QUICK_S)], deadline)
        seen.keep("models", answer)
        listed = answer.json() if answer.ok else None
        if not isinstance(listed, dict) or not isinstance(listed.get("models"), list):
            if options.archive is None:
                return wanted, None  # no management API in reach: the prediction itself will tell
            return wanted, Cause(
                "model_api_off", f"The management API on port {port} does not list models ({answer.outcome})."
            )
        found = [str(one.get("modelName"))[:100] for one in listed["models"][:100] if isinstance(one, dict)]
        seen.models = tuple(found)
        if options.model is None and len(found) == 1:
            return found[0], None
        if wanted in found:
            return wanted, None
        if options.archive is not None:
            return wanted, self._register(line, options, wanted, seen, deadline)
        why = torchserve_cause(line.log_tail())
        if why is not None:
            return wanted, why
        if found:
            return wanted, Cause(
                "model_name", f"No model is named {wanted!r}; the management API lists: {', '.join(found[:5])}."
            )
        return wanted, Cause("no_model", "TorchServe runs without any model: none was given to --models at the start.")

    def _register(self, line: Line, options: ServeOptions, model: str, seen: _Seen, deadline: Deadline) -> Cause | None:
        """Register the archive and wait for its worker; the answer is definite."""
        query = urlencode({"url": options.archive, "model_name": model, "initial_workers": 1, "synchronous": "true"})
        [answer] = line.client.send(
            [
                HttpRequest(
                    f"/models?{query}",
                    "POST",
                    options.management_port or MANAGEMENT_PORT,
                    timeout_s=deadline.remaining_s,
                )
            ],
            deadline,
        )
        seen.keep("register", answer)
        if answer.ok:
            seen.models = (*seen.models, model)
            return None
        _, message = _message(answer)
        if answer.status == 405:
            return Cause("model_api_off", "TorchServe does not let models be registered: enable_model_api is not true.")
        known = torchserve_cause(line.log_tail())
        if known is not None:
            return known
        if answer.status == 404:
            return Cause("archive_missing", f"TorchServe does not find the archive {options.archive!r}: {message}")
        if answer.status is None:
            return Cause("timeout", f"The model could not be registered in time ({answer.error}).")
        return Cause("worker_died", f"TorchServe could not start a worker (status {answer.status}): {message}")

    def _canary(self, line: Line, asker: Asker, canary: bytes, seen: _Seen, deadline: Deadline) -> Readiness:
        """Ask for the canary until it is answered. 503 without "Prediction failed" is a worker that isn't there yet."""

        def settled(answer: HttpAnswer) -> bool:
            if answer.status == 503 and _message(answer)[1] != "Prediction failed":
                return False
            return answer.error not in SILENT

        def hopeless() -> Cause | None:
            return torchserve_cause(line.log_tail())

        request = replace(asker.make(canary), retry_on=("refused", "reset", "503"), id="canary")
        answer, cause = wait_for(line, request, deadline, settled, hopeless)
        seen.keep("canary", answer)
        if not settled(answer):
            cause = cause or hopeless()
            if cause is None and answer.error == "refused":  # it answered /ping, and is gone since
                cause = nothing_there(line, request.port, line.client.listening(deadline))
            if cause is None and answer.status == 503:
                cause = Cause("no_worker", f"TorchServe has no worker for the model: {_message(answer)[1]}")
            if cause is None:
                cause = Cause(
                    "timeout", f"No answer to a prediction in {deadline.budget_s:.0f} s; expected {EXPECTED}."
                )
            return seen.result(cause)
        if _wants_token(answer):
            return seen.result(TOKEN)
        if answer.status == 404:
            kind, message = _message(answer)
            if kind == "ModelNotFoundException":
                listed = f"; the management API lists: {', '.join(seen.models[:5])}" if seen.models else ""
                return seen.result(Cause("model_name", f"{message}{listed}."))
        if answer.status is not None and answer.status >= 500 and answer.error is None:
            log = line.log_tail()
            died = torchserve_cause(log)  # the canary was waiting for the worker, and got its death for an answer
            if died is not None:
                return seen.result(died)
            cause = prediction_cause(log)
            told = cause.sentence if cause else f"status {answer.status}: {_message(answer)[1]}"
            reason = cause.reason if cause else "handler_error"
            return seen.result(Cause(reason, f"The handler fails on a digit. {told}"))
        return seen.result(judge_canary(answer, asker.read(answer)), (asker,))


SERVER = TorchServe()
