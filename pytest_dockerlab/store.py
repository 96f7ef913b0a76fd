"""Where a run keeps its facts and its evidence: one folder, keyed by everything that decides the outcome."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import filelock
from pydantic import ValidationError

from pytest_dockerlab import __version__, paths
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.facts import from_json, to_json

Fact = TypeVar("Fact")


def run_key(*parts: str) -> str:
    """Return the key of a run: a hash over its inputs and this package's version."""
    return hashlib.sha256(json.dumps([__version__, *parts]).encode()).hexdigest()[:24]


class RunStore:
    """The folder of one run. A fact is on disk, whole, before `save` returns."""

    def __init__(self, folder: Path) -> None:
        """Make the folder where it is missing."""
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _not_ours(folder, error) from error

    @classmethod
    def open(cls, key: str) -> RunStore:
        """Return the store for a key, under the cache folder."""
        return cls(paths.cache_dir() / "runs" / key)

    def file(self, name: str) -> Path:
        """Return where an evidence file goes."""
        return self.folder / name

    def save(self, name: str, fact: object) -> None:
        """Write `NAME.json`, atomically and synced; raises `DiskFull` where there is no room."""
        write_atomic(self.folder / f"{name}.json", to_json(fact))

    def load(self, name: str, kind: type[Fact]) -> Fact | None:
        """Return a stored fact; `None` where there is none or a version of ours wrote it that knew other fields."""
        try:
            return from_json(kind, (self.folder / f"{name}.json").read_bytes())
        except FileNotFoundError:
            return None
        except (ValidationError, OSError):
            return None

    def forget(self, *names: str) -> None:
        """Remove facts, so that nobody takes an earlier run's for this one's."""
        for name in names:
            (self.folder / f"{name}.json").unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove all that is stored of this run."""
        for path in self.folder.iterdir():
            if path.name == ".lock":
                continue
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()

    @contextmanager
    def locked(self, wait_s: float, say: Callable[[str], None] = lambda _text: None) -> Iterator[None]:
        """Keep other runs of the same key out; raises `InfraError` after `wait_s`."""
        lock = filelock.FileLock(self.folder / ".lock")
        try:
            try:
                lock.acquire(blocking=False)
            except filelock.Timeout:
                say(f"Another run is grading the same submission; waiting for it, at most {wait_s:.0f} s.")
                lock.acquire(timeout=wait_s)
        except filelock.Timeout as error:
            raise InfraError(
                f"Another run is grading the same submission (lock: {lock.lock_file}).",
                fix="Wait until it ends, or end it.",
            ) from error
        except OSError as error:
            raise _not_ours(self.folder, error) from error
        try:
            yield
        finally:
            lock.release()


def _not_ours(folder: Path, error: OSError) -> InfraError:
    return InfraError(
        f"The cache folder {folder} can't be used ({error.strerror}).",
        fix="Set DOCKERLAB_CACHE to a folder that you may write to.",
    )


def write_atomic(path: Path, data: bytes) -> None:
    """Write a whole file or nothing."""
    with paths.our_file(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).chmod(0o644)
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
