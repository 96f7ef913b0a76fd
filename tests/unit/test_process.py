"""A child process under a deadline: its lines in order, its whole group ended."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import process
from pytest_dockerlab.engine.process import run_process


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(process, "GRACE_S", 0.5)


def python(code):
    return [sys.executable, "-c", code]


def gone(pid):
    for _ in Deadline.after(10).poll(0.05):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
    return False


def test_lines_come_in_order():
    lines = []
    end = run_process(["sh", "-c", "echo one; echo two >&2; printf three; exit 4"], Deadline.after(30), lines.append)
    assert lines == [b"one\n", b"two\n", b"three"]
    assert (end.exit_code, end.timed_out) == (4, False)


def test_stdin_and_environment(tmp_path):
    source = tmp_path / "in"
    source.write_bytes(b"hello\n")
    lines = []
    run_process(
        ["sh", "-c", "cat; echo $X"], Deadline.after(30), lines.append, source, {"X": "1", "PATH": os.environ["PATH"]}
    )
    assert lines == [b"hello\n", b"1\n"]


def test_the_deadline_ends_the_whole_group():
    lines = []
    started = time.monotonic()
    end = run_process(["sh", "-c", "sleep 300 & echo $!; echo $$; wait"], Deadline.after(1), lines.append)
    assert end.timed_out
    assert time.monotonic() - started < 15
    assert all(gone(int(pid)) for pid in lines)


def test_a_child_that_ignores_sigterm_is_killed():
    lines = []
    code = (
        "import signal, time, os\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print(os.getpid(), flush=True)\ntime.sleep(300)"
    )
    end = run_process(python(code), Deadline.after(2), lines.append)
    assert end.timed_out
    assert gone(int(lines[0]))


def test_an_exception_ends_it_too():
    pids = []

    def interrupted(line):
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_process(["sh", "-c", "echo $$; sleep 300"], Deadline.after(60), interrupted)
    assert gone(pids[0])


def test_a_closed_output_is_no_end():
    """A child that closes its output and lives on is ended at the deadline."""
    started = time.monotonic()
    end = run_process(["sh", "-c", "exec >&- 2>&-; sleep 300"], Deadline.after(1), lambda _line: None)
    assert end.timed_out
    assert time.monotonic() - started < 15


def test_a_grandchild_that_holds_the_output_does_not_hold_us():
    started = time.monotonic()
    end = run_process(["sh", "-c", "sleep 300 & echo done"], Deadline.after(3), lambda _line: None)
    assert time.monotonic() - started < 15
    assert end.exit_code == 0 or end.timed_out


def test_a_flood_is_slowed_down_not_kept():
    sizes = []
    end = run_process(
        python("print('x' * 5_000_000, end='')"), Deadline.after(30), lambda line: sizes.append(len(line))
    )
    assert sum(sizes) == 5_000_000
    assert max(sizes) <= process.MAX_LINE
    assert end.exit_code == 0


def test_a_program_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        run_process(["/no/such/program"], Deadline.after(1), lambda _line: None)
