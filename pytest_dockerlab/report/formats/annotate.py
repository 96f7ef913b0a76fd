"""Annotations for GitHub Actions: `::error file=…,line=…,title=…::…`, at most ten, the most important first.

GitHub shows ten a step and drops the rest, so they are chosen: what we could not judge, then what cost most points.
A blocked check has none: the check that blocks it has.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pytest_dockerlab.report.escape import command_data, command_property, one_line, plain
from pytest_dockerlab.report.feedback import explain
from pytest_dockerlab.report.formats.base import Context, Format
from pytest_dockerlab.report.schema import Check, Results
from pytest_dockerlab.report.words import word

MAX_ANNOTATIONS = 10
_FINDINGS = 20  # of a linter, looked at
# BuildKit points at the instruction that failed with a line of its own: `Dockerfile:3`.
_POINTER = re.compile(r"^([^\s:]{1,200}):(\d{1,6})$")


@dataclass(frozen=True)
class Annotation:
    """One annotation. `weight` is what it cost; the greatest come first."""

    level: str  # error, warning, notice
    title: str
    message: str
    file: str | None = None
    line: int | None = None
    weight: float = 0.0

    def command(self) -> str:
        """Return the workflow command, on one line whatever the texts hold."""
        head = []
        if self.file:
            head.append(f"file={command_property(one_line(self.file, 200))}")
            if self.line:
                head.append(f"line={self.line}")
        head.append(f"title={command_property(one_line(self.title, 120))}")
        return f"::{self.level} {','.join(head)}::{command_data(plain(self.message).strip())}\n"


def _dockerfile(results: Results) -> str | None:
    facts = results["facts"]
    names = (facts.get("build", {}).get("dockerfile"), facts.get("dockerfile", {}).get("path"))
    return next((name for name in names if isinstance(name, str) and name), None)


def _build_line(results: Results) -> int | None:
    """Return the line of the Dockerfile at which the build failed, where the builder said so."""
    fact: dict[str, Any] = results["facts"].get("build", {})
    dockerfile = PurePosixPath(_dockerfile(results) or "Dockerfile").name
    tail = fact.get("log_tail")
    for text in reversed([*(tail if isinstance(tail, list) else ()), fact.get("error") or ""]):
        for line in reversed(plain(str(text)[:4000]).split("\n")):
            match = _POINTER.match(line.strip())
            if match and PurePosixPath(match.group(1)).name == dockerfile:
                return int(match.group(2))
    return None


def _of_check(check: Check, results: Results, lang: str) -> Annotation:
    title = one_line(check["title"] or check["id"], 100)
    if check["outcome"] == "infra":
        title = f"{word('no_grade', lang)}: {title}"
        return Annotation("error", title, f"{word('no_grade_why', lang)}\n{explain(check, lang, 1500)}", weight=1e9)
    file = _dockerfile(results) if check["id"] in ("dockerfile", "build") else None
    line = _build_line(results) if file and check["id"] == "build" else None
    lost = check["max_points"] - check["points"]
    return Annotation(
        "error", f"{title} ({check['points']}/{check['max_points']})", explain(check, lang, 1500), file, line, lost
    )


def _findings(results: Results) -> list[Annotation]:
    """Return what was found in single lines of the Dockerfile: `facts.dockerfile.findings` of `{line, message}`."""
    rows = results["facts"].get("dockerfile", {}).get("findings")
    found = []
    for row in rows[:_FINDINGS] if isinstance(rows, list) else ():
        if isinstance(row, dict) and isinstance(row.get("message"), str) and isinstance(row.get("line"), int):
            title = str(row.get("rule") or row.get("code") or "Dockerfile")
            found.append(
                Annotation(
                    "warning",
                    title,
                    row["message"][:1500],
                    _dockerfile(results) or "Dockerfile",
                    max(1, row["line"]),
                    -1.0,
                )
            )
    return found


def choose(results: Results, lang: str = "en", extra: Sequence[Annotation] = ()) -> list[Annotation]:
    """Return at most ten annotations, the most important first; `extra` compete by their weight."""
    found = [_of_check(check, results, lang) for check in results["checks"] if check["outcome"] in ("failed", "infra")]
    found += [*_findings(results), *extra]
    return sorted(found, key=lambda item: -item.weight)[:MAX_ANNOTATIONS]  # stable: equals stay in the checks' order


def convert(results: Results, context: Context) -> str:
    """Return the workflow commands, to be printed to the job's log."""
    return "".join(item.command() for item in choose(results, context.lang))


FORMATS = (
    Format(
        "annotations",
        "annotations.txt",
        convert,
        "workflow commands for the log of GitHub Actions; no grade: an error that says so",
        commands=True,
    ),
)
