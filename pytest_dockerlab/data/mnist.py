"""MNIST in the cache folder, laid out as torchvision looks for it, so that `download=True` needs no network.

::

    <cache>/data/mnist/full|subset/manifest.json
    <cache>/data/mnist/full|subset/MNIST/raw/{train,t10k}-{images-idx3,labels-idx1}-ubyte

A set appears whole or not at all: it is written into a folder beside it, which is then renamed. Its sums are verified
when it is made and by `problem_with`; at each use only names, sizes and the manifest are looked at, which takes
milliseconds. The images of `fixtures/digits` are left out, so no digit that is asked later was ever trained on.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import filelock
import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from pytest_dockerlab import paths
from pytest_dockerlab.data import idx, mirrors, subset
from pytest_dockerlab.data.digits import load_digits, pixel_hash
from pytest_dockerlab.data.idx import Pixels
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import DiskFull, InfraError, UsageError

SOURCES = ("full", "subset")  # the better one first
CHOICES = ("auto", *SOURCES)
BUDGET_S = 1200.0  # for everything, where the caller has no deadline of its own
MAX_MANIFEST_BYTES = 64 * 1024

LICENCE = "CC BY-SA 3.0 (https://creativecommons.org/licenses/by-sa/3.0/)"
AUTHORS = "MNIST, by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, from NIST's special databases 1 and 3"

Say = Callable[[str], None]
Arrays = tuple[Pixels, Pixels, Pixels, Pixels]  # training images and labels, test images and labels
NAMES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


@dataclass(frozen=True)
class DataSet:
    """A data set that is there. `path` is what a container gets as its data folder: it holds `MNIST/raw/`."""

    path: Path
    source: str
    train: int
    test: int
    sha256: str


class _File(BaseModel):
    bytes: int
    sha256: str


class _Manifest(BaseModel):
    """What `manifest.json` says; anything else than this version is made again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = 1
    name: str = "mnist"
    source: str
    train: int
    test: int
    sha256: str  # over the files' names and sums
    left_out: str  # over the digits that must not be in it
    files: dict[str, _File]
    authors: str = AUTHORS
    licence: str = LICENCE
    provenance: str


def root() -> Path:
    """Return the folder of both sets, full and subset."""
    return paths.cache_dir() / "data" / "mnist"


def find_mnist(source: str = "auto") -> DataSet | None:
    """Return the set that is there, the full one first; `None` where there is none. Takes milliseconds."""
    for one in _known(source):
        manifest = _manifest(root() / one)
        if manifest and not _quick_problem(root() / one, manifest):
            return _data_set(root() / one, manifest)
    return None


def problem_with(source: str) -> str | None:
    """Return what is wrong with a set, all its bytes read; `"missing"`: there is none, `None`: it is sound."""
    folder = root() / source
    if not folder.is_dir():
        return "missing"
    manifest = _manifest(folder)
    if manifest is None:
        return "manifest.json is missing, damaged or of another version"
    problem = _quick_problem(folder, manifest)
    if problem:
        return problem
    for name, file in manifest.files.items():
        if _sha256(folder / "MNIST" / "raw" / name) != file.sha256:
            return f"{name} is damaged (another sha256 than when it was made)"
    return None


def ensure_mnist(
    source: str = "auto", say: Say = print, *, deadline: Deadline | None = None, verify: bool = False
) -> DataSet:
    """Return MNIST, fetched where it is not there yet. Runs at the same time share one download.

    `auto` takes what is there, else all of MNIST where a mirror answers within seconds, else the subset. `verify`
    reads what is there byte by byte, and makes it again where it is damaged.
    """
    deadline = deadline or Deadline.after(BUDGET_S)
    found = find_mnist(source)
    if found and not (verify and problem_with(found.source)):
        return found
    with _our_disk(), _lock(say, deadline):
        found = find_mnist(source)  # another run may have made it meanwhile
        if found and not (verify and problem_with(found.source)):
            return found
        _sweep()
        return _fetch(_known(source), say, deadline, choose=source == "auto")


def _known(source: str) -> tuple[str, ...]:
    if source not in CHOICES:
        raise UsageError(f"There is no source {source!r} of MNIST.", fix=f"Take one of {', '.join(CHOICES)}.")
    return SOURCES if source == "auto" else (source,)


def _fetch(wanted: tuple[str, ...], say: Say, deadline: Deadline, *, choose: bool) -> DataSet:
    if "full" in wanted:
        urls = mirrors.mirrors()
        first = mirrors.answering(urls, deadline.sooner(mirrors.PROBE_S)) if choose else None
        if first or not choose:
            urls = (first, *(url for url in urls if url != first)) if first else urls
            say(f"MNIST: downloading all of it (11.6 MB) from {mirrors.host(urls[0])}")
            try:
                return _make_full(urls, say, deadline)
            except InfraError as error:
                if not choose or isinstance(error, DiskFull):
                    raise
                say(f"MNIST: {error.message} Taking the real 5,000-image subset.")
        else:
            hosts = ", ".join(mirrors.host(url) for url in urls)
            say(f"MNIST: no mirror answers ({hosts}): taking the real 5,000-image subset")
    return _make_subset(say, deadline)


