"""Find the model file that a training run wrote, and fetch it: bounded, link-proof, never unpacked, never loaded.

The engine's archive hands out links, FIFOs, devices and sparse zeros as they are, so the stream is read member by
member and only a regular file of bounded size is kept. What is inside a pickle is nobody's business on the host.

A SavedModel is a folder: its regular files become one tar archive of ours, under plain names.
"""

from __future__ import annotations

import contextlib
import fnmatch
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from pytest_dockerlab.engine.base import Engine, ImageConfig
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.facts import Artifact, ArtifactCandidate
from pytest_dockerlab.inspection import kind_of

__all__ = ["Retrieved", "collect", "first_file", "kind_of", "parts", "retrieve"]

MAX_CANDIDATES = 50
MAX_NAME = 300
MAX_LISTED = 20_000  # files of a volume that are looked at
MAX_BEFORE = 128 << 20  # a quarter of what is read of an image's WORKDIR
MAX_IN_FOLDER = 1000  # files of a SavedModel
SAVED_MODEL = "saved_model.pb"
# What a system or a package manager writes is not what the training wrote.
SYSTEM = ("/proc/", "/sys/", "/dev/", "/usr/", "/opt/conda/pkgs/", "/var/lib/", "/var/cache/")


@dataclass(frozen=True)
class Retrieved:
    """One member of the engine's archive. `state` is "file", "link", "special", "folder", "too_big" or "missing"."""

    state: str
    bytes: int = 0
    sha256: str | None = None
    is_folder: bool = False  # a SavedModel, as a tar archive of ours


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


