"""A log on disk is bounded, whatever is written to it."""

from __future__ import annotations

import pytest

from pytest_dockerlab.engine.logfile import MAX_LINE, RECENT_BYTES, CappedLog


def written(path, limit, *pieces):
    log = CappedLog(path, limit)
    for piece in pieces:
        log.write(piece)
    log.close()
    return log, path.read_bytes()


def test_a_short_log_is_whole(tmp_path):
    log, data = written(tmp_path / "l", 1000, b"a\n", b"b\n")
    assert data == b"a\nb\n"
    assert not log.truncated
    assert log.seen == 4


@pytest.mark.parametrize("size", [1, 7, 100, 999, 5000])
def test_head_and_tail_stay(tmp_path, size):
    whole = b"".join(b"%06d\n" % number for number in range(10_000))
    pieces = [whole[start : start + size] for start in range(0, len(whole), size)]
    log, data = written(tmp_path / "l", 1000, *pieces)
    assert log.truncated
    assert log.seen == len(whole)
    assert data.startswith(whole[:500])
    assert data.endswith(whole[-500:])
    assert b"69000 bytes were left out here" in data
    assert len(data) < 1100


def test_exactly_the_limit(tmp_path):
    log, data = written(tmp_path / "l", 1000, b"x" * 1000)
    assert len(data) == 1000
    assert not log.truncated


def test_a_gigabyte_stays_small(tmp_path):
    log = CappedLog(tmp_path / "l", 100_000)
    piece = b"y\n" * 500_000
    for _ in range(200):
        log.write(piece)
    log.close()
    assert log.seen == 200_000_000
    assert (tmp_path / "l").stat().st_size < 110_000


def test_it_is_on_disk_while_it_runs(tmp_path):
    log = CappedLog(tmp_path / "l", 1000)
    log.write(b"first\n")
    assert (tmp_path / "l").read_bytes() == b"first\n"
    log.close()


def test_the_last_lines(tmp_path):
    log, _ = written(tmp_path / "l", 1000, b"a\r\rb 10%\rb 100%\n\n\xff\xfe\nlast")
    assert log.last_lines() == ("a", "b 10%", "b 100%", "\ufffd\ufffd", "last")
    assert log.last_lines(1) == ("last",)


def test_a_line_without_an_end_is_cut(tmp_path):
    log, _ = written(tmp_path / "l", 1000, b"x" * (RECENT_BYTES * 2))
    [line] = log.last_lines()
    assert len(line) == MAX_LINE


def test_closed_twice_and_written_after(tmp_path):
    log, data = written(tmp_path / "l", 1000, b"a")
    log.close()
    log.write(b"late")
    assert (tmp_path / "l").read_bytes() == data == b"a"


def test_nothing(tmp_path):
    log, data = written(tmp_path / "l", 1000)
    assert data == b""
    assert log.last_lines() == ()
