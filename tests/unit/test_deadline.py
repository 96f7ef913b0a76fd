"""One clock for every wait."""

from __future__ import annotations

from pytest_dockerlab.deadline import Deadline


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_remaining():
    clock = Clock()
    deadline = Deadline.after(10, clock)
    assert (deadline.remaining_s, deadline.passed, deadline.budget_s) == (10, False, 10)
    clock.now += 11
    assert (deadline.remaining_s, deadline.passed) == (0, True)


def test_sooner_is_never_later():
    clock = Clock()
    deadline = Deadline.after(10, clock)
    assert deadline.sooner(5).remaining_s == 5
    assert deadline.sooner(50).remaining_s == 10
    clock.now += 8
    assert deadline.sooner(5).remaining_s == 2


def test_poll_has_a_last_turn():
    assert len(list(Deadline.after(0).poll(1))) == 1
    assert 2 <= len(list(Deadline.after(0.05).poll(0.02))) <= 5
