"""Find the model file that a training run wrote, and fetch it: bounded, link-proof, never unpacked, never loaded.

The engine's archive hands out links, FIFOs, devices and sparse zeros as they are, so the stream is read member by
member and only a regular file of bounded size is kept. What is inside a pickle is nobody's business on the host.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pytest_dockerlab.engine.base import Engine, ImageConfig
from pytest_dockerlab.facts import Artifact, ArtifactCandidate

MAX_CANDIDATES = 50
MAX_NAME = 300
# What a system or a package manager writes is not what the training wrote.
SYSTEM = ("/proc/", "/sys/", "/dev/", "/usr/", "/opt/conda/pkgs/", "/var/lib/", "/var/cache/")


@dataclass(frozen=True)
class Retrieved:
    """One member of the engine's archive. `state` is "file", "link", "special", "folder", "too_big" or "missing"."""

    state: str
    bytes: int = 0
    sha256: str | None = None


class _Stream:
    """The engine's chunks as the file that `tarfile` reads from, front to back."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._left = bytearray()

    def read(self, size: int) -> bytes:
        """Return `size` bytes, fewer only at the end."""
        while len(self._left) < size:
            piece = next(self._chunks, None)
            if piece is None:
                break
            self._left += piece
        taken = bytes(self._left[:size])
        del self._left[:size]
        return taken


@contextlib.contextmanager
def _archive(chunks: Iterator[bytes]) -> Iterator[tarfile.TarFile]:
    """Open the engine's stream; close the connection afterwards, so that nobody sends what nobody reads."""
    try:
        with tarfile.open(fileobj=cast(Any, _Stream(chunks)), mode="r|") as archive:
            yield archive
    finally:
        close = getattr(chunks, "close", None)
        if close is not None:
            close()


def retrieve(engine: Engine, container: str, path: str, limit: int, target: Path | None = None) -> Retrieved:
    """Copy one regular file out of a container; with no `target` only its hash is taken.

    At most `limit` bytes are read: a sparse file of a terabyte says its size in the archive's header, and is refused
    before its first byte.
    """
    chunks = engine.read(container, path)
    if chunks is None:
        return Retrieved("missing")
    try:
        with _archive(chunks) as archive:
            member = archive.next()
            if member is None:
                return Retrieved("missing")
            if member.isdir():
                return Retrieved("folder")
            if member.issym() or member.islnk():
                return Retrieved("link")
            if not member.isreg():
                return Retrieved("special")
            if member.size > limit:
                return Retrieved("too_big", member.size)
            source = archive.extractfile(member)
            assert source is not None
            digest = hashlib.sha256()
            with target.open("wb") if target else io.BytesIO() as copy:
                while piece := source.read(1 << 18):
                    digest.update(piece)
                    if target:
                        copy.write(piece)
            return Retrieved("file", member.size, digest.hexdigest())
    except tarfile.TarError:
        return Retrieved("missing")


def collect(
    engine: Engine,
    container: str,
    image_probe: str,
    image: ImageConfig,
    patterns: tuple[str, ...],
    limit: int,
    target: Path,
) -> Artifact:
    """Return the artifact that the run in `container` wrote, its bytes copied to `target`.

    `image_probe` is a container of the same image that never ran: what it holds was there before the run. Of several
    files the earlier pattern wins, then the one nearest to the WORKDIR, then the biggest.
    """
    written = dict(engine.changes(container))
    found = _matching(written, patterns)
    candidates: list[ArtifactCandidate] = []
    chosen: Artifact | None = None
    for path in sorted(found, key=lambda path: _rank(path, patterns, image.workdir)):
        before = retrieve(engine, image_probe, path, limit) if written[path] == "modified" else Retrieved("missing")
        keep = target if chosen is None else None
        got = retrieve(engine, container, path, limit, keep)
        state = got.state
        if got.state == "file":
            if got.bytes == 0:
                state = "empty"
            elif before.sha256 == got.sha256:
                state = "unchanged"
            else:
                state = "changed" if before.state == "file" else "new"
        candidates.append(ArtifactCandidate(path[:MAX_NAME], got.bytes, state))
        if chosen is None and state in ("new", "changed"):
            kind, problem = kind_of(target)
            chosen = Artifact(
                path=path, sha256=got.sha256, bytes=got.bytes, kind=kind, file=target.name, problem=problem
            )
    if chosen is None:
        target.unlink(missing_ok=True)
        candidates += _in_image(engine, image_probe, image, patterns)
        chosen = Artifact()
    return Artifact(
        path=chosen.path,
        sha256=chosen.sha256,
        bytes=chosen.bytes,
        kind=chosen.kind,
        file=chosen.file,
        problem=chosen.problem,
        candidates=tuple(candidates),
        patterns=patterns,
    )


