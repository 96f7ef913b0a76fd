"""Take a commit out of a repository that nobody trusts, and fetch one that the instructor names.

The hostile side: a repository's configuration, hooks, filters, `core.fsmonitor`, attributes and submodules can all run
commands, so git is never run *in* it. An empty repository of ours borrows its objects, names are looked up by reading
the ref files here, and blobs are written by `SafeTree` as they are: no checkout, no `git archive`, no `export-subst`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from pytest_dockerlab.classroom.child import search_path
from pytest_dockerlab.classroom.tree import Bounds, SafeTree
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import InfraError, UsageError
from pytest_dockerlab.report.escape import one_line

EXPORT_S, FETCH_S = 300.0, 300.0
MAX_REF_FILE = 16 << 20  # packed-refs of a repository with 100,000 refs has 8 MB
MAX_LISTING = 64 << 20
_OID = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")
_SHORT = re.compile(r"^[0-9a-f]{7,64}$")
_REF = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9._/+@-]{0,200}$")
# Parsers of git's that only make it faster; each has had a hole, and a hostile repository brings the input.
_NO_CACHES = ("-c", "core.commitGraph=false", "-c", "core.multiPackIndex=false", "-c", "pack.readReverseIndex=false")


def git_folder(path: Path) -> Path | None:
    """Return the repository's own folder, bare or not; `None` where the folder is no repository."""
    for folder in (path / ".git", path):
        if (folder / "HEAD").is_file() and (folder / "objects").is_dir():
            return folder
    return None


def export(repository: Path, ref: str, target: Path, bounds: Bounds) -> tuple[str, list[str]]:
    """Write what the commit or tag `ref` holds into the empty folder `target`; its hash, and what was left out."""
    folder = git_folder(repository)
    if folder is None:
        raise UsageError(f"{repository} is no git repository, so --ref {ref} means nothing there.")
    folder = folder.resolve()
    objects = (folder / "objects").resolve()
    if objects != folder / "objects" or (objects / "info" / "alternates").exists():
        raise UsageError(
            f"{repository} borrows its objects from elsewhere.", fix="Clone it again, without --shared or --reference."
        )
    named = resolve(folder, ref)
    with tempfile.TemporaryDirectory(prefix="dockerlab-git-") as own:
        git = _Git(Path(own), {"GIT_ALTERNATE_OBJECT_DIRECTORIES": str(objects)}, Deadline.after(EXPORT_S), repository)
        git.init("sha256" if len(named) == 64 else "sha1")
        commit = git.commit(named, ref)
        return commit, git.write(commit, "", target, repository.name, bounds)