def retrieve(
    engine: Engine, container: str, path: str, limit: int, target: Path | None = None, *, look_only: bool = False
) -> Retrieved:
    """Copy one regular file out of a container; with no `target` only its hash is taken, `look_only` takes none.

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
                return _folder(archive, limit, target) if not look_only else Retrieved("folder")
            if member.issym() or member.islnk():
                return Retrieved("link")
            if not member.isreg():
                return Retrieved("special")
            if member.size > limit:
                return Retrieved("too_big", member.size)
            if look_only:
                return Retrieved("file", member.size)
            digest, done = hashlib.sha256(), 0
            with target.open("wb") if target else io.BytesIO() as copy:
                for piece in _pieces(archive, member):
                    digest.update(piece)
                    done += len(piece)
                    if target:
                        copy.write(piece)
            if done != member.size:
                raise InfraError("The engine stopped in the middle of a file.", fix="Grade again.")
            return Retrieved("file", member.size, digest.hexdigest())
    except tarfile.TarError:
        return Retrieved("missing")


def _pieces(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Iterator[bytes]:
    source = archive.extractfile(member)
    assert source is not None
    while piece := source.read(1 << 18):
        yield piece


def _folder(archive: tarfile.TarFile, limit: int, target: Path | None) -> Retrieved:
    """Copy the regular files of a folder into a tar archive of ours; links and the like are left behind."""
    digest, total, found = hashlib.sha256(), 0, False
    with target.open("wb") if target else io.BytesIO() as file, tarfile.open(fileobj=file, mode="w") as copy:
        for count, member in enumerate(archive):
            inside = PurePosixPath(*PurePosixPath(_text(member.name)).parts[1:])
            if not member.isreg() or ".." in inside.parts or not inside.parts:
                continue
            total += member.size
            if total > limit or count > MAX_IN_FOLDER:
                return Retrieved("too_big", total)
            found = found or str(inside) == SAVED_MODEL
            data = b"".join(_pieces(archive, member))
            digest.update(f"{inside}\0{len(data)}\0".encode() + data)
            plain = tarfile.TarInfo(f"model/{inside}")
            plain.size, plain.mode = len(data), 0o644
            copy.addfile(plain, io.BytesIO(data))
    return Retrieved("file", total, digest.hexdigest(), is_folder=True) if found else Retrieved("folder")


def _text(name: str) -> str:
    """Return a name as text that can be written anywhere: bytes that are not UTF-8 become question marks."""
    return name.encode("utf-8", "replace").decode()


def collect(
    engine: Engine,
    container: str,
    image_probe: str,
    image: ImageConfig,
    patterns: tuple[str, ...],
    limit: int,
    target: Path,
    *,
    require_new: bool = True,
) -> Artifact:
    """Return the artifact that the run in `container` wrote, its bytes copied to `target`.

    `image_probe` is a container of the same image that never ran: what it holds was there before the run. Of several
    files the earlier pattern wins, then the one nearest to the WORKDIR, then the name. Without `require_new` a file
    that the image held is taken too, where the run wrote none.
    """
    written = _written(engine, container, limit)
    found = sorted(_matching(written, patterns), key=lambda path: _rank(path, patterns, image.workdir))
    candidates: list[ArtifactCandidate] = []
    chosen: Artifact | None = None
    for path in found[:MAX_CANDIDATES]:
        got = retrieve(engine, container, path, limit, None if chosen else target, look_only=chosen is not None)
        state = got.state
        if got.state == "file" and chosen is not None:
            state = "other"
        elif got.state == "file" and got.bytes == 0:
            state = "empty"
        elif got.state == "file":
            fresh = written[path] == "added"
            before = Retrieved("missing") if fresh else retrieve(engine, image_probe, path, limit)
            state = "new" if before.state != "file" else "changed" if before.sha256 != got.sha256 else "unchanged"
        candidates.append(ArtifactCandidate(path[:MAX_NAME], got.bytes, state))
        if chosen is None and (state in ("new", "changed") or (state == "unchanged" and not require_new)):
            chosen = _artifact(path, got, target, state)
    if chosen is None:
        known = {one.path for one in candidates}
        candidates += [one for one in _in_image(engine, image_probe, image, patterns) if one.path not in known]
        for one in [] if require_new else [one for one in candidates if one.state == "in_image"]:
            got = retrieve(engine, container, one.path, limit, target)
            if got.state == "file":
                chosen = _artifact(one.path, got, target, "in_image")
                break
    if chosen is None:
        target.unlink(missing_ok=True)
        chosen = Artifact()
    return replace(chosen, candidates=tuple(candidates), patterns=patterns)


def _artifact(path: str, got: Retrieved, target: Path, state: str) -> Artifact:
    kind, problem = ("savedmodel", None) if got.is_folder else kind_of(target)
    return Artifact(
        path=path, sha256=got.sha256, bytes=got.bytes, kind=kind, file=target.name, problem=problem, state=state
    )


def parts(kind: str | None, file: Path, name: str) -> dict[str, Path]:
    """Return the artifact's files by their names in a build context: one file, or all those of a SavedModel.

    The names in the archive are ours (`_folder` made them), and the files go beside it.
    """
    if kind != "savedmodel":
        return {name: file}
    found: dict[str, Path] = {}
    with tarfile.open(file, "r:") as archive:
        for number, member in enumerate(archive):
            path = file.with_name(f"{file.name}.{number}")
            path.write_bytes(b"".join(_pieces(archive, member)))
            found[f"{name}/{member.name.removeprefix('model/')}"] = path
    return found


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


def _written(engine: Engine, container: str, limit: int) -> dict[str, str]:
    """Return what the run may have written and how: the container's diff, and all that is in its volumes.

    A volume has no diff; what the image put there is told apart later, by its content.
    """
    written = {_text(path): change for path, change in engine.changes(container)}
    for volume in engine.mounts(container):
        for name, _ in _listed(engine, container, volume, limit):
            written.setdefault(name, "modified")
    return written


def _listed(engine: Engine, container: str, folder: str, limit: int) -> Iterator[tuple[str, int]]:
    """Yield the paths and sizes of the files and links under a folder, as far as the bounds allow."""
    chunks = engine.read(container, folder)
    if chunks is None:
        return
    total = 0
    with contextlib.suppress(tarfile.TarError), _archive(chunks) as archive:
        for count, member in enumerate(archive):
            if not member.isdir():
                yield str(PurePosixPath(folder).parent / _text(member.name).lstrip("/")), member.size
            total += member.size
            if count >= MAX_LISTED or total > 4 * limit:  # the stream holds the contents too
                return


def _matching(written: dict[str, str], patterns: tuple[str, ...]) -> set[str]:
    found = set()
    for path, change in written.items():
        if change == "deleted" or path.startswith(SYSTEM):
            continue
        name = PurePosixPath(path)
        # A SavedModel goes by its folder's name, or by that of its main file.
        if name.name == SAVED_MODEL and (_matches(name.parent.name, patterns) or _matches(name.name, patterns)):
            found.add(str(name.parent))
        elif name.name != SAVED_MODEL and _matches(name.name, patterns):
            found.add(path)
    return found


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _rank(path: str, patterns: tuple[str, ...], workdir: str) -> tuple[int, bool, int, str]:
    name = PurePosixPath(path).name
    matching = (index for index, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern))
    under_workdir = PurePosixPath(path).is_relative_to(workdir)
    return next(matching, len(patterns)), not under_workdir, len(PurePosixPath(path).parts), path


def _in_image(
    engine: Engine, image_probe: str, image: ImageConfig, patterns: tuple[str, ...]
) -> list[ArtifactCandidate]:
    """Return model files that lay in the image's WORKDIR before the run: the likeliest mix-up, worth its own words."""
    if image.workdir == "/":
        return []
    found: list[ArtifactCandidate] = []
    for path, size in _listed(engine, image_probe, image.workdir, MAX_BEFORE):
        if _matches(PurePosixPath(path).name, patterns):
            found.append(ArtifactCandidate(path[:MAX_NAME], size, "in_image"))
        if len(found) >= 5:
            break
    return found
