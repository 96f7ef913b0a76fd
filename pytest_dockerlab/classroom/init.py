"""Write a student's starter, the workflows that grade it, and the first version of a new assignment."""

from __future__ import annotations

import json
import re
from pathlib import Path

from pytest_dockerlab import __version__, dockerfiles
from pytest_dockerlab.assignment import Assignment, AssignmentFile, bundled_names
from pytest_dockerlab.classroom import lesson
from pytest_dockerlab.context import walk
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.store import write_atomic
from pytest_dockerlab.submission import FILE as SUBMISSION_FILE

TEMPLATES = Path(__file__).parent / "templates"
CLASSROOMS = ("plain", "classroom50", "classroom")
WORKFLOWS = Path(".github/workflows")
# What a workflow may say after FROM without quoting: an image's name, and nothing of a shell's.
_IMAGE = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/:@-]{0,250}$")


def starter_files(source: str) -> tuple[Assignment, dict[Path, bytes]]:
    """Return the files of an assignment's `starter/`, by relative path; a `dockerlab.toml` is added where it lacks."""
    assignment = lesson.load(source)
    folder = assignment.folder / "starter"
    if not folder.is_dir():
        raise UsageError(f"The assignment {assignment.name} has no starter/ to begin with.")
    files = {Path(entry.name): entry.path.read_bytes() for entry in walk(folder) if entry.kind == "file"}
    files.setdefault(Path(SUBMISSION_FILE), f'assignment = "{assignment.name}"\n'.encode())
    return assignment, files


def workflow_files(
    assignment: Assignment, source: str, files: dict[Path, bytes], classrooms: tuple[str, ...]
) -> dict[Path, bytes]:
    """Return the workflows, one for each system."""
    told = source if source.startswith("git+") else assignment.name
    values = {
        "PACKAGE": f"pytest-dockerlab=={__version__}",
        # A JSON string is a YAML string.
        "ASSIGNMENT": json.dumps(told),
        "IMAGES": json.dumps(" ".join(_images(files))),
    }
    return {
        WORKFLOWS / f"{'dockerlab' if name == 'plain' else name}.yml": _filled(
            (TEMPLATES / "github" / f"{name}.yml").read_text("utf-8"), values
        )
        for name in classrooms
    }


def is_reachable(assignment: Assignment, source: str) -> bool:
    """Whether a runner elsewhere can find the assignment."""
    return source.startswith("git+") or assignment.name in bundled_names()


def assignment_files(name: str) -> dict[Path, bytes]:
    """Return a new assignment that gives its own solution all points."""
    pattern = str(AssignmentFile.model_fields["name"].metadata[0].pattern)
    if not re.fullmatch(pattern, name):
        raise UsageError(f"{name!r} can't name an assignment.", fix="Begin with a letter a-z; then a-z, 0-9, - and _.")
    test = f"test_{name.replace('-', '_')}.py"
    root = TEMPLATES / "assignment"
    values = {"NAME": name, "TEST": test}
    files = {}
    for path in sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file()):
        target = path.with_name(path.name.removesuffix(".tmpl"))  # so that no tool takes our templates for code
        if target.name == "test_NAME.py":
            target = target.with_name(test)
        files[target] = _filled((root / path).read_text("utf-8"), values)
    return files


def write(folder: Path, files: dict[Path, bytes], force: bool) -> None:
    """Write all files or, where one is there already and differs, none; never through a link."""
    there = [path for path in files if _is_other(folder / path, files[path])]
    if there and not force:
        shown = ", ".join(map(str, there[:5])) + (f" and {len(there) - 5} more" if len(there) > 5 else "")
        raise UsageError(f"{folder} has files of its own: {shown}.", fix="Give another folder, or --force.")
    for path, data in sorted(files.items()):
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.parent.resolve().is_relative_to(folder.resolve()):
            raise UsageError(f"{target.parent} is a link that leads out of {folder}.")
        write_atomic(target, data)


def _is_other(path: Path, data: bytes) -> bool:
    if path.is_symlink():
        return True
    return path.exists() and (not path.is_file() or path.read_bytes() != data)


def _images(files: dict[Path, bytes]) -> list[str]:
    found: list[str] = []
    for path, data in sorted(files.items()):
        if "dockerfile" in path.name.lower():
            found += dockerfiles.parse(data.decode("utf-8", "replace")).bases
    return sorted({name for name in found if _IMAGE.match(name) and name != "scratch"})


def _filled(text: str, values: dict[str, str]) -> bytes:
    for name, value in values.items():
        text = text.replace(f"@{name}@", value)
    return text.encode()
