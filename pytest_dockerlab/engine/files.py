"""What lies in a container, read as the engine's streams: bounded, by a deadline, link-proof, never unpacked.

The engine's archive hands out links, FIFOs, devices and sparse zeros as they are, so a stream is read member by member
and only regular files of bounded size are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

from pytest_dockerlab import paths
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import Engine
from pytest_dockerlab.errors import InfraError

MAX_LISTED = 20_000  # files of a folder that are looked at
MAX_IN_FOLDER = 1000  # files of a SavedModel
SAVED_MODEL = "saved_model.pb"
PIECE = 1 << 18
ROWS_A_LOOK = 1000  # of a container's changes, between two looks at the clock


@dataclass(frozen=True)
class Retrieved:
    """One member of the engine's archive. `state` is "file", "link", "special", "folder", "too_big" or "missing"."""

    state: str
    bytes: int = 0
    sha256: str | None = None
    is_folder: bool = False  # a SavedModel, as a tar archive of ours


class _Spent(Exception):
    """As much was read of a container's files as may be: a bound that the run met, no fault of ours."""


class _Stream:
    """The engine's chunks as the file that `tarfile` reads from, front to back."""

    def __init__(self, chunks: Iterator[bytes], files: ContainerFiles) -> None:
        self._chunks = chunks
        self._files = files
        self._left = bytearray()

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        while len(self._left) < size:
            piece = next(self._chunks, None)
            if piece is None:
                break
            self._files.count(len(piece))
            self._left += piece
        taken = bytes(self._left[:size])
        del self._left[:size]
        return taken


class _Hashed:
    """A file whose bytes are hashed as they are read."""

    def __init__(self, source: IO[bytes], digest: Any) -> None:
        self._source = source
        self._digest = digest

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        data = self._source.read(size)
        self._digest.update(data)
        return data


@dataclass
class ContainerFiles:
    """The files of one container, running or not.

    All archives together are read for `most_bytes`, the holes of sparse files included: what lies beyond is "too_big"
    or left out, and `cut` says so. Once the deadline has passed, reading raises `InfraError`.
    """

    engine: Engine
    container: str
    deadline: Deadline
    most_bytes: int
    cut: bool = field(default=False, init=False)
    _taken: int = field(default=0, init=False)

    def count(self, size: int) -> None:
        """Note that so many bytes were read; raises `InfraError` where that took too long."""
        self._in_time()
        self._taken += size
        if self._taken > self.most_bytes:
            self.cut = True
            raise _Spent

    def changes(self) -> Iterator[tuple[str, str]]:
        """Yield `(path, "added" | "modified" | "deleted")` for what differs from the image; volumes are left out."""
        for count, (path, change) in enumerate(self.engine.changes(self.container)):
            if count % ROWS_A_LOOK == 0:
                self._in_time()
            yield as_text(path), change

    def volumes(self) -> list[str]:
        """Return where its volumes are."""
        return self.engine.mounts(self.container)

    def listed(self, folder: str, most: int = MAX_LISTED, *, folders: bool = False) -> Iterator[tuple[str, int]]:
        """Yield the paths and sizes of the files and links under a folder; it ends after `most` of what is there."""
        with self._archive(folder) as members:
            for count, member in enumerate(members):
                if count > most:
                    self.cut = True
                    return
                if folders or not member.isdir():
                    yield str(PurePosixPath(folder).parent / as_text(member.name).lstrip("/")), member.size

    def any_in(self, folder: str) -> bool:
        """Whether there is a file or a link under a folder; many folders count as one."""
        with self._archive(folder) as members:
            return any(not member.isdir() or count > MAX_LISTED for count, member in enumerate(members))
        return True

    def retrieve(self, path: str, limit: int, target: Path | None = None, *, look_only: bool = False) -> Retrieved:
        """Copy one regular file; with no `target` only its hash is taken, `look_only` takes none.

        At most `limit` bytes are read: a sparse file of a terabyte says its size in the archive's header, and is
        refused before its first byte. A SavedModel is a folder: its regular files become one tar archive of ours.
        """
        with self._archive(path) as members:
            member = next(members, None)
            if member is None:
                return Retrieved("too_big" if self.cut else "missing")
            if member.isdir():
                return Retrieved("folder") if look_only else _folder(members, limit, target)
            if member.issym() or member.islnk():
                return Retrieved("link")
            if not member.isreg():
                return Retrieved("special")
            if member.size > limit:
                return Retrieved("too_big", member.size)
            if look_only:
                return Retrieved("file", member.size)
            return _file(members, member, target)
        return Retrieved("too_big")

    @contextlib.contextmanager
    def _archive(self, path: str) -> Iterator[_Members]:
        """Open a path as the members of a tar archive, of an empty one where there is none; `_Spent` ends the block.

        The connection is closed afterwards, so that nobody sends what nobody reads.
        """
        chunks = self.engine.read(self.container, path) or iter(())
        try:
            with contextlib.suppress(_Spent), _opened(cast(Any, _Stream(chunks, self))) as archive:
                yield _Members(archive)
        except tarfile.TarError as error:
            raise InfraError(f"The engine stopped in an archive's middle ({error}).", fix="Grade again.") from error
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()

    def _in_time(self) -> None:
        if self.deadline.passed:
            raise InfraError(
                f"Reading what a container wrote took more than {self.deadline.budget_s:.0f} s.",
                fix="See that the engine's machine is not overloaded (`dockerlab doctor`), then grade again.",
            )


