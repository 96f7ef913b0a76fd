"""Container output in arbitrary pieces becomes lines, in bounded memory.

A carriage return ends a line as a newline does, so every frame of a progress bar is a line of its own; so does a run
of backspaces, which Keras uses to redraw. Lines stay bytes: what a student's program prints need not be UTF-8.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_LINE = 16 * 1024  # a longer line is read in pieces of at most this size
SLICE = 256 * 1024  # how much is split at a time, so that one huge `feed` stays cheap

_BACKSPACES = re.compile(rb"\x08+")
# CSI (colours, cursor moves), OSC (titles, links) with a bounded body, and the two-byte escapes.
_TERMINAL = re.compile(rb"\x1b(?:\[[0-?]{0,32}[ -/]{0,4}[@-~]|\][^\x07\x1b\n]{0,512}(?:\x07|\x1b\\)|[@-Z\\^_])")


def plain(text: bytes) -> bytes:
    """Return one line or many without terminal codes."""
    return _TERMINAL.sub(b"", text) if b"\x1b" in text else text


class LineSplitter:
    """Splits what is fed to it; keeps at most one unfinished line, of at most `MAX_LINE` bytes."""

    def __init__(self) -> None:
        """Start with nothing pending."""
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[list[bytes]]:
        """Yield the lines that `data` completes, in batches, without their ends."""
        for start in range(0, len(data), SLICE):
            piece = self._rest + data[start : start + SLICE]
            piece = piece.replace(b"\r", b"\n")
            if b"\x08" in piece:
                piece = _BACKSPACES.sub(b"\n", piece)
            lines = piece.split(b"\n")
            rest = lines.pop()
            if len(rest) > MAX_LINE:
                pieces = list(_cut(rest))
                rest = pieces.pop()
                lines.extend(pieces)
            self._rest = rest
            if len(piece) > MAX_LINE and max(map(len, lines), default=0) > MAX_LINE:
                lines = [part for line in lines for part in _cut(line)]
            if lines:
                yield lines

    def finish(self) -> list[bytes]:
        """Return the last line where it had no end."""
        rest, self._rest = self._rest, b""
        return [rest] if rest else []


def _cut(line: bytes) -> Iterator[bytes]:
    """Yield a long line in pieces, cut at white space where there is some, so that no number is split."""
    start = 0
    while len(line) - start > MAX_LINE:
        end = line.rfind(b" ", start + MAX_LINE // 2, start + MAX_LINE)
        end = end if end > 0 else start + MAX_LINE
        yield line[start:end]
        start = end
    yield line[start:]
