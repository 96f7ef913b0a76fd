"""The checks of the second half: a server that starts from the model, and digits that come back right."""

from __future__ import annotations

from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.checks.base import Judgement, failed, passed
from pytest_dockerlab.checks.training import build_error
from pytest_dockerlab.facts import Predictions, Serving


def serve(fact: Serving) -> Judgement:
    """The server answered a prediction request in a shape that can be read."""
    if fact.ready:
        return passed(
            f"{fact.server} ({fact.layout}) answered at {fact.endpoint} after {fact.ready_s:.1f} s.",
            fact.log,
            "serve.json",
        )
    build = fact.image_build
    if build is not None and not build.ok:
        return failed(f"The serving image: {build_error(build)}", None, build.log)
    return failed(fact.detail or f"The server did not get ready ({fact.reason}).", fact.fix, fact.log, "serve.json")


def predict(fact: Predictions, assignment: Assignment) -> Judgement:
    """At least `min_correct` of the digits come back right, and nothing about the answers says they were made up."""
    table = assignment.spec.predict
    sentence = f"{fact.correct} of {len(fact.items)} digits are right ({table.min_correct} are needed)."
    if fact.correct >= table.min_correct:
        return passed(sentence, "predict.json")
    return failed(sentence, None, "predict.json", fact.log)
