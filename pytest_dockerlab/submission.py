"""A submission: a student's folder. Every byte of it is hostile input."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import Field, field_validator

from pytest_dockerlab import tomlfile
from pytest_dockerlab.assignment import Limits, Table, TrainTable
from pytest_dockerlab.context import real, walk
from pytest_dockerlab.errors import UsageError

FILE = "dockerlab.toml"
MAX_DOCKERFILE = 1 << 20


def _inside(value: str | None) -> str | None:
    """Refuse a path that leaves the submission."""
    if value is None:
        return None
    path = PurePosixPath(value)
    if path.is_absolute() or ".." in path.parts or "\0" in value or "\n" in value:
        raise ValueError("the path has to stay inside the submission (relative, no `..`)")
    return value


class StudentTrain(Table):
    """`[train]` of `dockerlab.toml`."""

    dockerfile: str | None = Field(default=None, max_length=300)
    context: str = Field(default=".", max_length=300)

    _paths = field_validator("dockerfile", "context")(_inside)


class StudentServe(Table):
    """`[serve]` of `dockerlab.toml`: only what the conventions would not find."""

    dockerfile: str | None = Field(default=None, max_length=300)
    context: str | None = Field(default=None, max_length=300)
    artifact: str | None = Field(default=None, max_length=300)
    server: Literal["torchserve", "triton", "http"] | None = None
    model: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_.-]{1,80}$")
    port: int | None = Field(default=None, ge=1, le=65535)
    path: str | None = Field(default=None, max_length=200)
    handler: str | None = Field(default=None, max_length=300)
    model_file: str | None = Field(default=None, max_length=300)
    model_repository: str | None = Field(default=None, max_length=300)

    _paths = field_validator("dockerfile", "context", "artifact", "handler", "model_file", "model_repository")(_inside)


class SubmissionFile(Table):
    """`dockerlab.toml` in a student's repository. It names things; it can't change what is graded or how."""

    assignment: str | None = Field(default=None, pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    train: StudentTrain = StudentTrain()
    serve: StudentServe = StudentServe()


@dataclass(frozen=True)
class Dockerfile:
    """Where the training Dockerfile is, or what was found in its place."""

    path: str | None
    text: str = ""
    near_misses: tuple[str, ...] = ()
    looked_for: tuple[str, ...] = ()


@dataclass(frozen=True)
class Submission:
    """A loaded submission. `exclude` holds paths of ours inside it (results, reports), which are no part of it."""

    root: Path
    name: str
    file: SubmissionFile
    sha256: str
    exclude: frozenset[Path] = frozenset()
    commit: str | None = None  # where the folder is what a commit holds

    @classmethod
    def load(
        cls, path: Path, limits: Limits, exclude: frozenset[Path] = frozenset(), commit: str | None = None
    ) -> Submission:
        """Load a folder; raises `UsageError` for what can't be graded at all."""
        if not path.exists():
            raise UsageError(f"The submission {path} does not exist.", fix="Give the folder of the repository.")
        if not path.is_dir():
            raise UsageError(
                f"The submission {path} is a file, not a folder.",
                fix="Give the folder that holds the Dockerfile; unpack an archive first.",
            )
        if not os.access(path, os.R_OK | os.X_OK):
            raise UsageError(f"The submission {path} can't be read (permission denied).", fix=f"chmod -R u+rX {path}")
        root = path.resolve()
        config = root / FILE
        file = tomlfile.load(config, SubmissionFile) if config.is_file() and not config.is_symlink() else None
        return cls(root, root.name, file or SubmissionFile(), _hash(root, limits, exclude), exclude, commit)

    @classmethod
    def recorded(cls, folder: Path, told: Mapping[str, Any]) -> Submission:
        """Return the submission of an earlier run, as its `results.json` tells it; its files may be gone."""
        return cls(folder, told["name"], SubmissionFile(), told["sha256"], commit=told["commit"])

    def files(self, limit: int) -> list[str]:
        """Return the relative paths of at most `limit` files, sorted."""
        names = []
        for entry in walk(self.root, exclude=self.exclude):
            names.append(entry.name)
            if len(names) >= limit:
                break
        return sorted(names)

    def read_text(self, name: str) -> str | None:
        """Return a text file of the submission, cut at 1 MiB; `None` where there is none or it is a link out."""
        path = self.root / name
        try:
            if not real(path).is_relative_to(self.root) or not path.is_file():
                return None
            with path.open("rb") as file:
                return file.read(MAX_DOCKERFILE).decode("utf-8-sig", "replace")
        except OSError:
            return None

    def dockerfile(self, train: TrainTable, on_gpu: bool) -> Dockerfile:
        """Find the training Dockerfile: the one that `dockerlab.toml` names, else by convention and accelerator."""
        own = self.file.train.dockerfile
        if own:
            names: tuple[str, ...] = (own,)
        elif on_gpu:
            names = train.dockerfiles_gpu + train.dockerfiles + train.dockerfiles_cpu
        else:
            names = train.dockerfiles_cpu + train.dockerfiles + train.dockerfiles_gpu
        for name in names:
            text = self.read_text(name)
            if text is not None:
                return Dockerfile(name, text, looked_for=names)
        pattern = re.compile(r"docker.?file|\.dockerfile$", re.I)
        near = [name for name in self.files(2000) if pattern.search(PurePosixPath(name).name)]
        return Dockerfile(None, near_misses=tuple(near[:5]), looked_for=names)


def _hash(root: Path, limits: Limits, exclude: frozenset[Path]) -> str:
    """Hash names and contents. Past the context limits, size and time of change stand for the content."""
    digest = hashlib.sha256()
    total = 0
    for entry in sorted(walk(root, exclude=exclude), key=lambda entry: entry.name):
        digest.update(f"{entry.kind}\0{entry.name}\0{entry.executable}\0".encode("utf-8", "surrogateescape"))
        total += entry.bytes
        if entry.kind == "link":
            digest.update(str(entry.path.readlink()).encode("utf-8", "surrogateescape"))
        elif entry.kind == "file" and total <= limits.context:
            try:
                with entry.path.open("rb") as file:
                    while piece := file.read(1 << 20):
                        digest.update(piece)
            except OSError as error:
                raise UsageError(
                    f"{entry.path} can't be read ({error.strerror}).", fix="Make the submission readable."
                ) from error
        else:
            digest.update(f"{entry.bytes}:{entry.mtime_ns}".encode())
        digest.update(b"\0")
    return digest.hexdigest()
