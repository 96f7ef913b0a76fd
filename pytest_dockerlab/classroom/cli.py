"""`dockerlab grade` and `dockerlab regrade`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pytest_dockerlab.classroom.audience import AUDIENCES
from pytest_dockerlab.errors import DockerLabError, InfraError, UsageError
from pytest_dockerlab.report.escape import workflow_text
from pytest_dockerlab.report.formats import FORMATS
from pytest_dockerlab.report.formats.base import to_json
from pytest_dockerlab.settings import LANGUAGES, RUNTIMES, Settings, resolve

if TYPE_CHECKING:
    from pytest_dockerlab.classroom.grading import Graded

EXIT_USAGE, EXIT_INFRA = 4, 10

_STATUS = """Exit status: pytest's own (0 all points, 1 something is lost, 2 interrupted, 4 used wrongly, 5 no test),
and 10 where the engine or the machine is at fault and there is no grade.
"""
_GRADE = f"""\b
Examples:
  dockerlab grade .
  dockerlab grade repos/alice --assignment mnist --ref submit/1 --results alice.json
  dockerlab grade bob.zip --assignment git+https://example.org/course.git//labs/mnist@COMMIT --audience ta
  dockerlab grade . --report out --format junit --format gradescope
  dockerlab grade . --json | jq .score

{_STATUS}
Hidden digits: --digits DIR (or DOCKERLAB_DIGITS) names a folder of PNG files with labels.csv, and DOCKERLAB_SECRET
seeds which of them are asked. Neither the labels nor the secret reach a container, a log or a student's report.
"""
_REGRADE = f"""\b
Examples:
  dockerlab regrade repos/alice
  dockerlab regrade ~/.cache/dockerlab/runs/0123456789abcdef01234567 --assignment labs/mnist
  dockerlab regrade out/alice --from-report --results alice.json

{_STATUS}"""


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


_COMMON = _options(
    click.option("--assignment", metavar="NAME|PATH|git+URL", help="A bundled one, a folder, or a folder at a commit."),
    click.option("--results", metavar="FILE", help="Write results.json here."),
    click.option("--report", metavar="DIR", help="Write the results, the evidence and the formats here."),
    click.option(
        "--format",
        "formats",
        multiple=True,
        type=click.Choice(list(FORMATS)),
        help="Also make this of the results: into --report, else to standard output. Can be repeated.",
    ),
    click.option("--lang", type=click.Choice(LANGUAGES), help="Language of the messages."),
    click.option(
        "--audience",
        type=click.Choice(AUDIENCES),
        default="student",
        show_default=True,
        help="For whom results, report and log are: students see nothing of hidden digits.",
    ),
    click.option("--digits", metavar="DIR", help="A folder of hidden digits (PNG files and labels.csv)."),
    click.option("--ref", metavar="COMMIT|TAG", help="Of a git repository: exactly what this commit holds."),
    click.option("--submitted-at", metavar="TIME", help="When it was handed in, e.g. 2026-09-01T08:30:00Z."),
    click.option("--json", "as_json", is_flag=True, help="Print results.json; all else goes to standard error."),
)


@click.command("grade", epilog=_GRADE)
@click.argument("path", type=click.Path(path_type=Path))
@_COMMON
@click.option("--gpu", metavar="auto|none|required|INDEX[,INDEX]|UUID", help="Which GPU to train on.")
@click.option("--runtime", type=click.Choice(RUNTIMES), help="Container runtime for training.")
@click.option("--fresh", is_flag=True, default=None, help="Ignore what earlier runs stored.")
@click.option("--keep", is_flag=True, default=None, help="Leave containers and images behind.")
def grade(path: Path, as_json: bool, **options: Any) -> int:
    """Grade a submission, and trust nothing in it.

    PATH is a folder, a git repository (--ref names the commit), a zip or a tar. The assignment's tests run in a
    process of their own, on which no file and no variable of the submission has any influence.
    """
    from pytest_dockerlab.classroom.grading import grade_path

    return _safely(lambda: grade_path(_request(path, options), _say_beside if as_json else _say), as_json)


@click.command("regrade", epilog=_REGRADE)
@click.argument("path", type=click.Path(path_type=Path))
@_COMMON
@click.option("--from-report", is_flag=True, help="PATH is a folder that --report filled; you vouch for what is in it.")
def regrade(path: Path, from_report: bool, as_json: bool, **options: Any) -> int:
    """Judge again what an earlier run stored: no container, no engine.

    PATH is a run's folder, or a submission that was graded on this machine.
    """
    from pytest_dockerlab.classroom.grading import regrade_path

    say = _say_beside if as_json else _say
    return _safely(lambda: regrade_path(_request(path, options), from_report, say), as_json)


def _safely(work: Callable[[], Graded], as_json: bool) -> int:
    """Return the exit status; an error may quote what a student wrote, so it is made fit for any log."""
    try:
        graded = work()
        if as_json and graded.results is not None:
            click.echo(to_json(graded.results), nl=False)
        return graded.status
    except DockerLabError as error:
        click.echo(workflow_text(f"error: {error}"), err=True)
        return EXIT_INFRA if isinstance(error, InfraError) else EXIT_USAGE


def _say(line: str) -> None:
    """Print a line now: whoever looks on, looks on live."""
    click.echo(line)
    sys.stdout.flush()


def _say_beside(line: str) -> None:
    """Print a line where it does not mix with the JSON."""
    click.echo(line, err=True)


def _request(path: Path, options: dict[str, Any]) -> Any:
    from pytest_dockerlab.classroom.grading import Request, check_formats

    formats, ref = check_formats(options.pop("formats")), options.pop("ref")
    reader, submitted_at = options.pop("audience"), options.pop("submitted_at")
    environ = {name: value for name, value in os.environ.items() if name != "DOCKERLAB_SUBMISSION"}
    settings: Settings = resolve(options, environ=environ)
    if settings.digits is not None:
        _check_digits(settings.digits, reader)
    return Request(path, settings, ref, formats, reader, submitted_at)


def _check_digits(folder: Path, reader: str) -> None:
    """Refuse a folder of digits that can't be used, before anything runs; which file it is, students don't learn."""
    from pytest_dockerlab.data.digits import load_digits

    try:
        load_digits(folder)
    except UsageError:
        if reader == "ta":
            raise
        raise UsageError(
            "The folder that --digits or DOCKERLAB_DIGITS names is not there, or holds no digits that can be used.",
            fix="--audience ta says what is wrong with it.",
        ) from None