def first_file(engine: Engine, container: str, path: str) -> str | None:
    """Return the name of the first file or link under a folder, or `None` where the folder is empty or not there."""
    chunks = engine.read(container, path)
    if chunks is None:
        return None
    try:
        with _archive(chunks) as archive:
            return next((member.name for member in archive if not member.isdir()), None)
    except tarfile.TarError:
        return None


def _matching(written: dict[str, str], patterns: tuple[str, ...]) -> list[str]:
    paths = [
        path
        for path, change in written.items()
        if change != "deleted"
        and not path.startswith(SYSTEM)
        and any(fnmatch.fnmatchcase(PurePosixPath(path).name, pattern) for pattern in patterns)
    ]
    return paths[:MAX_CANDIDATES]


def _rank(path: str, patterns: tuple[str, ...], workdir: str) -> tuple[int, bool, int, str]:
    name = PurePosixPath(path).name
    pattern = next(index for index, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern))
    under_workdir = PurePosixPath(path).is_relative_to(workdir)
    return pattern, not under_workdir, len(PurePosixPath(path).parts), path


def _in_image(
    engine: Engine, image_probe: str, image: ImageConfig, patterns: tuple[str, ...]
) -> list[ArtifactCandidate]:
    """Return model files that lay in the image's WORKDIR before the run: the likeliest mix-up, worth its own words."""
    chunks = engine.read(image_probe, image.workdir)
    if chunks is None or image.workdir == "/":
        return []
    found: list[ArtifactCandidate] = []
    try:
        with _archive(chunks) as archive:
            for count, member in enumerate(archive):
                name = PurePosixPath(member.name).name
                if member.isreg() and any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                    path = str(PurePosixPath(image.workdir).parent / member.name)
                    found.append(ArtifactCandidate(path[:MAX_NAME], member.size, "in_image"))
                if count > 5000 or len(found) >= 5:
                    break
    except tarfile.TarError:
        return found
    return found


LEGACY_PYTORCH = bytes.fromhex("80028a0a6cfc9c46f920")


def kind_of(path: Path) -> tuple[str, str | None]:
    """Return `(kind, problem)` by content, never by name, without loading anything.

    The problem is `None`, or one of "empty", "html", "text", "truncated", "unknown". Formats: PyTorch's zip has a
    member `*/data.pkl` (TorchScript also `*/code/`), its older form begins with a pickled magic number; safetensors
    begins with an 8-byte little-endian header length and `{`; HDF5 with `\\x89HDF`; Keras 3 and `.mar` are zip files.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
    if size == 0:
        return "empty", "empty"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head.startswith(LEGACY_PYTORCH):
        return "pytorch-legacy", None
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return "hdf5", None
    if len(head) > 9 and head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length < 100_000_000:
            return "safetensors", _safetensors_problem(path, length, size)
    if head.lstrip()[:15].lower().startswith((b"<!doctype html", b"<html")):
        return "html", "html"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle", None
    if head[:1] == b"\x08" and (b"pytorch" in head or b"onnx" in head.lower() or b"keras" in head.lower()):
        return "onnx", None
    if head.isascii() and head.decode("ascii").isprintable():
        return "text", "text"
    return "unknown", "unknown"


def _zip_kind(path: Path) -> tuple[str, str | None]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:100_000]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return "zip", "truncated"  # the directory of a zip file is at its end
    if any(name == "MAR-INF/MANIFEST.json" for name in names):
        return "mar", None
    if any(name.endswith("/data.pkl") for name in names):
        return ("torchscript" if any("/code/" in name for name in names) else "pytorch-zip"), None
    if "config.json" in names and "model.weights.h5" in names:
        return "keras", None
    if any(name.endswith(".npy") for name in names):
        return "npz", None
    return "zip", "unknown"


def _safetensors_problem(path: Path, length: int, size: int) -> str | None:
    if size < 8 + length:
        return "truncated"
    with path.open("rb") as file:
        file.seek(8)
        try:
            header = json.loads(file.read(length))
        except ValueError:
            return "truncated"
    ends = [item["data_offsets"][1] for item in header.values() if isinstance(item, dict) and "data_offsets" in item]
    return "truncated" if ends and size < 8 + length + max(ends) else None
