"""`dockerlab report`: one score in every format, and gradebooks from many."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from pytest_dockerlab.errors import DockerLabError, InfraError, UsageError
from pytest_dockerlab.report.canvas import fill_canvas
from pytest_dockerlab.report.escape import no_commands
from pytest_dockerlab.report.formats import FORMATS, Context
from pytest_dockerlab.report.formats.base import to_json
from pytest_dockerlab.report.gradebook import Filled, gradebook_csv
from pytest_dockerlab.report.moodle import fill_moodle
from pytest_dockerlab.report.roster import Roster
from pytest_dockerlab.report.schema import Results, load_results
from pytest_dockerlab.report.sheet import Sheet
from pytest_dockerlab.report.words import LANGUAGES

USAGE, NO_GRADE = 4, 10  # exit status, as pytest and `dockerlab grade` have them


class _Command(click.Command):
    """Ends with the project's exit status where click would print a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; our errors become a sentence on stderr and a status."""
        try:
            return super().invoke(ctx)
        except DockerLabError as error:
            click.echo(no_commands(f"Error: {error}"), err=True)
            ctx.exit(NO_GRADE if isinstance(error, InfraError) else USAGE)


_EXAMPLES = """\b
Examples:
  dockerlab report results.json
  dockerlab report results.json --format step-summary --append -o "$GITHUB_STEP_SUMMARY"
  dockerlab report results.json --format junit -o junit.xml
  dockerlab report out/ --gradebook --roster roster.csv -o gradebook.csv
  dockerlab report out/ --canvas export.csv --assignment-column "Lab 5" --roster roster.csv -o filled.csv
  dockerlab report out/ --moodle worksheet.csv --roster roster.csv -o filled.csv

Exit status: 0; 4 for a wrong option or file; 10 where the submission is ungraded.
"""

_FILE = click.Path(path_type=Path, dir_okay=False)


def _options(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def add(function: Any) -> Any:
        for option in reversed(options):
            function = option(function)
        return function

    return add


_FORMAT_OPTIONS = _options(
    click.option(
        "--format",
        "format_name",
        type=click.Choice(list(FORMATS)),
        default="terminal",
        show_default=True,
        help="What to make of one results.json.",
    ),
    click.option("--list-formats", is_flag=True, help="List the formats and what `no grade` becomes in each."),
    click.option("--json", "as_json", is_flag=True, help="One results.json as it is, or --list-formats, as JSON."),
    click.option("-o", "--output", type=_FILE, help="Where to write; without it, standard output."),
    click.option("--append", is_flag=True, help="Add to the file, as $GITHUB_OUTPUT and $GITHUB_STEP_SUMMARY need."),
    click.option(
        "--lang", type=click.Choice(LANGUAGES), default="en", show_default=True, help="The report's language."
    ),
    click.option(
        "--submitted-at",
        metavar="TIME",
        help="When the submission was made, e.g. 2026-09-01T08:30:00Z (classroom50; else from the tag).",
    ),
)
_GRADEBOOK_OPTIONS = _options(
    click.option("--gradebook", is_flag=True, help="A table of all results."),
    click.option("--canvas", type=_FILE, help="Fill in this gradebook, exported from Canvas."),
    click.option("--moodle", type=_FILE, help="Fill in this offline grading worksheet, exported from Moodle."),
    click.option(
        "--roster", "roster_file", type=_FILE, help="A CSV with the columns github, name, id, login, email, …"
    ),
    click.option(
        "--prefix", default="", help="What stands before the GitHub name in a submission's name, e.g. `lab5-`."
    ),
    click.option("--assignment-column", metavar="NAME", help="Canvas: the assignment, as its column is called."),
    click.option("--id-column", metavar="NAME", help="Canvas in another language: the column with Canvas's ids."),
    click.option("--grade-column", metavar="NAME", help="Moodle in another language: the grade's column."),
    click.option("--feedback-column", metavar="NAME", help="Moodle in another language: the comments' column."),
    click.option("--encoding", help="Of the file to fill in, where it is not UTF-8, e.g. gb18030."),
    click.option("--overwrite", is_flag=True, help="Replace scores that are in the file already."),
    click.option("--bom", is_flag=True, help="Lead --gradebook with a byte order mark, for Excel."),
)


@click.command("report", cls=_Command, epilog=_EXAMPLES)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path))
@_FORMAT_OPTIONS
@_GRADEBOOK_OPTIONS
def report(
    results: tuple[Path, ...],
    format_name: str,
    list_formats: bool,
    as_json: bool,
    output: Path | None,
    append: bool,
    lang: str,
    submitted_at: str | None,
    **options: Any,
) -> None:
    """Show a results.json, turn it into another system's format, or fill in a gradebook from many.

    RESULTS are files, or folders that `dockerlab batch --out` wrote.
    """
    if list_formats:
        click.echo(_list_formats(as_json), nl=False)
        return
    files = [file for path in results for file in find_results(path)]
    modes = [mode for mode in ("gradebook", "canvas", "moodle") if options[mode]]
    if not files or len(modes) > 1:
        raise UsageError(
            "give one of --gradebook, --canvas, --moodle" if modes else "no results.json given",
            fix="dockerlab report --help",
        )
    if modes:
        _write(
            _gradebook(modes[0], [load_results(file) for file in files], lang, options),
            output,
            append,
            files,
            options["canvas"] or options["moodle"],
        )
        return
    if len(files) != 1:
        raise UsageError(f"--format takes one results.json, these are {len(files)}", fix="or give --gradebook")
    one = load_results(files[0])
    text = to_json(one) if as_json else FORMATS[format_name].convert(one, _context(lang, submitted_at, output))
    _write(text.encode("utf-8"), output, append, files)
    if not one["graded"]:
        click.echo("no grade: the grading system failed, not the submission", err=True)
        click.get_current_context().exit(NO_GRADE)


