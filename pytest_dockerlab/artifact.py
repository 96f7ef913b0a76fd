"""Find the model file that a training run wrote, and fetch it: bounded, link-proof, never unpacked, never loaded.

What is inside a pickle is nobody's business on the host. A SavedModel is a folder: its regular files become one tar
archive of ours, under plain names.
"""

from __future__ import annotations

import fnmatch
import heapq
import shutil
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.engine.files import SAVED_MODEL, ContainerFiles, Retrieved
from pytest_dockerlab.facts import Artifact, ArtifactCandidate
from pytest_dockerlab.inspection import kind_of

MAX_CANDIDATES = 50
MAX_NAME = 300
MAX_BEFORE = 512 << 20  # bytes that are read of an image's WORKDIR
READ_FACTOR = 4  # how many times what one artifact may have is read, of all candidates together
# What a system or a package manager writes is not what the training wrote.
SYSTEM = ("/proc/", "/sys/", "/dev/", "/usr/", "/opt/conda/pkgs/", "/var/lib/", "/var/cache/")


def collect(
    run: ContainerFiles,
    unused: ContainerFiles,
    image: ImageConfig,
    patterns: tuple[str, ...],
    limit: int,
    target: Path,
    *,
    require_new: bool = True,
) -> Artifact:
    """Return the artifact that a run wrote, its bytes copied to `target`; no more than `limit` of them.

    `unused` is a container of the same image that never ran: what it holds was there before the run. Of several
    files the earlier pattern wins, then the one nearest to the WORKDIR, then the name. Without `require_new` a file
    that the image held is taken too, where the run wrote none. Raises `InfraError` once a deadline has passed.
    """
    candidates: list[ArtifactCandidate] = []
    chosen: Artifact | None = None
    for path, change in _written(run, patterns, image.workdir).items():
        look_only = chosen is not None
        got = run.retrieve(path, limit, None if look_only else target, look_only=look_only)
        state = got.state
        if got.state == "file" and look_only:
            state = "other"
        elif got.state == "file" and got.bytes == 0:
            state = "empty"
        elif got.state == "file":
            before = Retrieved("missing") if change == "added" else unused.retrieve(path, limit)
            state = "new" if before.state != "file" else "changed" if before.sha256 != got.sha256 else "unchanged"
        candidates.append(ArtifactCandidate(path[:MAX_NAME], got.bytes, state))
        if chosen is None and (state in ("new", "changed") or (state == "unchanged" and not require_new)):
            chosen = _artifact(path, got, target, state)
    if chosen is None:
        known = {one.path for one in candidates}
        candidates += [one for one in _in_image(unused, image, patterns) if one.path not in known]
        for one in [] if require_new else [one for one in candidates if one.state == "in_image"]:
            got = run.retrieve(one.path, limit, target)
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
            source = archive.extractfile(member)
            assert source is not None
            path = file.with_name(f"{file.name}.{number}")
            with path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
            found[f"{name}/{member.name.removeprefix('model/')}"] = path
    return found


def _written(run: ContainerFiles, patterns: tuple[str, ...], workdir: str) -> dict[str, str]:
    """Return what the run may have written and matches, and how it changed: the best first, `MAX_CANDIDATES` at most.

    Of a volume there is no list of changes; what the image put there is told apart later, by its content.
    """

    def rows() -> Iterator[tuple[str, str]]:
        for path, change in run.changes():
            name = _matching(path, patterns) if change != "deleted" else None
            if name is not None:
                yield name, change if name == path else "modified"
        volumes = replace(run)  # the stream of a list holds the contents too, and must not use up what is left to read
        for volume in run.volumes():
            for path, _ in volumes.listed(volume):
                name = _matching(path, patterns)
                if name is not None:
                    yield name, "modified"

    # A folder comes by its own name and by that of its main file, which must not hide that it was added.
    best = heapq.nsmallest(MAX_CANDIDATES, rows(), key=lambda row: (_rank(row[0], patterns, workdir), row[1]))
    found: dict[str, str] = {}
    for path, change in best:
        found.setdefault(path, change)
    return found


def _matching(path: str, patterns: tuple[str, ...]) -> str | None:
    """Return the path, or the SavedModel that it is the main file of, where that is what is looked for."""
    if path.startswith(SYSTEM):
        return None
    name = PurePosixPath(path)
    # A SavedModel goes by its folder's name, or by that of its main file.
    if name.name == SAVED_MODEL:
        return str(name.parent) if _matches(name.parent.name, patterns) or _matches(name.name, patterns) else None
    return path if _matches(name.name, patterns) else None


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def _rank(path: str, patterns: tuple[str, ...], workdir: str) -> tuple[int, bool, int, str]:
    name = PurePosixPath(path).name
    matching = (index for index, pattern in enumerate(patterns) if fnmatch.fnmatchcase(name, pattern))
    under_workdir = PurePosixPath(path).is_relative_to(workdir)
    return next(matching, len(patterns)), not under_workdir, len(PurePosixPath(path).parts), path


def _in_image(unused: ContainerFiles, image: ImageConfig, patterns: tuple[str, ...]) -> list[ArtifactCandidate]:
    """Return model files that lay in the image's WORKDIR before the run: the likeliest mix-up, worth its own words."""
    if image.workdir == "/":
        return []
    found: list[ArtifactCandidate] = []
    for path, size in replace(unused, most_bytes=MAX_BEFORE).listed(image.workdir):
        if _matches(PurePosixPath(path).name, patterns):
            found.append(ArtifactCandidate(path[:MAX_NAME], size, "in_image"))
        if len(found) >= 5:
            break
    return found
