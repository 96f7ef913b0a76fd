"""`grade_path`: one submission, one child, one set of results; `dockerlab grade` and `regrade` are its commands."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.assignment import Assignment, Limits
from pytest_dockerlab.classroom import audience, child, lesson, publish, source, stored
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.escape import no_commands, one_line
from pytest_dockerlab.report.files import RESULTS
from pytest_dockerlab.report.formats import FORMATS, Context
from pytest_dockerlab.report.schema import Results, load_results
from pytest_dockerlab.settings import Settings

SPARE_S = 900.0  # for starting, waiting for a GPU's lease and cleaning up, on top of the assignment's own limit
INTERRUPTED, NO_GRADE = 2, 10
PYTEST_STATUS = range(6)
NOT_HANDED = ("assignment", "submission", "results", "report", "digits")


@dataclass(frozen=True)
class Request:
    """What is asked for. `settings` come from options and environment, as for `pytest --dockerlab`."""

    path: Path
    settings: Settings
    ref: str | None = None
    formats: tuple[str, ...] = ()
    reader: str = "student"
    submitted_at: str | None = None


@dataclass(frozen=True)
class Graded:
    """What came of it: the exit status, and the results as the reader may see them."""

    status: int
    results: Results | None = None


@dataclass(frozen=True)
class _Job:
    """One child to run."""

    assignment: Assignment
    folder: Path  # what `--dockerlab-submission` names
    handed: child.Handed


def grade_path(
    request: Request,
    say: publish.Say = print,
    environ: Mapping[str, str] | None = None,
    _plugins: tuple[Path, ...] = (),
) -> Graded:
    """Grade; never raises for what a student did. Raises `UsageError` and `InfraError` where nothing could be graded.

    `_plugins` are files of pytest plugins for the child. Tests put a fake engine there; no option, variable or file
    does.
    """
    settings = request.settings
    limits = lesson.load(settings.assignment).spec.limits if settings.assignment else Limits()
    with source.opened(request.path, request.ref, limits) as found:
        chosen = lesson.choose(settings.assignment, found.folder)
        if chosen.note:
            say(f"note: {chosen.note}")
        for name in found.left_out:
            say(no_commands(one_line(f"note: left out of the submission: {name}")))
        publish.check_targets(found.folder, (settings.results, settings.report))
        targets = [path for path in (settings.results, settings.report) if path is not None]
        handed = child.Handed(
            secret=settings.secret,
            digits=str(settings.digits) if settings.digits else None,
            commit=found.commit,
            exclude=tuple(str(path.parent.resolve() / path.name) for path in targets),
            hidden=settings.digits is not None or bool(settings.secret),
            quiet=request.reader == "student",
            plugins=tuple(map(str, _plugins)),
        )
        return _run(request, _Job(chosen.assignment, found.folder, handed), say, environ)


def regrade_path(
    request: Request,
    trusted: bool = False,
    say: publish.Say = print,
    environ: Mapping[str, str] | None = None,
    _plugins: tuple[Path, ...] = (),
) -> Graded:
    """Judge what an earlier run stored, without an engine. `trusted`: the path is a report of ours, wherever it is."""
    settings = request.settings
    given = lesson.load(settings.assignment) if settings.assignment else None
    with tempfile.TemporaryDirectory(prefix="dockerlab-regrade-") as own:
        run = stored.find(request.path, request.ref, given, settings, trusted)
        assignment = given or stored.assignment_of(run.told)
        if assignment.sha256 != run.told["assignment"]["sha256"]:
            say("note: the assignment has changed since this was graded")
        replay = Path(own) / "run"
        stored.copy_facts(run, replay)
        handed = child.Handed(
            secret=settings.secret,
            digits=str(settings.digits) if settings.digits else None,
            commit=run.told["submission"]["commit"],
            replay=str(replay),
            hidden=settings.digits is not None or bool(settings.secret) or (run.folder / audience.MARK).is_file(),
            quiet=request.reader == "student",
            plugins=tuple(map(str, _plugins)),
        )
        return _run(request, _Job(assignment, replay, handed), say, environ)


def _run(request: Request, job: _Job, say: publish.Say, environ: Mapping[str, str] | None) -> Graded:
    """Run the child, and publish what it found."""
    outer = os.environ if environ is None else environ
    settings = request.settings
    actions = outer.get("GITHUB_ACTIONS") == "true"
    secrets = audience.secrets_of(settings.digits, settings.secret)
    log = publish.Log(say, actions)
    publish.forget(settings.results, settings.report)
    with tempfile.TemporaryDirectory(prefix="dockerlab-grade-") as own:
        folder = Path(own).resolve()
        options = _options(settings, job, folder, request.reader)
        log.open()
        try:
            ended = child.run(
                folder,
                job.assignment.folder,
                job.folder,
                options,
                job.handed,
                lambda line: log.line(audience.scrub(line, secrets)),
                Deadline.after(job.assignment.spec.timeouts.total + SPARE_S),
                outer,
            )
            written = folder / RESULTS
            results = load_results(written) if written.is_file() else None
            status = _status(ended, results)
            if results is None:
                _explain(ended, status, request.reader, log)
                return Graded(status)
            results = audience.for_reader(results, request.reader, secrets, job.handed.hidden)
            context = Context(
                lang=settings.lang,
                environ=outer,
                submitted_at=request.submitted_at,
                width=shutil.get_terminal_size((100, 24)).columns,
            )
            for line in FORMATS["terminal"].convert(results, context).splitlines():
                log.line(line)
        finally:
            log.close()
        if settings.results is not None:
            publish.write_results(results, settings.results)
            say(f"results: {settings.results}")
        if settings.report is not None:
            publish.write_report(results, folder / "report", settings.report, request.reader, job.handed.hidden)
            say(f"report: {settings.report}")
        if actions:
            publish.to_actions(results, context, outer, say)
        publish.write_formats(request.formats, results, context, settings.report, say)
        return Graded(status, results)


def _options(settings: Settings, job: _Job, folder: Path, reader: str) -> list[str]:
    """Return the child's options: what was asked of us, each path ours or the submission."""
    options = [
        f"--dockerlab-assignment={job.assignment.folder}",
        f"--dockerlab-submission={job.folder}",
        f"--dockerlab-results={folder / RESULTS}",
        f"--dockerlab-report={folder / 'report'}",
    ]
    for key in sorted(settings.given - set(NOT_HANDED)):
        value = getattr(settings, key)
        if isinstance(value, bool):
            options += [f"--dockerlab-{key}"] if value else []
        else:
            options.append(f"--dockerlab-{key}={value}")
    if reader == "student":  # our own report follows, escaped and without what is hidden
        options += ["--no-summary", "--tb=no"]
    return options


def _status(ended: child.Ended, results: Results | None) -> int:
    """Return our exit status: pytest's own, or 10 where there is no grade."""
    if ended.timed_out:
        return NO_GRADE
    if ended.status < 0:
        return INTERRUPTED if ended.asked else NO_GRADE
    if results is None and ended.status in (0, 1):
        return NO_GRADE
    return ended.status if ended.status in PYTEST_STATUS else NO_GRADE


def _explain(ended: child.Ended, status: int, reader: str, log: publish.Log) -> None:
    if ended.timed_out:
        why = "the grader was stuck and has been ended"
    elif ended.asked:
        why = "interrupted"
    elif ended.status < 0:
        why = f"the grader was ended by signal {-ended.status}: out of memory?"
    else:
        why = f"pytest ended with status {ended.status} before there was a grade"
        why += "; --audience ta shows its own report" if reader == "student" else ""
    log.line(f"no grade (exit status {status}): {why}")


def check_formats(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names, each once; raises `UsageError` that lists what there is."""
    wrong = [name for name in names if name not in FORMATS]
    if wrong:
        raise UsageError(f"There is no format {wrong[0]!r} (there are: {', '.join(FORMATS)}).")
    return tuple(dict.fromkeys(names))
