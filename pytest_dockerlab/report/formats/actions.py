"""Plain GitHub Actions: the exit status, the step summary, and a fence for what a student's program printed."""

from __future__ import annotations

import math
import secrets

from pytest_dockerlab.report.curve import number, sparkline, train_losses
from pytest_dockerlab.report.escape import fenced, log_line, markdown, markdown_lines, plain
from pytest_dockerlab.report.formats.base import Context, Format
from pytest_dockerlab.report.logs import log_file, log_tail
from pytest_dockerlab.report.schema import Check, Results, points_of
from pytest_dockerlab.report.words import word

GRADED_ALL, GRADED_SOME, NO_GRADE = 0, 1, 10
MAX_SUMMARY_BYTES = 1024 * 1024 - 4096  # GitHub takes 1024 KiB a step; the rest is for who else writes in this step
_MARKS = {"passed": "✅", "failed": "❌", "blocked": "⏸️", "infra": "⚠️"}


def exit_status(results: Results) -> int:
    """Return pytest's 0 (all checks passed) or 1 (some did not), or 10: infrastructure, no grade."""
    if not results["graded"]:
        return NO_GRADE
    return GRADED_ALL if all(check["outcome"] == "passed" for check in results["checks"]) else GRADED_SOME


def fence(text: str, token: str | None = None) -> str:
    """Return text between `::stop-commands::` and its end, so that no line of it is a command to the runner.

    The token is random: who knows it can end the fence. `text` is made plain too; a token given must not be in it.
    """
    token = token or secrets.token_hex(16)
    body = plain(text).rstrip("\n")
    if token in body:
        raise ValueError("the token is in the text that it has to fence")
    return f"::stop-commands::{token}\n{body}\n::{token}::\n"


def step_summary(results: Results, context: Context) -> str:
    """Return the Markdown for `$GITHUB_STEP_SUMMARY`. Sections that would not fit are left out, and that is said."""
    lang = context.lang
    left_out = f"\n{word('left_out', lang)}\n"
    text = _heading(results, lang) + _table(results, lang)
    room = MAX_SUMMARY_BYTES - len(left_out.encode()) - len(text.encode())
    if room < 0:  # only with thousands of checks
        return _heading(results, lang) + left_out
    sections = [_loss(results, lang), *(_details(check, results, lang) for check in results["checks"])]
    for section in (*sections, _notes(results, lang)):
        room -= len(section.encode())
        if room < 0:
            return text + left_out
        text += section
    return text


def _heading(results: Results, lang: str) -> str:
    verdict = word("no_grade", lang)
    if results["graded"]:
        verdict = f"{results['score']} / {results['max_score']}"
    text = f"## {markdown(results['assignment']['name'])} · {markdown(results['submission']['name'])}: {verdict}\n\n"
    return text if results["graded"] else text + f"> ⚠️ **{word('no_grade', lang)}.** {word('no_grade_why', lang)}\n\n"


def _table(results: Results, lang: str) -> str:
    lines = [
        f"| | {word('check', lang)} | {word('points', lang)} | {word('result', lang)} |",
        "| --- | --- | ---: | --- |",
    ]
    for check in results["checks"]:
        points = points_of(check, results)
        outcome = word(check["outcome"], lang)
        if check["outcome"] == "blocked":
            outcome = word("blocked_by", lang, by=markdown(check["blocked_by"] or "?"))
        lines.append(
            f"| {_MARKS[check['outcome']]} | {markdown(check['title'] or check['id'])} "
            f"| {'–' if points is None else points} / {check['max_points']} | {outcome} |"
        )
    return "\n".join(lines) + "\n"


def _loss(results: Results, lang: str) -> str:
    """Draw the training loss: a line of bars and the numbers that matter."""
    values = train_losses(results)
    if not values:
        return ""
    finite = [value for value in values if math.isfinite(value)]
    cells = [number(values[0]), number(values[-1]), number(min(finite)) if finite else "–", str(len(values))]
    heads = [word(f"loss_{key}", lang) for key in ("first", "last", "low", "points")]
    return (
        f"\n### {word('loss', lang)}\n\n`{sparkline(values)}`\n\n"
        f"| {' | '.join(heads)} |\n| ---: | ---: | ---: | ---: |\n| {' | '.join(cells)} |\n"
    )


def _details(check: Check, results: Results, lang: str) -> str:
    if check["outcome"] not in ("failed", "infra"):
        return ""
    text = f"\n### {_MARKS[check['outcome']]} {markdown(check['title'] or check['id'])}\n\n"
    text += f"{markdown_lines(check['message'])}\n"
    for hint in check["hints"]:
        for key in ("cause", "fix"):
            if hint[key]:
                text += f"\n- **{word(key, lang)}**: {markdown_lines(hint[key])}"
        text += "\n"
    tail = log_tail(check, results)
    if tail:
        body = "\n".join(log_line(line) for line in tail)
        text += f"\n<details><summary>{word('last_lines', lang)}</summary>\n\n{fenced(body)}\n</details>\n"
    file = log_file(check, results)
    if file:
        text += f"\n{word('full_log', lang, file=markdown(file))}\n"
    return text


def _notes(results: Results, lang: str) -> str:
    lines = [markdown_lines(note) for note in results.get("notes", ())]
    for image in results.get("images", ()):
        if image["replaced_by"]:
            key = "stand_in" if image["standin"] else "replaced"
            lines.append(word(key, lang, name=markdown(image["name"]), by=markdown(image["replaced_by"])))
    return "\n" + "".join(f"- {line}\n" for line in lines if line) if lines else ""


FORMATS = (
    Format(
        "step-summary",
        "summary.md",
        step_summary,
        "Markdown for $GITHUB_STEP_SUMMARY, with the loss curve; no grade: said on top",
    ),
)
