"""Where the assignment comes from: the instructor's side. A student's repository can't bring one of its own."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab import paths
from pytest_dockerlab.assignment import FILE, Assignment, Limits, bundled_names
from pytest_dockerlab.classroom import gitrepo
from pytest_dockerlab.classroom.source import bounds_of
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.submission import Submission

_HASH = re.compile(r"^([0-9a-f]{40}|[0-9a-f]{64})$")


@dataclass(frozen=True)
class Lesson:
    """An assignment, and a sentence where it was not the caller who named it."""

    assignment: Assignment
    note: str | None = None


def choose(given: str | None, submission: Path) -> Lesson:
    """Load what was given; without that, the *bundled* assignment that the submission's `dockerlab.toml` names.

    Raises `UsageError` for a folder inside the submission: its tests would be the student's own.
    """
    if given is not None:
        assignment = load(given)
        if assignment.folder.resolve().is_relative_to(submission.resolve()):
            raise UsageError(
                f"The assignment {assignment.folder} lies inside the submission: the student could have written it.",
                fix="Give a bundled name, a folder of your own, or git+URL//FOLDER@COMMIT.",
            )
        return Lesson(assignment)
    name = Submission.load(submission, Limits()).file.assignment
    if name is None:
        raise UsageError(
            "No assignment was named.", fix=f"Give --assignment: {', '.join(bundled_names())}, a folder or git+URL."
        )
    if name not in bundled_names():
        raise UsageError(
            f"The submission names the assignment {name!r}, which is none of the bundled ones "
            f"({', '.join(bundled_names())}).",
            fix="Give --assignment: only you may say which tests are run.",
        )
    return Lesson(
        Assignment.load(str(paths.bundled("assignments", name))),
        f"no --assignment was given: the submission's dockerlab.toml says {name!r}, which is a bundled one",
    )


def load(given: str) -> Assignment:
    """Load a bundled name, a folder, or `git+URL[//FOLDER]@COMMIT`."""
    if not given.startswith("git+"):
        return Assignment.load(given)
    address, _, commit = given.removeprefix("git+").rpartition("@")
    scheme, colon, rest = address.partition("://")
    place, _, folder = rest.partition("//")
    if not colon or not place or not scheme.isalpha() or not _HASH.match(commit):
        raise UsageError(
            f"{given!r} is no assignment at a commit.",
            fix="Write git+https://host/course.git//labs/mnist@COMMIT, with all 40 hex digits: a tag can be moved.",
        )
    url, folder = f"{scheme}://{place}", folder.strip("/")
    kept = paths.cache_dir() / "assignments" / hashlib.sha256(f"{url}\n{folder}\n{commit}".encode()).hexdigest()[:24]
    if not (kept / FILE).is_file():
        _fetch(url, folder, commit, kept)
    return Assignment.load(str(kept))


def _fetch(url: str, folder: str, commit: str, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=kept.parent, prefix=".new-") as own:
        target = Path(own) / "assignment"
        target.mkdir()
        gitrepo.fetch(url, folder, commit, target, bounds_of(Limits()))
        if not (target / FILE).is_file():
            raise UsageError(f"{url} has no {FILE} in {folder or 'its top folder'!r} at {commit[:12]}.")
        shutil.rmtree(kept, ignore_errors=True)  # what an interrupted run left
        target.rename(kept)
