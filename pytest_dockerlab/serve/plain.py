"""Any HTTP server: the path, the method and the form of the answer come from the assignment or dockerlab.toml."""

from __future__ import annotations

from dataclasses import replace

from pytest_dockerlab.deadline import Deadline
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
from pytest_dockerlab.serve.causes import Cause, lines_of, python_cause
from pytest_dockerlab.serve.http import HttpAnswer

DEFAULT_PATH = "/predict"


class PlainHttp:
    """See the module."""

    name = "http"
    port = 8000

    def explain(self, log: str) -> Cause | None:
        """Return the exception of a Python server, where its log has one."""
        return python_cause(lines_of(log))

    def open(self, line: Line, options: ServeOptions, canary: bytes, deadline: Deadline) -> Readiness:
        """Ask for the canary until something answers, and not with 502 or 503, which mean "not yet"."""
        port, path = options.port or self.port, options.path or DEFAULT_PATH
        deadline = deadline.sooner(deadline.remaining_s)
        asker = Asker(
            note=f"{options.method} {path}, {options.send}",
            make=lambda png: digit_request(options, path, port, png),
            read=reader(options.form),
        )

        def settled(answer: HttpAnswer) -> bool:
            return answer.error not in SILENT and answer.status not in (502, 503)

        request = replace(asker.make(canary), retry_on=("refused", "reset", "empty", "502", "503"), id="canary")
        answer, cause = wait_for(line, request, deadline, settled, lambda: None)
        listening = line.client.listening(deadline)
        if cause is None:
            cause = localhost_only(port, listening)
        if cause is None:
            # What the server answered is a cause of its own; where it answered nothing, look at what listens.
            answered = answer.status is not None
            cause = judge_canary(answer, asker.read(answer)) if answered else nothing_there(line, port, listening)
        told = self.explain(line.log_tail()) if cause and cause.reason in ("exited", "bad_answer", "timeout") else None
        if told is not None and cause is not None:
            cause = Cause(told.reason, f"{cause.sentence} {told.sentence}")
        return Readiness(
            ready=cause is None,
            reason=cause.reason if cause else None,
            detail=cause.sentence if cause else None,
            seconds=round(deadline.budget_s - deadline.remaining_s, 3),
            listening=listening.shown(),
            answers={"canary": answer.text(2000) if answer.status is not None else f"{answer.error}: {answer.detail}"},
            askers=(asker,) if cause is None else (),
        )


SERVER = PlainHttp()
