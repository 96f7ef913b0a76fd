"""A clean build context: bounded, without links out of it, sockets, devices and what is no part of the hand-in."""

from __future__ import annotations

import hashlib
import io
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from docker.utils.build import PatternMatcher

from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.errors import StudentError

# Folders that tools make and that no hand-in means to send. A virtual environment is told by its `pyvenv.cfg`.
SKIPPED_FOLDERS = frozenset(
    {".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".ipynb_checkpoints"}
)
# Every file is of the same time, and not of 1970: a zip file, as torch-model-archiver makes one, can't say that.
MTIME = 946_684_800  # 2000-01-01
MAX_WALK = 2_000_000  # entries; a folder with more is refused rather than walked for ever


@dataclass(frozen=True)
class Entry:
    """One file, link or special file of a folder; `name` is relative, with `/`."""

    path: Path
    name: str
    kind: str  # "file", "link", "special"
    bytes: int = 0
    mtime_ns: int = 0
    executable: bool = False


def walk(root: Path, exclude: frozenset[Path] = frozenset()) -> Iterator[Entry]:
    """Yield every entry that is no folder, never following a link."""
    seen = 0
    pending = [(root, "")]
    while pending:
        folder, prefix = pending.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda item: item.name)
        except OSError as error:
            raise StudentError(f"The folder {prefix or '.'} can't be read ({error.strerror}).") from error
        for item in entries:
            seen += 1
            if seen > MAX_WALK:
                raise StudentError(f"The submission has more than {MAX_WALK} files.")
            path = Path(item.path)
            if path in exclude:
                continue
            name = prefix + item.name
            info = item.stat(follow_symlinks=False)
            if stat.S_ISLNK(info.st_mode):
                yield Entry(path, name, "link")
            elif stat.S_ISDIR(info.st_mode):
                if item.name not in SKIPPED_FOLDERS and not (path / "pyvenv.cfg").is_file():
                    pending.append((path, f"{name}/"))
            elif stat.S_ISREG(info.st_mode):
                yield Entry(path, name, "file", info.st_size, info.st_mtime_ns, bool(info.st_mode & 0o100))
            else:
                yield Entry(path, name, "special")


@dataclass(frozen=True)
class Context:
    """A tar file that was made. `left_out` names links out of the folder, sockets and devices, at most 20."""

    tar: Path
    bytes: int
    files: int
    sha256: str
    left_out: tuple[str, ...] = ()


def real(path: Path) -> Path:
    """Return where a path leads. A circle of links leads nowhere, and is no error as it is for `Path.resolve`."""
    return Path(os.path.realpath(path))


def make_context(
    root: Path,
    folder: str,
    dockerfile: str,
    target: Path,
    limits: Limits,
    extra: Mapping[str, Path] | None = None,
    exclude: frozenset[Path] = frozenset(),
) -> Context:
    """Write the context `root/folder` to the tar file `target`.

    `.dockerignore` (or `<Dockerfile>.dockerignore`, which comes first as in BuildKit) is honoured; the Dockerfile
    always travels. `extra` puts files of ours at paths inside the context, over what the student has there. Times,
    owners and order are fixed, so the same content has the same hash. Raises `StudentError` over the limits.
    """
    base = real(root / folder)
    if not base.is_relative_to(root) or not base.is_dir():
        raise StudentError(f"The build context {folder!r} is no folder of the submission.")
    ignored = _dockerignore(base, dockerfile)
    extra = dict(extra or {})
    left_out: list[str] = []
    chosen: list[Entry] = []
    sizes: dict[str, int] = {}
    for entry in walk(base, exclude=exclude):
        if entry.name in extra or (entry.name != dockerfile and ignored(entry.name)):
            continue
        outside = entry.kind == "link" and not real(entry.path).is_relative_to(base)
        if outside or entry.kind == "special":
            left_out.append(entry.name)
            continue
        chosen.append(entry)
        top = entry.name.split("/", 1)[0]
        sizes[top] = sizes.get(top, 0) + entry.bytes
        if len(chosen) > limits.context_files:
            raise StudentError(
                f"The build context has more than {limits.context_files} files.",
                fix="Add what the image does not need to .dockerignore.",
            )
    total = sum(sizes.values())
    if total > limits.context:
        top, most = max(sizes.items(), key=lambda item: item[1])
        raise StudentError(
            f"The build context has {_mb(total)}, more than the {_mb(limits.context)} allowed; "
            f"most of it is {top!r} ({_mb(most)}).",
            fix=f"Add {top!r} to .dockerignore, or delete it.",
        )
    with tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as tar:
        for entry in sorted(chosen, key=lambda entry: entry.name):
            _add(tar, entry)
        for name, path in sorted(extra.items()):
            _add(tar, Entry(path, name, "file", path.stat().st_size))
    digest = hashlib.sha256()
    with target.open("rb") as file:
        while piece := file.read(1 << 20):
            digest.update(piece)
    return Context(target, total, len(chosen) + len(extra), digest.hexdigest(), tuple(left_out[:20]))


def _dockerignore(base: Path, dockerfile: str) -> Callable[[str], bool]:
    for name in (f"{dockerfile}.dockerignore", ".dockerignore"):
        path = base / name
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                text = file.read(1 << 20).decode("utf-8-sig", "replace")
            patterns = [line.strip() for line in text.splitlines()]
            matcher = PatternMatcher([line for line in patterns if line and not line.startswith("#")])
            return lambda name: bool(matcher.matches(name))  # type: ignore[arg-type]  # the stub says PathLike
    return lambda _name: False


def _add(tar: tarfile.TarFile, entry: Entry) -> None:
    member = tarfile.TarInfo(entry.name)
    member.mtime = MTIME
    member.mode = 0o755 if entry.executable else 0o644
    if entry.kind == "link":
        member.type = tarfile.SYMTYPE
        member.linkname = str(entry.path.readlink())
        tar.addfile(member)
        return
    member.size = entry.bytes
    try:
        with entry.path.open("rb") as file:
            tar.addfile(member, file)
    except OSError as error:
        raise StudentError(f"{entry.name} can't be read, or changed while it was read ({error}).") from error


def _mb(count: int) -> str:
    return f"{count / 1e6:,.0f} MB" if count >= 1e6 else f"{count / 1e3:,.0f} kB"


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """Return a small tar archive of ours, for `Engine.put`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(data), 0o644, MTIME
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