def _list_formats(as_json: bool) -> str:
    if as_json:
        return to_json(
            [
                {"name": form.name, "file_name": form.file_name, "description": form.description}
                for form in FORMATS.values()
            ]
        )
    return "".join(f"{form.name:17} {form.file_name:24} {form.description}\n" for form in FORMATS.values())


def find_results(path: Path) -> list[Path]:
    """Return the results under a path: itself, its `results.json`, or those of its folders, sorted by name."""
    if not path.is_dir():
        return [path]
    if (path / "results.json").is_file():
        return [path / "results.json"]
    found = sorted(path.glob("*/results.json"))
    if not found:
        raise UsageError(f"{path} holds no results.json", fix="give the folder that `dockerlab batch --out` wrote")
    return found


def _context(lang: str, submitted_at: str | None, output: Path | None) -> Context:
    color = output is None and sys.stdout.isatty() and not os.environ.get("NO_COLOR")
    width = shutil.get_terminal_size((100, 24)).columns
    return Context(lang=lang, environ=os.environ, submitted_at=submitted_at, width=width, color=color)


def _gradebook(mode: str, all_results: list[Results], lang: str, options: dict[str, Any]) -> bytes:
    roster = Roster.read(options["roster_file"]) if options["roster_file"] else None
    prefix = options["prefix"]
    if mode == "gradebook":
        return gradebook_csv(all_results, roster, prefix=prefix, lang=lang, bom=options["bom"]).encode("utf-8")
    if roster is None:
        raise UsageError(
            f"--{mode} needs --roster: who is who is never guessed",
            fix="a CSV with the column github and one that the file has too, e.g. id or email",
        )
    sheet = Sheet.read(options[mode], options["encoding"])
    filled: Filled
    if mode == "canvas":
        if not options["assignment_column"]:
            raise UsageError("--canvas needs --assignment-column", fix=f"its columns are {', '.join(sheet.header)}")
        filled = fill_canvas(
            sheet,
            all_results,
            roster,
            options["assignment_column"],
            id_column=options["id_column"],
            prefix=prefix,
            overwrite=options["overwrite"],
        )
    else:
        filled = fill_moodle(
            sheet,
            all_results,
            roster,
            grade_column=options["grade_column"],
            feedback_column=options["feedback_column"],
            prefix=prefix,
            overwrite=options["overwrite"],
            lang=lang,
        )
    click.echo(no_commands(filled.summary()), err=True, nl=False)
    return filled.data


def _write(data: bytes, output: Path | None, append: bool, inputs: list[Path], export: Path | None = None) -> None:
    """Write to the file or to standard output, byte for byte; never over what was read."""
    if output is None:
        click.echo(data, nl=False)
        return
    read = [*inputs, export] if export else inputs
    if output.resolve() in {path.resolve() for path in read}:
        raise UsageError(f"{output} is what was read: it would be lost", fix="give --output another name")
    try:
        with output.open("ab" if append else "wb") as file:
            file.write(data)
    except OSError as error:
        raise UsageError(f"{output} can't be written: {error.strerror or error}") from error
