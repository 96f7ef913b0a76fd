"""The report in a terminal: every check with its points, and for each that failed why, how to mend it, and its log."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_dockerlab.checks.base import NOT_RUN
from pytest_dockerlab.report.escape import log_line, no_commands, one_line, plain
from pytest_dockerlab.report.logs import log_file, log_tail
from pytest_dockerlab.report.schema import Check, Results, points_of
from pytest_dockerlab.report.words import word

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_STYLES = {"passed": "green", "failed": "bold red", "blocked": "dim", "infra": "bold yellow"}
_MARKS = {"passed": "✓", "failed": "✗", "blocked": "-", "infra": "!"}
LOG_LINES = 12


def render(
    results: Results, console_width: int = 100, color: bool = False, lang: str = "en", folder: Path | None = None
) -> str:
    """Return the report as text, with ANSI colours if `color`; nothing that a student wrote gets through as a control.

    `folder` is where the evidence lies, for the paths of logs. The result ends with a line end, and does not depend
    on the environment (`NO_COLOR`, `COLUMNS`, `TERM`).
    """
    from rich.console import Console

    out = io.StringIO()
    console = Console(
        file=out,
        width=max(40, console_width),
        color_system="standard" if color else None,
        force_terminal=color,
        force_jupyter=False,
        force_interactive=False,
        legacy_windows=False,
        highlight=False,
        markup=False,
        emoji=False,
        _environ={},
    )
    _heading(console, results)
    _table(console, results, lang)
    for check in results["checks"]:
        if check["outcome"] in ("failed", "infra"):
            _explain(console, check, results, lang, folder)
    _notes(console, results, lang)
    _total(console, results, lang)
    # A CI job shows this too: no line of it may be a command to the runner.
    return no_commands("\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n")


def _text(value: str, style: str = "") -> Text:
    """Wrap text for rich: a `Text` is never searched for markup."""
    from rich.text import Text

    return Text(value, style=style, overflow="fold")


def _print_line(console: Console, value: str, style: str) -> None:
    """Print without wrapping: what a student wrote must not begin a line that looks like one of ours."""
    console.print(_text(value, style), no_wrap=True, overflow="ellipsis")


def _heading(console: Console, results: Results) -> None:
    name = f"{one_line(results['assignment']['name'], 60)} · {one_line(results['submission']['name'], 100)}"
    _print_line(console, name, "bold")


def _table(console: Console, results: Results, lang: str) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=False)
    table.add_column("", width=1)
    table.add_column(word("check", lang), no_wrap=True)
    table.add_column("", overflow="fold")
    table.add_column(word("points", lang), justify="right", no_wrap=True)
    table.add_column(word("result", lang), overflow="fold")
    for check in results["checks"]:
        outcome = check["outcome"]
        style = _STYLES[outcome]
        points = points_of(check, results)
        table.add_row(
            _text(_MARKS[outcome], style),
            _text(one_line(check["id"], 24), style),
            _text(one_line(check["title"], 80), "dim" if outcome == "blocked" else ""),
            _text(f"{'–' if points is None else points}/{check['max_points']}", style),
            _text(_outcome(check, lang), style),
        )
    console.print(table)


def _outcome(check: Check, lang: str) -> str:
    if check["outcome"] == "blocked":
        return word("blocked_by", lang, by=one_line(check["blocked_by"] or "?", 60))
    return word(check["outcome"], lang)


def _explain(console: Console, check: Check, results: Results, lang: str, folder: Path | None) -> None:
    """Print what is wrong, then what mends it, then the log: in the order in which a student needs them."""
    from rich.padding import Padding

    style = _STYLES[check["outcome"]]
    _print_line(console, f"{_MARKS[check['outcome']]} {one_line(check['title'] or check['id'], 120)}", style)
    console.print(Padding(_text(plain(check["message"]).strip()), (0, 0, 0, 2)))
    for hint in check["hints"]:
        for key in ("cause", "fix"):
            if hint[key]:
                line = _text("").append(f"{word(key, lang)}: ", "bold cyan" if key == "fix" else "cyan")
                console.print(Padding(line.append(plain(hint[key]).strip()), (0, 0, 0, 2)))
    tail = log_tail(check, results, LOG_LINES)
    if tail:
        console.print(Padding(_text(word("last_lines", lang) + ":", "dim"), (0, 0, 0, 2)))
        for line_text in tail:
            console.print(Padding(_text("│ " + log_line(line_text), "dim"), (0, 0, 0, 2)))
    file = log_file(check, results)
    if file:
        place = str(folder / file) if folder else file
        console.print(Padding(_text(word("full_log", lang, file=one_line(place, 600)), "dim"), (0, 0, 0, 2)))
    console.print()


def _notes(console: Console, results: Results, lang: str) -> None:
    from rich.padding import Padding

    for note in results.get("notes", ()):
        console.print(Padding(_text(f"· {plain(note).strip()}"), (0, 0, 0, 2)))
    for image in results.get("images", ()):
        if image["replaced_by"]:
            key = "stand_in" if image["standin"] else "replaced"
            names = {"name": one_line(image["name"], 200), "by": one_line(image["replaced_by"], 200)}
            console.print(Padding(_text("· " + word(key, lang, **names), "yellow"), (0, 0, 0, 2)))


def _total(console: Console, results: Results, lang: str) -> None:
    if not results["graded"]:
        infra = [check["message"] for check in results["checks"] if check["outcome"] == "infra"]
        why = "not_all_run" if set(infra) == {NOT_RUN} else "no_grade_why"
        console.print(_text(f"! {word('no_grade', lang).upper()}: {word(why, lang)}", "bold yellow"))
        return
    won = results["score"] == results["max_score"]
    console.print(
        _text(
            word("score", lang, score=results["score"], max_score=results["max_score"]), "bold green" if won else "bold"
        )
    )
