"""Put the results where they were asked for: files, the report's folder, the step summary and the log of a CI job."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from pytest_dockerlab.classroom.audience import shows
from pytest_dockerlab.errors import InfraError, UsageError
from pytest_dockerlab.report.escape import no_commands, plain
from pytest_dockerlab.report.files import KEPT, RESULTS
from pytest_dockerlab.report.formats import FORMATS, Context, Format, NoGrade
from pytest_dockerlab.report.schema import Results
from pytest_dockerlab.store import write_atomic

Say = Callable[[str], None]


class Log:
    """The log of the run. Under GitHub Actions, nothing between `open` and `close` can be a command to the runner."""

    def __init__(self, say: Say, actions: bool) -> None:
        """Keep where lines go."""
        self._say = say
        self._actions = actions
        self._token: str | None = None

    def open(self) -> None:
        """Stop commands; only who knows the token can start them again, and the child does not."""
        if self._actions and self._token is None:
            self._token = secrets.token_hex(16)
            self._say(f"::stop-commands::{self._token}")

    def line(self, text: str) -> None:
        """Show a line that may hold what a student wrote."""
        shown = plain(text)
        self._say(shown if self._token else no_commands(shown))

    def close(self) -> None:
        """Let commands through again."""
        if self._token is not None:
            self._say(f"::{self._token}::")
            self._token = None


def check_targets(submission: Path, targets: Iterable[Path | None]) -> None:
    """Refuse to write where a link of the student's would lead; raises `UsageError`."""
    root = submission.resolve()
    for target in targets:
        if target is None:
            continue
        plain = Path(os.path.normpath(target))
        for lexical in (root, submission.absolute()):
            inside = plain.is_relative_to(lexical) and plain != lexical
            leads_out = inside and (target.is_symlink() or not target.parent.resolve().is_relative_to(root))
            # `../results.json` from inside of it is fine, unless a link on the way makes it another place.
            detour = not inside and target.is_relative_to(lexical) and target.parent.resolve() != plain.parent.resolve()
            if leads_out or detour:
                raise UsageError(
                    f"{target} leads out of the submission by a link that is part of it.",
                    fix="Give --results and --report outside of the submission.",
                )


def name_in_report(form: Format) -> str:
    """Return what a format is called in a report: two systems call theirs `results.json` too, and ours stays ours."""
    return f"{form.name}-{form.file_name}" if form.file_name == RESULTS else form.file_name


def forget(results: Path | None, report: Path | None) -> None:
    """Remove results that lie there already: nobody may take a student's file, or an earlier run's, for this one's."""
    names = {RESULTS, *(name_in_report(form) for form in FORMATS.values())}
    for path in ([results] if results else []) + ([report / name for name in sorted(names)] if report else []):
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UsageError(f"{path} is in the way and can't be removed: {error.strerror}.") from error


def write_results(results: Results, path: Path) -> None:
    """Write `results.json` whole, never through a link."""
    write_atomic(path, json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n")


def write_report(results: Results, evidence: Path, target: Path, audience: str, hidden: bool) -> None:
    """Fill the report's folder: the results, and of the run's folder what the reader may see."""
    for path in sorted(evidence.iterdir()) if evidence.is_dir() else ():
        if path.name == RESULTS or path.suffix not in KEPT or not path.is_file() or path.is_symlink():
            continue
        if audience == "student" and not shows(path.name, hidden):
            continue
        data = path.read_bytes()
        if path.suffix == ".json" and path.stem in results["facts"]:
            fact = results["facts"][path.stem]
            if not fact:  # of an earlier run, as it was stored: with the labels
                continue
            data = json.dumps(fact, indent=1).encode()  # the reader's copy is the one in the results
        write_atomic(target / path.name, data)
    write_results(results, target / RESULTS)


def write_formats(names: Iterable[str], results: Results, context: Context, report: Path | None, say: Say) -> None:
    """Make each format: into the report's folder, else to standard output. No grade may mean no file; that is said."""
    for name in names:
        form = FORMATS[name]
        try:
            text = form.convert(results, context)
        except NoGrade as error:
            say(no_commands(f"{name}: not written: {error.message}"))
            continue
        if report is None:
            say(text.rstrip("\n"))
        else:
            write_atomic(report / name_in_report(form), text.encode())


def to_actions(results: Results, context: Context, environ: Mapping[str, str], say: Say) -> None:
    """Tell GitHub Actions: annotations in the log, Markdown in the step's summary."""
    for line in FORMATS["annotations"].convert(results, context).splitlines():
        say(line)
    summary = environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        try:
            with Path(summary).open("a", encoding="utf-8") as file:
                file.write(FORMATS["step-summary"].convert(results, context))
        except OSError as error:
            raise InfraError(f"$GITHUB_STEP_SUMMARY can't be written: {error.strerror}.") from error
