"""The files of fake images and containers, and how they travel as tar archives."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

PIECE = 1 << 16
TYPES = {
    "file": tarfile.REGTYPE,
    "folder": tarfile.DIRTYPE,
    "link": tarfile.SYMTYPE,
    "hardlink": tarfile.LNKTYPE,
    "fifo": tarfile.FIFOTYPE,
    "device": tarfile.CHRTYPE,
}


@dataclass(frozen=True)
class FakeFile:
    """One entry of a file system. A `size` beyond the data is a sparse file: zeros that take no memory."""

    data: bytes = b""
    kind: str = "file"
    target: str = ""  # of a link
    size: int | None = None

    @property
    def bytes(self) -> int:
        """The size that the entry says it has."""
        return self.size if self.size is not None else len(self.data)


Files = dict[str, FakeFile]


def absolute(path: str, workdir: str = "/") -> str:
    """Return a normal absolute path; a relative one starts at the WORKDIR."""
    parts: list[str] = []
    for part in PurePosixPath(workdir, path).parts:
        if part == "..":
            parts = parts[:-1]
        elif part not in ("/", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def as_files(files: Mapping[str, FakeFile | bytes], workdir: str = "/") -> Files:
    """Return files under absolute names."""
    return {
        absolute(name, workdir): entry if isinstance(entry, FakeFile) else FakeFile(entry)
        for name, entry in files.items()
    }


def parents(path: str) -> list[str]:
    """Return the folders above a path, the outermost first, without `/`."""
    return [str(parent) for parent in reversed(PurePosixPath(path).parents) if str(parent) != "/"]


def folders(files: Iterable[str]) -> set[str]:
    """Return every folder that has one of these paths in it."""
    return {folder for path in files for folder in parents(path)}


def under(files: Mapping[str, FakeFile], folder: str) -> list[str]:
    """Return the paths below a folder, sorted."""
    prefix = folder.rstrip("/") + "/"
    return sorted(path for path in files if path.startswith(prefix))


def to_tar(files: Mapping[str, FakeFile], path: str) -> Iterator[bytes] | None:
    """Stream a path as the engine does: named from its last part on, links as links; `None` where nothing is there."""
    inside = under(files, path)
    entry = files.get(path)
    if entry is None and not inside and path != "/":
        return None
    base = PurePosixPath(path).name
    if entry is None or entry.kind == "folder":
        names = {folder for folder in folders(inside) if folder.startswith(path.rstrip("/") + "/")} | set(inside)
        listed = [(base, FakeFile(kind="folder"))]
        for name in sorted(names):
            relative = str(PurePosixPath(base, PurePosixPath(name).relative_to(path)))
            listed.append((relative, files.get(name, FakeFile(kind="folder"))))
    else:
        listed = [(base, entry)]
    return _stream(listed)


def _stream(entries: list[tuple[str, FakeFile]]) -> Iterator[bytes]:
    for name, entry in entries:
        member = tarfile.TarInfo(name or "/")
        member.type = TYPES[entry.kind]
        member.linkname = entry.target
        member.mode = 0o755 if entry.kind == "folder" else 0o644
        member.size = entry.bytes if entry.kind == "file" else 0
        if entry.kind == "device":
            member.devmajor, member.devminor = 1, 8
        yield member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
        if entry.kind != "file":
            continue
        left = member.size
        for start in range(0, len(entry.data), PIECE):
            piece = entry.data[start : start + min(PIECE, left)]
            left -= len(piece)
            yield piece
        while left > 0:
            yield bytes(min(PIECE, left))
            left -= min(PIECE, left)
        if member.size % tarfile.BLOCKSIZE:
            yield bytes(tarfile.BLOCKSIZE - member.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def from_tar(archive: bytes, folder: str = "/") -> Files:
    """Return the entries of an archive, unpacked into a folder."""
    files: Files = {}
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = absolute(member.name, folder)
            if member.isdir():
                files[path] = FakeFile(kind="folder")
            elif member.issym():
                files[path] = FakeFile(kind="link", target=member.linkname)
            elif member.isreg():
                source = tar.extractfile(member)
                assert source is not None
                files[path] = FakeFile(source.read())
    return files
