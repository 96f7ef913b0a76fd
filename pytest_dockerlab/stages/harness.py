"""What stages take from the harness itself: its images, and the submission's files as bytes, bounded."""

from __future__ import annotations

import io
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import IO

from pytest_dockerlab import paths
from pytest_dockerlab.context import MTIME, real
from pytest_dockerlab.errors import ImageUnavailable, StudentError
from pytest_dockerlab.images import recipes
from pytest_dockerlab.stages.context import RunContext


class BadFile(StudentError):
    """A file that serving needs can't be taken from the submission."""


def image(context: RunContext, name: str) -> str:
    """Return the tag of an image of our recipes, made or pulled now where it is missing."""
    recipe = recipes.get(name)
    if recipe.ours:
        tag = f"{recipe.repository}:latest"
    else:
        assert recipe.real is not None
        try:
            [base] = context.replace_bases((recipe.real,))
            tag = base.replaced_by or base.name
        except ImageUnavailable:
            tag = f"{recipe.repository}:latest"
    if context.engine.image(tag) is not None:
        return tag
    context.observer.note(f"making the harness's own image for {name} (once, about {recipe.roughly_s} s)")
    from pytest_dockerlab.engine.connect import connect
    from pytest_dockerlab.images.standins import ensure

    made = ensure([name], connect(), context.observer.note)
    tag = tag if recipe.ours else made.get(name, tag)
    if context.engine.image(tag) is None:
        raise ImageUnavailable(f"The harness's image {tag} is missing.", fix=f"dockerlab images ensure {name}")
    return tag


def read(context: RunContext, name: str) -> bytes:
    """Return a file of the submission; raises `StudentError` for a link out of it, and over the context's limit."""
    root = context.submission.root
    path = root / name
    try:
        if not real(path).is_relative_to(root) or not path.is_file():
            raise BadFile(f"{name} is no file of the submission.", fix="Replace links by the files themselves.")
        with path.open("rb") as file:
            data = file.read(context.assignment.spec.limits.context + 1)
    except OSError as error:
        raise BadFile(f"{name} can't be read ({error.strerror}).") from error
    if len(data) > context.assignment.spec.limits.context:
        raise BadFile(f"{name} is bigger than a build context may be.")
    return data


def read_all(context: RunContext, names: Iterable[str]) -> dict[str, bytes]:
    """Return files of the submission by name; together they are no bigger than a build context may be."""
    found: dict[str, bytes] = {}
    left = int(context.assignment.spec.limits.context)
    for name in names:
        found[name] = read(context, name)
        left -= len(found[name])
        if left < 0:
            raise BadFile(f"The files that serving needs are bigger than a build context may be, from {name} on.")
    return found


def pieces(file: Path) -> Iterator[bytes]:
    """Yield a file of ours a piece at a time: an artifact may be bigger than what the harness may hold."""
    with paths.our_file(file, "read"), file.open("rb") as source:
        while piece := source.read(1 << 20):
            yield piece


def put(context: RunContext, container: str, files: Mapping[str, Path | bytes], writable: tuple[str, ...] = ()) -> None:
    """Put files into a container at paths below `/`; anybody may read them, and write into the folders `writable`."""
    with paths.our_file(context.store.folder), tempfile.TemporaryFile(dir=context.store.folder) as file:
        _archive(file, files, writable)
        file.seek(0)
        context.engine.put(container, "/", file)


def _archive(file: IO[bytes], files: Mapping[str, Path | bytes], writable: tuple[str, ...]) -> None:
    with tarfile.open(fileobj=file, mode="w") as tar:
        made: set[str] = set()
        for name in [*writable, *files]:
            # Only the folders of ours: an entry for `/home` would change its owner and mode in the image.
            inside = PurePosixPath(name)
            for folder in [*reversed(inside.parents), *([inside] if name in writable else [])]:
                text = str(folder)
                if text.split("/")[0] == "dockerlab" and text not in made:
                    made.add(text)
                    entry = tarfile.TarInfo(text)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o777 if text in writable else 0o755
                    tar.addfile(entry)
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.mode, entry.mtime = 0o644, MTIME
            with content.open("rb") if isinstance(content, Path) else io.BytesIO(content) as source:
                entry.size = source.seek(0, io.SEEK_END)
                source.seek(0)
                tar.addfile(entry, source)
