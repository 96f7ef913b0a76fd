"""A log on disk that keeps its head and its tail, whatever is written to it."""

from __future__ import annotations

import re
from collections import deque
from pathlib import Path

TAIL_LINES = 40
RECENT_BYTES = 256 * 1024  # kept in memory: what `last_lines` can look back to
MAX_LINE = 2000  # characters of a line that `last_lines` shows
BREAK = re.compile(rb"[\r\n]+")


class CappedLog:
    """Keeps at most `limit` bytes: the first half as it came, then the newest half, a line between that says so."""

    def __init__(self, path: Path, limit: int) -> None:
        """Open `path` for writing."""
        self._file = path.open("wb")
        self._head = limit // 2
        self._tail_limit = limit - self._head
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._dropped = 0
        self.seen = 0
        self._closed = False
        self._recent = bytearray()

    @property
    def truncated(self) -> bool:
        """Whether something in the middle was dropped."""
        return self._dropped > 0

    def write(self, data: bytes) -> None:
        """Take what came next."""
        if self._closed:
            return
        self.seen += len(data)
        self._recent += data
        del self._recent[:-RECENT_BYTES]
        if self._head > 0:
            self._file.write(data[: self._head])
            self._file.flush()
            rest = data[self._head :]
            self._head -= min(self._head, len(data))
            data = rest
        if data:
            self._tail.append(data)
            self._tail_size += len(data)
            while self._tail_size > self._tail_limit:
                gone = self._tail.popleft()
                extra = self._tail_size - self._tail_limit
                if len(gone) > extra:
                    self._tail.appendleft(gone[extra:])
                    gone = gone[:extra]
                self._tail_size -= len(gone)
                self._dropped += len(gone)

    def close(self) -> None:
        """Write the tail. May be called twice."""
        if self._closed:
            return
        self._closed = True
        if self._dropped:
            self._file.write(f"\n[dockerlab: {self._dropped} bytes were left out here]\n".encode())
        for piece in self._tail:
            self._file.write(piece)
        self._file.close()

    def last_lines(self, count: int = TAIL_LINES) -> tuple[str, ...]:
        """Return the last lines that are not empty, as text; bytes that are not UTF-8 become U+FFFD."""
        lines = [line for line in BREAK.split(bytes(self._recent)) if line.strip()]
        return tuple(line[-MAX_LINE:].decode("utf-8", "replace") for line in lines[-count:])
