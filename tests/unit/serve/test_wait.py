"""Waiting for a server: what is told at the deadline is what the server showed, not how the last try was cut short."""

from __future__ import annotations

import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.serve.base import Line, wait_for
from pytest_dockerlab.serve.http import HttpAnswer, HttpRequest, Listening

NOT_READY = HttpAnswer(status=400)
SLOW = HttpAnswer(error="timeout")
NOT_SENT = HttpAnswer(error="not_sent")
REFUSED = HttpAnswer(error="refused")
READY = HttpAnswer(status=200)


class FakeClient:
    """Answers as it is told to; each turn takes a second of its own clock."""

    def __init__(self, answers):
        self.answers = list(answers)
        self.now = 0.0

    def send(self, requests, deadline, *, concurrency=1):
        self.now += 1
        return [self.answers.pop(0)]

    def listening(self, deadline, ports=()):
        return Listening()


@pytest.mark.parametrize(
    ("answers", "last"),
    [
        ((NOT_READY, SLOW), NOT_READY),
        ((NOT_READY, NOT_SENT), NOT_READY),
        ((SLOW, NOT_SENT), SLOW),
        ((NOT_READY, REFUSED), REFUSED),
        ((REFUSED, NOT_READY), NOT_READY),
        ((SLOW, SLOW), SLOW),
        ((NOT_SENT,), NOT_SENT),
        ((SLOW, READY), READY),
        ((NOT_READY, READY), READY),
    ],
    ids=lambda value: "-".join(one.outcome for one in value) if isinstance(value, tuple) else "",
)
def test_what_was_last_seen_of_the_server_is_told(answers, last):
    client = FakeClient(answers)
    deadline = Deadline.after(len(answers), clock=lambda: client.now)
    answer, cause = wait_for(Line(client), HttpRequest(), deadline, lambda one: one.ok, lambda: None)
    assert (answer, cause) == (last, None)
    assert client.answers == []
