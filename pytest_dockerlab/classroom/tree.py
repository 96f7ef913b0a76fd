"""Write a folder from hostile names and contents: nothing outside of it, nothing through a link, all of it bounded.

An archive and a git tree both come through here. Regular files are created new (`O_EXCL`, `O_NOFOLLOW`) in folders
that we made; links are made last, and only those that stay inside, so no write can pass through one.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.escape import one_line

MAX_NAME, MAX_DEPTH = 1024, 64  # bytes of a path, folders in it; Linux takes 4096 and an honest repository has far less
GIT_FOLDERS = frozenset({".git", "git~1"})  # what a git elsewhere would take for a repository of its own


@dataclass(frozen=True)
class Bounds:
    """What may be unpacked."""

    bytes: int = 1 << 30
    entries: int = 50_000
    # One line repeated packs to 1/1000, a model or a picture hardly at all; a bomb is made of the former.
    ratio: int = 200
    free_bytes: int = 32 << 20  # below this, the ratio does not matter


class Refused(UsageError):
    """The submission is no honest archive; nothing of it is graded."""

    def __init__(self, what: str, why: str) -> None:
        """Say what was refused, and why."""
        super().__init__(
            f"{one_line(what)} is refused: {one_line(why)}.",
            fix="Hand in a folder, or an archive of plain files without links out of it.",
        )


class SafeTree:
    """The folder that is being filled; `what` names the source in refusals."""

    def __init__(self, root: Path, what: str, bounds: Bounds) -> None:
        """Begin with an empty folder of ours."""
        self.root = root
        self.left_out: list[str] = []
        self._what = what
        self._bounds = bounds
        self._entries = 0
        self._bytes = 0
        self._folders: set[tuple[str, ...]] = {()}
        self._links: list[tuple[tuple[str, ...], str]] = []

    def refuse(self, why: str) -> Refused:
        """Return the error to raise."""
        return Refused(self._what, why)

    def parts(self, name: str) -> tuple[str, ...]:
        """Return the parts of a relative path; raises `Refused` for what leads out or can't be a name."""
        if name.startswith("/") or (len(name) > 1 and name[1] == ":") or "\\" in name:
            raise self.refuse(f"the entry {name[:200]!r} is no relative path")
        parts = tuple(part for part in name.split("/") if part not in ("", "."))
        if ".." in parts or "\0" in name:
            raise self.refuse(f"the entry {name[:200]!r} leads out of the folder")
        if len(os.fsencode(name)) > MAX_NAME or len(parts) > MAX_DEPTH:
            raise self.refuse(f"the entry {name[:60]!r}… has a path that is too long")
        return parts

    def _count(self) -> None:
        self._entries += 1
        if self._entries > self._bounds.entries:
            raise self.refuse(f"it has more than {self._bounds.entries} entries")

    def folder(self, parts: tuple[str, ...]) -> Path:
        """Make a folder and those above it."""
        for depth in range(1, len(parts) + 1):
            head = parts[:depth]
            if head in self._folders:
                continue
            self._count()
            try:
                self.root.joinpath(*head).mkdir()
            except FileExistsError:
                raise self.refuse(f"{'/'.join(head)[:200]!r} is a file and a folder") from None
            except OSError as error:
                raise self.refuse(f"{'/'.join(head)[:200]!r} can't be made ({error.strerror})") from None
            self._folders.add(head)
        return self.root.joinpath(*parts)

    def skips(self, parts: tuple[str, ...]) -> bool:
        """Whether an entry is no part of a submission: a repository's own folder, or nothing at all."""
        return not parts or any(part.lower() in GIT_FOLDERS for part in parts)

    def file(self, parts: tuple[str, ...], pieces: Iterable[bytes], *, executable: bool = False) -> None:
        """Write a file piece by piece; a second one of the same name is refused."""
        self._count()
        path = self.folder(parts[:-1]) / parts[-1]
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            handle = os.open(path, flags, 0o755 if executable else 0o644)
        except OSError as error:
            why = "stands twice" if isinstance(error, FileExistsError) else f"can't be made ({error.strerror})"
            raise self.refuse(f"{'/'.join(parts)[:200]!r} {why}") from None
        with os.fdopen(handle, "wb") as file:
            for piece in pieces:
                self._bytes += len(piece)
                if self._bytes > self._bounds.bytes:
                    raise self.refuse(f"it unpacks to more than {self._bounds.bytes >> 20} MiB")
                file.write(piece)

    def link(self, parts: tuple[str, ...], target: str) -> None:
        """Keep a symbolic link for later, if it stays inside; else it is left out."""
        self._count()
        inside = not target.startswith("/") and "\0" not in target and "\\" not in target and 0 < len(target) < MAX_NAME
        depth = len(parts) - 1
        for part in target.split("/") if inside else ():
            depth += -1 if part == ".." else part not in ("", ".")
            inside = inside and depth >= 0
        if inside:
            self._links.append((parts, target))
        else:
            self.left_out.append("/".join(parts))

    def finish(self) -> None:
        """Make the links: each may still lead through another, so where it ends is looked at too."""
        for parts, target in self._links:
            path = self.folder(parts[:-1]) / parts[-1]
            try:
                path.symlink_to(target)
            except OSError:
                raise self.refuse(f"{'/'.join(parts)[:200]!r} stands twice") from None
        root = self.root.resolve()
        for parts, _target in self._links:
            path = self.root.joinpath(*parts)
            try:
                outside = not path.resolve().is_relative_to(root)
            except (OSError, RuntimeError):  # a loop
                outside = True
            if outside:
                path.unlink()
                self.left_out.append("/".join(parts))
