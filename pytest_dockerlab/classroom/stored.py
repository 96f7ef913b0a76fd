"""Find what an earlier run stored of a submission, so that it can be judged again without a container."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab import paths
from pytest_dockerlab.assignment import Assignment, Limits, bundled_names
from pytest_dockerlab.classroom import source
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.pipeline import KINDS
from pytest_dockerlab.report.files import RESULTS
from pytest_dockerlab.report.schema import Results, load_results
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission

LOGS = (".log", ".svg", ".png")


def runs_folder() -> Path:
    """Return where runs are kept."""
    return paths.cache_dir() / "runs"


@dataclass(frozen=True)
class Run:
    """What was stored: the run's folder, its results, and whose they are."""

    folder: Path
    told: Results


def find(path: Path, ref: str | None, assignment: Assignment | None, settings: Settings, trusted: bool) -> Run:
    """Return the stored run: the path itself, or of all runs of that submission the newest one (by that assignment).

    A folder outside our cache is a submission, whatever it holds: a student can hand in a `results.json` too. Two who
    hand in the same files share a run, so name and commit are those of the path that is asked for.
    """
    here = path.resolve()
    if (here / RESULTS).is_file() and (trusted or here.parent == runs_folder().resolve()):
        return Run(here, load_results(here / RESULTS))
    if trusted:
        raise UsageError(f"{path} holds no {RESULTS}.", fix="Give the folder that --report filled.")
    limits = assignment.spec.limits if assignment else Limits()
    with source.opened(path, ref, limits) as found:
        ours = frozenset(one.parent.resolve() / one.name for one in (settings.results, settings.report) if one)
        asked = Submission.load(found.folder, Limits(), ours, found.commit)
    runs = []
    for file in runs_folder().glob(f"*/{RESULTS}"):
        try:
            told = load_results(file)
        except UsageError:  # of another version
            continue
        if told["submission"]["sha256"] == asked.sha256:
            by_it = assignment is not None and told["assignment"]["name"] == assignment.name
            runs.append((by_it, file.stat().st_mtime_ns, file.parent, told))
    if not runs:
        raise UsageError(
            f"{path} was never graded on this machine, as it is now.", fix="Grade it first: dockerlab grade PATH."
        )
    by_it, _, folder, told = max(runs, key=lambda run: run[:2])
    if assignment is not None and not by_it:
        known = ", ".join(sorted({one["assignment"]["name"] for *_, one in runs}))
        raise UsageError(
            f"{path} was never graded by {assignment.name} on this machine; it was by: {known}.",
            fix="Grade it first: dockerlab grade PATH --assignment …",
        )
    return Run(folder, {**told, "submission": {"name": asked.name, "sha256": asked.sha256, "commit": asked.commit}})


def assignment_of(told: Results) -> Assignment:
    """Return the assignment to judge by where none is given: the bundled one of that name."""
    name = told["assignment"]["name"]
    if name not in bundled_names():
        raise UsageError(f"The assignment {name!r} is none of the bundled ones.", fix="Give --assignment PATH.")
    return Assignment.load(str(paths.bundled("assignments", name)))


def copy_facts(run: Run, target: Path) -> None:
    """Copy what the run used. An earlier, longer run of the same key may have left more, which is not of this grade."""
    target.mkdir(parents=True)
    used = {name for name in KINDS if run.told["facts"].get(name)} | {"dockerfile", "environment"}
    for path in sorted(run.folder.iterdir()):
        wanted = path.suffix in LOGS or (path.suffix == ".json" and path.stem in used)
        if wanted and path.is_file() and not path.is_symlink():
            shutil.copyfile(path, target / path.name)
    (target / RESULTS).write_text(json.dumps(run.told), encoding="utf-8")