def _make_full(urls: tuple[str, ...], say: Say, deadline: Deadline) -> DataSet:
    downloads = root() / "downloads"
    files = mirrors.download(downloads, urls, say, deadline)
    try:
        arrays = tuple((idx.parse_images if "images" in name else idx.parse_labels)(files[name]) for name in NAMES)
    except idx.IdxError as error:  # the sums were right, so the mirror is not to blame
        raise InfraError(f"MNIST as downloaded can't be read: {error}.") from error
    train_images, train_labels, test_images, test_labels = arrays
    kept = [*_without_digits(train_images, train_labels), *_without_digits(test_images, test_labels)]
    done = _store("full", (kept[0], kept[1], kept[2], kept[3]), f"downloaded from {urls[0]}", say)
    shutil.rmtree(downloads, ignore_errors=True)
    return done


def _make_subset(say: Say, deadline: Deadline) -> DataSet:
    images, labels = subset.subset_rows(say, deadline)
    order = subset.shuffled(len(labels))
    images, labels = _without_digits(images[order], labels[order])
    cut = subset.TRAIN
    return _store("subset", (images[:cut], labels[:cut], images[cut:], labels[cut:]), subset.PROVENANCE, say)


def _digit_hashes() -> frozenset[str]:
    return frozenset(pixel_hash(digit.pixels) for digit in load_digits())


def _left_out() -> str:
    return hashlib.sha256("".join(sorted(_digit_hashes())).encode()).hexdigest()


def _without_digits(images: Pixels, labels: Pixels) -> tuple[Pixels, Pixels]:
    """Leave out the digits of the fixtures, known by their pixels."""
    hashes = _digit_hashes()
    keep = np.array([pixel_hash(image) not in hashes for image in images], dtype=np.bool_)
    return images[keep], labels[keep]


def _store(source: str, arrays: Arrays, provenance: str, say: Say) -> DataSet:
    """Write a set beside its place, then rename it there."""
    temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=root()))
    raw = temporary / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in zip(NAMES, arrays, strict=True):
        (idx.write_images if "images" in name else idx.write_labels)(raw / name, array)
    files = {name: _File(bytes=(raw / name).stat().st_size, sha256=_sha256(raw / name)) for name in NAMES}
    manifest = _Manifest(
        source=source,
        train=len(arrays[1]),
        test=len(arrays[3]),
        sha256=hashlib.sha256("".join(f"{name}:{files[name].sha256}\n" for name in NAMES).encode()).hexdigest(),
        left_out=_left_out(),
        files=files,
        provenance=provenance,
    )
    (temporary / "manifest.json").write_text(json.dumps(manifest.model_dump(), indent=1), encoding="utf-8")
    # A student's container may run as any user, and `mkdtemp` lets in nobody else.
    for path in (temporary, *temporary.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    place = root() / source
    if place.exists():
        place.rename(Path(tempfile.mkdtemp(prefix=".old-", dir=root())) / "set")
    temporary.rename(place)
    _sweep()
    done = _data_set(place, manifest)
    say(f"MNIST: {done.source}, {done.train} images to train on and {done.test} to test, in {done.path}")
    return done


def _sweep() -> None:
    """Remove what a run that was killed left behind; the lock is held, so nobody works there."""
    for pattern in (".new-*", ".old-*"):
        for folder in root().glob(pattern):
            shutil.rmtree(folder, ignore_errors=True)


def _data_set(folder: Path, manifest: _Manifest) -> DataSet:
    return DataSet(folder, manifest.source, manifest.train, manifest.test, manifest.sha256)


def _manifest(folder: Path) -> _Manifest | None:
    try:
        with (folder / "manifest.json").open("rb") as file:
            manifest = _Manifest.model_validate_json(file.read(MAX_MANIFEST_BYTES))
    except (OSError, ValidationError):
        return None
    return manifest if manifest.format == 1 and set(manifest.files) == set(NAMES) else None


def _quick_problem(folder: Path, manifest: _Manifest) -> str | None:
    if manifest.source != folder.name:
        return f"manifest.json is that of the source {manifest.source}"
    if manifest.left_out != _left_out():
        return "the digits have changed since it was made, and it may hold some of them"
    for name, file in manifest.files.items():
        path = folder / "MNIST" / "raw" / name
        if not path.is_file() or path.stat().st_size != file.bytes:
            return f"{name} is missing or has another size than {file.bytes} bytes"
    return None


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1024 * 1024):
            digest.update(chunk)
    return digest.hexdigest()


@contextlib.contextmanager
def _our_disk() -> Iterator[None]:
    """Turn what the disk says into words."""
    try:
        yield
    except OSError as error:
        fix = "Free some space, or move the cache: set DOCKERLAB_CACHE to a folder that can be written to."
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"No room left for MNIST in {root()} (it takes up to 80 MB).", fix=fix) from error
        raise InfraError(f"MNIST can't be kept in {root()}: {error.strerror or error}.", fix=fix) from error


@contextlib.contextmanager
def _lock(say: Say, deadline: Deadline) -> Iterator[None]:
    root().mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(root() / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        say("MNIST: another run is fetching it; waiting for that")
        try:
            lock.acquire(timeout=deadline.remaining_s, poll_interval=0.1)
        except filelock.Timeout as error:
            raise InfraError(
                f"Another run held the lock {root() / '.lock'} for more than {deadline.budget_s:.0f} s.",
                fix="Look for a dockerlab process that hangs, end it and try again.",
            ) from error
    try:
        yield
    finally:
        lock.release()
