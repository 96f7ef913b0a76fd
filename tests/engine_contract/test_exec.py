"""A command of ours in a container of ours, with bytes on its stdin."""

from __future__ import annotations

import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.fake import FakeProgram
from pytest_dockerlab.errors import InfraError

MIB = 1 << 20


@pytest.fixture
def container(rig):
    return rig.started("sleep 300", FakeProgram(runs_forever=True))


def sh(rig, container, script, does=None, stdin=b"", within_s=60.0, max_output=MIB):
    if does is not None:
        rig.says(script, does)
    return rig.engine.exec(container, ("sh", "-c", script), stdin, Deadline.after(within_s), max_output)


def test_output_and_exit_code(rig, container):
    result = sh(rig, container, "echo hello; exit 4", FakeProgram(output=b"hello\n", exit_code=4))
    assert (result.stdout, result.exit_code, result.timed_out, result.truncated) == (b"hello\n", 4, False, False)


def test_stdin_arrives_whole(rig, container):
    # As our client reads it: a length, then so many bytes. A half-closed connection is nothing that every engine keeps.
    data = bytes(range(256)) * 4096
    script = "head -c 1048576 | md5sum"
    import hashlib

    told = hashlib.md5(data, usedforsecurity=False).hexdigest().encode() + b"  -\n"
    assert sh(rig, container, script, FakeProgram(reply=lambda _stdin: told), stdin=data).stdout == told


def test_stdin_comes_back(rig, container):
    data = b"x" * (2 * MIB)
    result = sh(rig, container, "head -c 2097152", FakeProgram(reply=bytes), stdin=data, max_output=4 * MIB)
    assert result.stdout == data
    assert result.exit_code == 0


def test_stdin_in_pieces(rig, container):
    pieces = (b"x" * size for size in (3 * MIB, 0, 1, 100_000))
    data = b"x" * (3 * MIB + 100_001)
    script = f"head -c {len(data)}"
    result = sh(rig, container, script, FakeProgram(reply=bytes), stdin=pieces, max_output=4 * MIB)
    assert result.stdout == data


def test_stderr_is_apart(rig, container):
    if rig.fake:
        pytest.skip("the fake's programs have one output")
    result = sh(rig, container, "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == (b"out\n", b"err\n")


def test_more_output_than_allowed(rig, container):
    result = sh(rig, container, "yes | head -c 1000000", FakeProgram(output=b"y\n" * 500_000), max_output=100_000)
    assert result.truncated
    assert len(result.stdout) < 300_000


def test_the_deadline(rig, container, seconds):
    result = sh(rig, container, "echo first; sleep 300", FakeProgram(output=[(0, b"first\n"), (300, b"")]), within_s=2)
    assert result.timed_out
    assert result.exit_code is None
    assert result.stdout == b"first\n"
    assert seconds() < 40


def test_a_command_that_is_not_there(rig, container):
    result = rig.engine.exec(container, ("no-such-program",), b"", Deadline.after(60), MIB)
    assert result.exit_code in (126, 127)


def test_a_container_that_does_not_run(rig):
    container = rig.ended("true")
    with pytest.raises(InfraError):
        rig.engine.exec(container, ("true",), b"", Deadline.after(60), MIB)
