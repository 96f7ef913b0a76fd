"""What lies in a container, read as the engine's streams: bounded, by a deadline, link-proof, never unpacked.

The engine's archive hands out links, FIFOs, devices and sparse zeros as they are, so a stream is read member by member
and only regular files of bounded size are kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

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


class _Stream:
    """The engine's chunks as the file that `tarfile` reads from, front to back."""

    def __init__(self, chunks: Iterator[bytes], deadline: Deadline) -> None:
        self._chunks = chunks
        self._deadline = deadline
        self._left = bytearray()

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        while len(self._left) < size:
            _in_time(self._deadline)
            piece = next(self._chunks, None)
            if piece is None:
                break
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


@dataclass(frozen=True)
class ContainerFiles:
    """The files of one container, running or not. Once the deadline has passed, reading raises `InfraError`."""

    engine: Engine
    container: str
    deadline: Deadline

    def changes(self) -> Iterator[tuple[str, str]]:
        """Yield `(path, "added" | "modified" | "deleted")` for what differs from the image; volumes are left out."""
        for count, (path, change) in enumerate(self.engine.changes(self.container)):
            if count % ROWS_A_LOOK == 0:
                _in_time(self.deadline)
            yield as_text(path), change

    def volumes(self) -> list[str]:
        """Return where its volumes are."""
        return self.engine.mounts(self.container)

    def listed(self, folder: str, most_bytes: int, most: int = MAX_LISTED) -> Iterator[tuple[str, int]]:
        """Yield the paths and sizes of the files and links under a folder, as far as the bounds allow."""
        with self._archive(folder) as archive:
            total = 0
            for count, member in enumerate(archive):
                if not member.isdir():
                    yield str(PurePosixPath(folder).parent / as_text(member.name).lstrip("/")), member.size
                total += member.size
                archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps each, for whoever asks again
                if count >= most or total > most_bytes:  # the stream holds the contents too
                    return

    def first(self, folder: str) -> str | None:
        """Return the name of the first file or link under a folder, or `None` where it is empty or not there."""
        with self._archive(folder) as archive:
            return next((member.name for member in archive if not member.isdir()), None)
        return None

    def retrieve(self, path: str, limit: int, target: Path | None = None, *, look_only: bool = False) -> Retrieved:
        """Copy one regular file; with no `target` only its hash is taken, `look_only` takes none.

        At most `limit` bytes are read: a sparse file of a terabyte says its size in the archive's header, and is
        refused before its first byte. A SavedModel is a folder: its regular files become one tar archive of ours.
        """
        with self._archive(path) as archive:
            member = archive.next()
            if member is None:
                return Retrieved("missing")
            if member.isdir():
                return Retrieved("folder") if look_only else _folder(archive, limit, target)
            if member.issym() or member.islnk():
                return Retrieved("link")
            if not member.isreg():
                return Retrieved("special")
            if member.size > limit:
                return Retrieved("too_big", member.size)
            if look_only:
                return Retrieved("file", member.size)
            return _file(archive, member, target)
        return Retrieved("missing")

    @contextlib.contextmanager
    def _archive(self, path: str) -> Iterator[tarfile.TarFile]:
        """Open a path as a tar archive, an empty one where there is none; what breaks off ends the block quietly.

        The connection is closed afterwards, so that nobody sends what nobody reads.
        """
        chunks = self.engine.read(self.container, path) or iter(())
        try:
            with contextlib.suppress(tarfile.TarError), _opened(chunks, self.deadline) as archive:
                yield archive
        finally:
            close = getattr(chunks, "close", None)
            if close is not None:
                close()


def _opened(chunks: Iterator[bytes], deadline: Deadline) -> tarfile.TarFile:
    """Open a stream; an archive without members where it is none."""
    try:
        return tarfile.open(fileobj=cast(Any, _Stream(chunks, deadline)), mode="r|")
    except tarfile.TarError:
        return tarfile.open(fileobj=io.BytesIO(tarfile.NUL * tarfile.RECORDSIZE), mode="r:")


def _in_time(deadline: Deadline) -> None:
    if deadline.passed:
        raise InfraError(
            f"Reading what a container wrote took more than {deadline.budget_s:.0f} s.",
            fix="See that the engine's machine is not overloaded (`dockerlab doctor`), then grade again.",
        )


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo, digest: Any) -> IO[bytes]:
    source = archive.extractfile(member)
    assert source is not None
    return cast(IO[bytes], _Hashed(source, digest))


def _file(archive: tarfile.TarFile, member: tarfile.TarInfo, target: Path | None) -> Retrieved:
    digest, done = hashlib.sha256(), 0
    source = _content(archive, member, digest)
    with target.open("wb") if target else io.BytesIO() as copy:
        while piece := source.read(PIECE):
            done += len(piece)
            if target:
                copy.write(piece)
    if done != member.size:
        raise InfraError("The engine stopped in the middle of a file.", fix="Grade again.")
    return Retrieved("file", member.size, digest.hexdigest())


def _folder(archive: tarfile.TarFile, limit: int, target: Path | None) -> Retrieved:
    """Copy the regular files of a folder into a tar archive of ours; links and the like are left behind."""
    digest, total, found = hashlib.sha256(), 0, False
    with target.open("wb") if target else io.BytesIO() as file, tarfile.open(fileobj=file, mode="w") as copy:
        for count, member in enumerate(archive):
            inside = PurePosixPath(*PurePosixPath(as_text(member.name)).parts[1:])
            if not member.isreg() or ".." in inside.parts or not inside.parts:
                continue
            total += member.size
            if total > limit or count > MAX_IN_FOLDER:
                return Retrieved("too_big", total)
            found = found or str(inside) == SAVED_MODEL
            digest.update(f"{inside}\0{member.size}\0".encode())
            plain = tarfile.TarInfo(f"model/{inside}")
            plain.size, plain.mode = member.size, 0o644
            copy.addfile(plain, _content(archive, member, digest))
    return Retrieved("file", total, digest.hexdigest(), is_folder=True) if found else Retrieved("folder")


def as_text(name: str) -> str:
    """Return a name as text that can be written anywhere: bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()