def _opened(stream: IO[bytes]) -> tarfile.TarFile:
    """Open a stream as an archive, an empty one where it is none."""
    try:
        return tarfile.open(fileobj=stream, mode="r|")
    except (tarfile.TarError, _Spent):
        return tarfile.open(fileobj=io.BytesIO(tarfile.NUL * tarfile.RECORDSIZE), mode="r:")


class _Members:
    """The members of a tar archive, one by one."""

    def __init__(self, archive: tarfile.TarFile) -> None:
        self._archive = archive

    def __iter__(self) -> Iterator[tarfile.TarInfo]:
        return self

    def __next__(self) -> tarfile.TarInfo:
        member = self._archive.next()
        if member is None:
            raise StopIteration
        # tarfile keeps each for whoever asks again: 43 MB for 100,000 of them.
        self._archive.members.clear()  # type: ignore[attr-defined]
        return member

    def content(self, member: tarfile.TarInfo, digest: Any) -> IO[bytes]:
        """Return what is in the member that came last; it is hashed as it is read."""
        source = self._archive.extractfile(member)
        assert source is not None
        return cast(IO[bytes], _Hashed(source, digest))


def _file(members: _Members, member: tarfile.TarInfo, target: Path | None) -> Retrieved:
    digest = hashlib.sha256()
    source = members.content(member, digest)
    with _copy(target) as copy:
        shutil.copyfileobj(source, copy, PIECE)
    return Retrieved("file", member.size, digest.hexdigest())


def _folder(members: _Members, limit: int, target: Path | None) -> Retrieved:
    """Copy the regular files of a folder into a tar archive of ours; links and the like are left behind."""
    digest, total, found = hashlib.sha256(), 0, False
    with _copy(target) as file, tarfile.open(fileobj=file, mode="w") as copy:
        for count, member in enumerate(members):
            inside = PurePosixPath(*PurePosixPath(as_text(member.name)).parts[1:])
            total += member.size
            if total > limit or count > MAX_IN_FOLDER:
                return Retrieved("too_big", total)
            if not member.isreg() or ".." in inside.parts or not inside.parts:
                continue
            found = found or str(inside) == SAVED_MODEL
            digest.update(f"{inside}\0{member.size}\0".encode())
            plain = tarfile.TarInfo(f"model/{inside}")
            plain.size, plain.mode = member.size, 0o644
            copy.addfile(plain, members.content(member, digest))
    return Retrieved("file", total, digest.hexdigest(), is_folder=True) if found else Retrieved("folder")


@contextlib.contextmanager
def _copy(target: Path | None) -> Iterator[IO[bytes]]:
    """Open a file of ours to copy into; what is copied nowhere is only hashed."""
    target = target or Path(os.devnull)
    with paths.our_file(target), target.open("wb") as file:
        yield file


def as_text(name: str) -> str:
    """Return a name as text that can be written anywhere: bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()
