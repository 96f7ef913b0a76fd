"""Unpack a zip or a tar that a student handed in: bounded in bytes, entries and ratio before anything is believed."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from pytest_dockerlab.classroom.tree import Bounds, Refused, SafeTree

PIECE = 1 << 16
MAX_HEADER = 64 * 1024  # of a tar's extension headers; a path has at most 4096 bytes
MAX_DIRECTORY = 32 << 20  # of a zip: zipfile reads all of it into memory
_END, _END_BYTES, _COMMENT = b"PK\x05\x06", 22, 1 << 16
_ZIP64_LOCATOR, _LOCATOR_BYTES = b"PK\x06\x07", 20
_BROKEN = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, tarfile.TarError, ValueError, KeyError)


def is_archive(path: Path) -> bool:
    """Whether a file's first bytes are those of an archive that can be unpacked here."""
    with path.open("rb") as file:
        head = file.read(512)
    return _packed(head) is not None or head[257:262] == b"ustar" or head[:4] in (b"PK\x03\x04", _END)


def unpack(path: Path, target: Path, bounds: Bounds) -> tuple[Path, list[str]]:
    """Unpack into the empty folder `target`; return the submission's folder in it, and what was left out.

    An archive with nothing but one folder (GitHub's, and what a file manager makes) means that folder.
    """
    tree = SafeTree(target, path.name, bounds)
    try:
        with path.open("rb") as file:
            head = file.read(4)
            file.seek(0)
            (_zip if head in (b"PK\x03\x04", _END) else _tar)(file, path.stat().st_size, tree, bounds)
    except Refused:
        raise
    except (*_BROKEN, NotImplementedError, RuntimeError, RecursionError, struct.error) as error:
        raise tree.refuse(f"it is broken ({type(error).__name__})") from error
    tree.finish()
    return only_folder(target), tree.left_out


def only_folder(folder: Path) -> Path:
    """Return the one folder that holds everything, else `folder`."""
    junk = {"__MACOSX", ".DS_Store", "pax_global_header"}
    entries = [entry for entry in folder.iterdir() if entry.name not in junk]
    if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink():
        return entries[0]
    return folder


def _packed(head: bytes) -> str | None:
    """Return how the bytes are compressed."""
    magics = {b"\x1f\x8b": "gz", b"BZh": "bz2", b"\xfd7zXZ\x00": "xz"}
    return next((kind for magic, kind in magics.items() if head.startswith(magic)), None)


class _Bounded(io.RawIOBase):
    """Hands on at most `limit` bytes of a decompressor, then refuses."""

    def __init__(self, source: IO[bytes], limit: int, tree: SafeTree) -> None:
        self._source, self._left, self._tree = source, limit, tree

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(PIECE if size < 0 else min(size, PIECE))
        self._left -= len(data)
        if self._left < 0:
            raise self._tree.refuse("it unpacks to far more than it has")
        return data


def _limit(packed: int, bounds: Bounds) -> int:
    """Return how many bytes may come out of so many; a tar has up to 1 KiB around each entry."""
    return min(bounds.bytes + 1024 * bounds.entries, max(bounds.free_bytes, packed * bounds.ratio))


def _tar(file: IO[bytes], size: int, tree: SafeTree, bounds: Bounds) -> None:
    kind = _packed(file.read(6))
    file.seek(0)
    openers: dict[str | None, Any] = {"gz": gzip.GzipFile, "bz2": bz2.BZ2File, "xz": lzma.LZMAFile}
    source = openers[kind](fileobj=file) if kind == "gz" else openers[kind](file) if kind else file

    class Member(tarfile.TarInfo):
        """Refuses an extension header that would be read into memory whole. `_proc_member` is tarfile's own hook."""

        def _proc_member(self, tar: tarfile.TarFile) -> Any:
            extension = self.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
            if (extension or self.type in (b"L", b"K")) and self.size > MAX_HEADER:
                raise tree.refuse("a header in it is too long")
            if self.type == tarfile.GNUTYPE_SPARSE:
                raise tree.refuse("it holds a sparse file")
            return super()._proc_member(tar)  # type: ignore[misc]  # no stub for tarfile's hook

    bounded = _Bounded(source, _limit(size, bounds), tree)
    with tarfile.open(fileobj=bounded, mode="r|", tarinfo=Member, errorlevel=1) as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header it has seen
            parts = tree.parts(member.name)
            if tree.skips(parts):
                continue
            if member.isdir():
                tree.folder(parts)
            elif member.issym():
                tree.link(parts, member.linkname)
            elif member.isreg() and not member.issparse():
                content = tar.extractfile(member)
                assert content is not None
                tree.file(parts, _pieces(content), executable=bool(member.mode & 0o100))
            else:
                raise tree.refuse(f"the entry {member.name[:200]!r} is a hard link, a device or the like")


def _zip(file: IO[bytes], size: int, tree: SafeTree, bounds: Bounds) -> None:
    _check_directory(file, size, tree, bounds)
    with zipfile.ZipFile(file) as archive:
        told = sum(info.file_size for info in archive.infolist())
        if told > bounds.bytes or told > max(bounds.free_bytes, size * bounds.ratio):
            raise tree.refuse("it unpacks to far more than it has")
        for info in archive.infolist():
            parts = tree.parts(info.filename)
            mode = info.external_attr >> 16
            if tree.skips(parts):
                continue
            if info.flag_bits & 0x1:
                raise tree.refuse("it is encrypted")
            if info.is_dir():
                tree.folder(parts)
            elif stat.S_ISLNK(mode):
                with archive.open(info) as content:
                    tree.link(parts, content.read(4096).decode("utf-8", "surrogateescape"))
            elif stat.S_IFMT(mode) in (0, stat.S_IFREG):
                with archive.open(info) as content:
                    tree.file(parts, _pieces(content), executable=bool(mode & 0o100))
            else:
                raise tree.refuse(f"the entry {info.filename[:200]!r} is a device or the like")


def _check_directory(file: IO[bytes], size: int, tree: SafeTree, bounds: Bounds) -> None:
    """Look at the size of the zip's directory, as `zipfile` finds it, before `zipfile` reads it whole."""
    start = max(0, size - _END_BYTES - _COMMENT)
    file.seek(start)
    tail = file.read(_END_BYTES + _COMMENT)
    file.seek(0)
    at = tail.rfind(_END)
    if at < 0 or len(tail) - at < _END_BYTES:
        raise tree.refuse("it is broken (it has no end)")
    locator = tail[at - _LOCATOR_BYTES : at] if at >= _LOCATOR_BYTES else b""
    entries, length = struct.unpack_from("<HL", tail, at + 10)
    if locator.startswith(_ZIP64_LOCATOR) or length == 0xFFFFFFFF:
        raise tree.refuse("it is of the kind for more than 4 GiB")
    if length > MAX_DIRECTORY or entries > bounds.entries:
        raise tree.refuse(f"it has more than {bounds.entries} entries")


def _pieces(content: IO[bytes]) -> Iterator[bytes]:
    while piece := content.read(PIECE):
        yield piece
