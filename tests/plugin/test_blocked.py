"""What an earlier failure prevents is blocked: not failed, not run, and named after its cause."""

from __future__ import annotations

from pytest_dockerlab.engine.fake import FakeProgram


def test_checks_behind_a_failure_are_blocked(lab):
    lab.write("Dockerfile", "FROM python:3.11-slim\nCOPY trian.py .\n")
    result = lab.run("-v")
    assert result.ret == 1
    assert lab.outcomes == {
        "dockerfile": "passed",
        "build": "failed",
        "train": "blocked",
        "loss": "blocked",
        "artifact": "blocked",
    }
    assert lab.results["score"] == 10
    assert lab.results["graded"] is True
    result.stdout.fnmatch_lines(["*test_train BLOCKED*"])
    assert {check["blocked_by"] for check in lab.results["checks"][2:]} == {"build"}


def test_blocked_checks_ask_nothing_of_the_engine(lab):
    lab.write("Dockerfile", "FROM python:3.11-slim\nCOPY trian.py .\n")
    lab.run()
    assert "create" not in lab.engine.calls


def test_a_failed_training_still_shows_its_losses(lab):
    output = b"Epoch 1 loss: 2.3\nTraceback (most recent call last):\nValueError: bad shape\n"
    lab.engine.program("python train.py", FakeProgram(output=output, exit_code=1))
    result = lab.run()
    assert result.ret == 1
    assert lab.outcomes["train"] == "failed"
    assert lab.outcomes["loss"] == "blocked"
    assert "ValueError: bad shape" in str(lab.results["checks"])
    assert lab.results["facts"]["loss"]["points"]
    assert "ValueError: bad shape" in result.stdout.str()


def test_a_flat_loss_does_not_block_the_artifact(lab):
    from pytest_dockerlab.engine.fake import FakeProgram

    flat = b"".join(b"Epoch %d loss: 2.3026\n" % step for step in range(20))
    lab.engine.program("python train.py", FakeProgram(output=flat, files={"model.pt": b"PK\x03\x04"}))
    lab.run()
    assert lab.outcomes["loss"] == "failed"
    assert lab.outcomes["artifact"] == "failed"  # cut off, and judged all the same


def test_exit_status_1_and_no_traceback(lab):
    lab.engine.program("python train.py", FakeProgram(oom=True, output=b"Epoch 1 loss: 2.3\n"))
    result = lab.run()
    assert result.ret == 1
    assert "ran out of memory" in result.stdout.str()
    assert "Traceback" not in result.stdout.str()
    assert "CheckFailed" not in result.stdout.str()
