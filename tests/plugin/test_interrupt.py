"""Ctrl-C in the middle: nothing is left on the engine, and what was seen is kept."""

from __future__ import annotations

import pytest

from pytest_dockerlab.engine.fake import FakeProgram


@pytest.fixture
def interrupted(lab):
    lab.engine.program("python train.py", FakeProgram(output=b"Epoch 1 loss: 2.3\n", runs_forever=True))
    lab.engine.fail("state", KeyboardInterrupt(), after=1)
    return lab.run()


def test_nothing_is_left(lab, interrupted):
    assert lab.engine.containers == {}
    assert lab.engine.owned() == []


def test_there_is_no_grade(lab, interrupted):
    assert interrupted.ret != 0
    if lab.results_file.exists():
        assert lab.results["score"] is None


def test_what_was_seen_is_kept(lab, interrupted):
    assert lab.results_file.exists()
    assert lab.outcomes["build"] == "passed"
    assert lab.outcomes["train"] == "infra"
    assert lab.results["facts"]["build"]["ok"] is True


def test_the_next_run_is_not_locked_out(lab, interrupted):
    lab.engine.program(
        "python train.py",
        FakeProgram(
            output=b"".join(b"loss: %.3f\n" % (2.3 * 0.8**step) for step in range(20)),
            files={"model.safetensors": (2).to_bytes(8, "little") + b"{}"},
        ),
    )
    assert lab.run().ret == 0