def fetch(url: str, subfolder: str, commit: str, target: Path, bounds: Bounds) -> None:
    """Write a folder of a commit of a repository that the instructor names into `target`.

    This is the trusted side: the user's own git configuration and credentials count. Nothing is checked out either.
    """
    with tempfile.TemporaryDirectory(prefix="dockerlab-git-") as own:
        git = _Git(Path(own), None, Deadline.after(FETCH_S))
        git.init("sha256" if len(commit) == 64 else "sha1")
        options = ("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        try:
            git.run(*options, "--depth=1", "--", url, commit)
        except UsageError:  # a server that gives only what has a name
            git.run(*options, "--", url, "+refs/heads/*:refs/remotes/o/*", "+refs/tags/*:refs/tags/*")
        git.write(git.commit(commit, commit), subfolder, target, url, bounds)


def resolve(folder: Path, ref: str) -> str:
    """Return the hash (perhaps a short one) that a name stands for, by reading the ref files and nothing else."""
    if _SHORT.match(ref):
        packed = _packed(folder)
        return next((packed[name] for name in _names(ref) if name in packed), ref)
    if not _REF.match(ref) or ".." in ref or ref.endswith((".lock", "/")):
        raise UsageError(f"--ref {ref!r} is neither a commit's hash nor a tag or branch.")
    seen: set[str] = set()
    name: str | None = ref
    while name is not None and name not in seen and len(seen) < 6:
        seen.add(name)
        found = _lookup(folder, name)
        if found is None:
            break
        if _OID.match(found):
            return found
        name = found.removeprefix("ref: ").strip() if found.startswith("ref: ") else None
        if name is not None and (not _REF.match(name) or ".." in name):
            break
    raise UsageError(
        f"--ref {ref!r}: the repository has no such commit, tag or branch.",
        fix="Give a commit's hash, or fetch the tag first: git fetch --tags.",
    )


def _names(ref: str) -> tuple[str, ...]:
    return (ref, f"refs/{ref}", f"refs/tags/{ref}", f"refs/heads/{ref}", f"refs/remotes/{ref}")


def _lookup(folder: Path, ref: str) -> str | None:
    packed = _packed(folder)
    for name in _names(ref):
        path = folder / name
        if name == "HEAD" or name.startswith("refs/"):
            text = _plain_file(folder, path, 4096)
            if text is not None:
                return text.strip()
        if name in packed:
            return packed[name]
    return None


def _packed(folder: Path) -> dict[str, str]:
    found = {}
    for line in (_plain_file(folder, folder / "packed-refs", MAX_REF_FILE) or "").splitlines():
        oid, _, name = line.partition(" ")
        if _OID.match(oid):
            found[name] = oid
    return found


def _plain_file(folder: Path, path: Path, limit: int) -> str | None:
    """Return a bounded text file that is really in the folder: a link could lead to any file of the grader's."""
    try:
        if path.is_symlink() or not path.is_file() or path.resolve() != folder / path.relative_to(folder):
            return None
        with path.open("rb") as file:
            return file.read(limit).decode("ascii", "replace")
    except OSError:
        return None


class _Git:
    """git on an empty repository of ours. With `borrowed`, nobody's configuration counts."""

    def __init__(
        self, folder: Path, borrowed: Mapping[str, str] | None, deadline: Deadline, hostile: Path | None = None
    ) -> None:
        self._folder = folder
        self._deadline = deadline
        path = search_path(os.environ, hostile) if hostile else os.environ.get("PATH", os.defpath)
        found = shutil.which("git", path=path)
        if found is None:
            raise InfraError("git is not installed here.", fix="Install git, or hand in the folder without --ref.")
        self._program = found
        env = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        if borrowed is not None:
            env = {"PATH": path, "HOME": str(folder), "LC_ALL": "C", **borrowed}
            env |= {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
        self._env = env | {
            "GIT_DIR": str(folder / "own.git"),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_ATTR_NOSYSTEM": "1",
        }

    def init(self, object_format: str) -> None:
        self.run("init", "--quiet", "--bare", "--template=", f"--object-format={object_format}")

    def run(self, *arguments: str) -> bytes:
        """Run git and return at most `MAX_LISTING` bytes of its output; raises `UsageError` with its own words.

        A tree of a few hundred bytes can list 10^10 files, so the output is never simply collected.
        """
        with tempfile.TemporaryFile() as errors, self._start(arguments, errors) as process:
            assert process.stdout is not None
            timer = threading.Timer(self._deadline.remaining_s, process.kill)
            timer.start()
            try:
                output = process.stdout.read(MAX_LISTING + 1)
            finally:
                if process.stdout.read(1):
                    process.kill()
                status = process.wait()
                timer.cancel()
            errors.seek(0)
            said = one_line(errors.read(2000).decode("utf-8", "replace").strip())
        if self._deadline.passed:
            raise InfraError(f"git {arguments[0]} took too long.")
        if len(output) > MAX_LISTING:
            raise UsageError("The repository has too many files.")
        if status:
            raise UsageError(f"git {arguments[0]} failed: {said or f'status {status}'}")
        return output

    def _start(self, arguments: tuple[str, ...], errors: IO[bytes] | int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [self._program, *_NO_CACHES, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            cwd=self._folder,
            env=self._env,
        )

    def commit(self, name: str, asked: str) -> str:
        """Return the full hash of a commit; a tag is peeled."""
        try:
            found = self.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        except UsageError:
            raise UsageError(
                f"{asked!r}: the repository has no such commit.",
                fix="In a shallow clone, fetch it first: git fetch --depth=1 origin REF.",
            ) from None
        return found.decode().strip()

    def write(self, commit: str, subfolder: str, target: Path, what: str, bounds: Bounds) -> list[str]:
        """Write the files of a commit; submodules are empty folders, as in a fresh clone."""
        tree = SafeTree(target, what, bounds)
        wanted = tree.parts(subfolder)
        prefix = "".join(f"{part}/" for part in wanted)
        listing = self.run("ls-tree", "-r", "-z", "-l", "--full-tree", commit, *([prefix] if prefix else []))
        blobs: list[tuple[str, str, tuple[str, ...]]] = []
        total = 0
        for row in listing.split(b"\0")[:-1]:
            head, _, raw = row.partition(b"\t")
            mode, kind, oid, size = head.decode("ascii").split()
            parts = tree.parts(raw.decode("utf-8", "surrogateescape"))[len(wanted) :]
            if kind != "blob" or tree.skips(parts):
                tree.left_out.append(raw.decode("utf-8", "replace"))
                continue
            total += int(size)
            if total > bounds.bytes or len(blobs) >= bounds.entries:
                raise tree.refuse(f"it has more than {bounds.bytes >> 20} MiB or {bounds.entries} files")
            blobs.append((mode, oid, parts))
        if prefix and not blobs:
            raise UsageError(f"{what} has no folder {subfolder!r} at {commit[:12]}.")
        for (mode, _oid, parts), pieces in zip(blobs, self._blobs([oid for _, oid, _ in blobs], tree), strict=True):
            if mode == "120000":
                tree.link(parts, b"".join(pieces)[:4096].decode("utf-8", "surrogateescape"))
            else:
                tree.file(parts, pieces, executable=mode == "100755")
        tree.finish()
        return tree.left_out

    def _blobs(self, oids: list[str], tree: SafeTree) -> Iterator[list[bytes]]:
        """Yield the content of each blob, from one `git cat-file --batch`."""
        if not oids:
            return
        with self._start(("cat-file", "--batch"), subprocess.DEVNULL) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                for oid in oids:
                    if self._deadline.passed:
                        raise InfraError("git cat-file took too long.")
                    process.stdin.write(f"{oid}\n".encode())
                    process.stdin.flush()
                    head = process.stdout.readline(200).split()
                    if len(head) != 3 or head[1] != b"blob":
                        raise tree.refuse("an object is missing or broken")
                    data = process.stdout.read(int(head[2]))
                    if process.stdout.read(1) != b"\n":
                        raise tree.refuse("an object is missing or broken")
                    yield [data]
            finally:
                process.kill()
