"""Plain CSV: a row a check and a last one with the total."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from pytest_dockerlab.report.escape import csv_text, one_line
from pytest_dockerlab.report.feedback import explain
from pytest_dockerlab.report.formats.base import Context, Format
from pytest_dockerlab.report.schema import Results, points_of

HEADER = ("submission", "assignment", "check", "title", "outcome", "points", "max_points", "message")


def write_csv(rows: Iterable[Iterable[str | int | None]]) -> str:
    """Return rows as CSV, every cell quoted and every text guarded; `None` is an empty cell."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\r\n")
    for row in rows:
        writer.writerow([csv_text(cell) if isinstance(cell, str) else "" if cell is None else cell for cell in row])
    return out.getvalue()


def convert(results: Results, context: Context) -> str:
    """Return the CSV. What was not judged has an empty cell, never a 0."""
    who = (one_line(results["submission"]["name"], 200), one_line(results["assignment"]["name"], 200))
    rows: list[tuple[str | int | None, ...]] = [HEADER]
    for check in results["checks"]:
        rows.append(
            (
                *who,
                one_line(check["id"], 200),
                one_line(check["title"], 200),
                check["outcome"],
                points_of(check, results),
                check["max_points"],
                explain(check, context.lang),
            )
        )
    rows.append(
        (*who, "TOTAL", "", "graded" if results["graded"] else "infra", results["score"], results["max_score"], "")
    )
    return write_csv(rows)


FORMATS = (Format("csv", "results.csv", convert, "a row a check and the total; no grade: empty cells"),)
