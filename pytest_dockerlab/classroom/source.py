"""What is graded: a folder, a commit of a git repository, a zip or a tar. Each ends as a folder on disk."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.classroom import archive, gitrepo
from pytest_dockerlab.classroom.tree import Bounds
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.escape import file_name

SUFFIXES = (".tar.gz", ".tar.bz2", ".tar.xz", ".tgz", ".tbz2", ".txz", ".tar", ".zip")


@dataclass(frozen=True)
class Source:
    """A submission on disk. `commit` is set where the folder is exactly what that commit holds."""

    folder: Path
    commit: str | None = None
    left_out: tuple[str, ...] = ()  # links out of it, submodules


def bounds_of(limits: Limits) -> Bounds:
    """Return what may be unpacked: what an assignment takes as a build context, and as much again beside it."""
    return Bounds(bytes=2 * int(limits.context), entries=2 * limits.context_files)


@contextmanager
def opened(path: Path, ref: str | None, limits: Limits) -> Iterator[Source]:
    """Give the submission as a folder; what was unpacked is removed afterwards. Raises `UsageError`."""
    if not path.exists():
        raise UsageError(f"There is no {path}.", fix="Give a folder, a git repository, a zip or a tar.")
    bounds = bounds_of(limits)
    if path.is_dir() and ref is None:
        yield Source(path.resolve())
        return
    if not path.is_dir():
        if ref is not None:
            raise UsageError(f"{path} is a file: --ref {ref} is for git repositories.")
        if not path.is_file() or not archive.is_archive(path):
            raise UsageError(f"{path} is neither a folder nor a zip nor a tar (gz, bz2, xz).")
    with tempfile.TemporaryDirectory(prefix="dockerlab-submission-") as own:
        folder = Path(own) / _name(path)
        folder.mkdir()
        if ref is not None:
            commit, left_out = gitrepo.export(path.resolve(), ref, folder, bounds)
            yield Source(folder.resolve(), commit, tuple(left_out[:20]))
        else:
            inner, left_out = archive.unpack(path, folder, bounds)
            if inner != folder:  # the archive's own name tells whose it is, not the folder inside
                folder = Path(own) / "unpacked" / folder.name
                folder.parent.mkdir()
                inner.rename(folder)
            yield Source(folder.resolve(), None, tuple(left_out[:20]))


def _name(path: Path) -> str:
    """Return what the submission is called: the file's name without its suffix, the repository's folder."""
    name = path.resolve().name
    if path.is_file():
        name = next((name[: -len(suffix)] for suffix in SUFFIXES if name.lower().endswith(suffix)), name)
    return file_name(name.removesuffix(".git")) or "submission"
