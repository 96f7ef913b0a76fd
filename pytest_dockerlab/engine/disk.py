"""The engine's disk, where it is this machine's: what is free on it, and what it holds at most of one submission."""

from __future__ import annotations

import os
from pathlib import Path

from pytest_dockerlab.assignment import GiB
from pytest_dockerlab.engine.base import EngineInfo

MIN_FREE = GiB
# An honest lab that unpacks MNIST into single pictures makes 70,000.
# A name and an inode cost room that no size counts: a container made 1.5 million empty files in 30 s, which are 0 bytes
# to the engine, and whose list took it 20 s and 1.2 GB of memory (26.1.5).
MAX_FILES = 1_000_000


def data_root(info: EngineInfo) -> Path | None:
    """Return the engine's data folder, where it is on this machine."""
    root = Path(str(info.raw.get("DockerRootDir") or ""))
    same = info.local and info.raw.get("KernelVersion") == os.uname().release
    return root if same and root.is_absolute() and root.is_dir() else None


def free_bytes(folder: Path) -> int | None:
    """Return what anybody may still write, `None` where that can't be told."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return None
    return found.f_bavail * found.f_frsize


class NewFiles:
    """Counts the files that appear on the engine's disk, whoever makes them; those that go meanwhile hide as many.

    Nothing is counted on another machine's disk, and where files have no bound (btrfs).
    """

    def __init__(self, root: Path | None) -> None:
        """Begin to count; `root` is a folder on that disk, `None` where it is no disk of this machine."""
        self._root = root
        self.restart()

    def restart(self) -> None:
        """Begin anew."""
        self._free = self._free_now()

    def count(self) -> int:
        """Return how many more there are than at the start; 0 where that can't be told."""
        free = self._free_now()
        return 0 if self._free is None or free is None else max(0, self._free - free)

    def _free_now(self) -> int | None:
        try:
            found = os.statvfs(self._root) if self._root is not None else None
        except OSError:
            return None
        return found.f_ffree if found is not None and found.f_files else None  # 0: files have no bound there (btrfs)
