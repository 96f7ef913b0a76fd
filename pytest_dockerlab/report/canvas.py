"""Fill in the gradebook that a person exported from Canvas.

Canvas makes a new assignment for a column that it does not know and overwrites scores that are there: so the column has
to be in the export already, its points have to be the assignment's, and scores are kept unless the caller says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.gradebook import Filled, Key, pair_up, put_score, same_number
from pytest_dockerlab.report.roster import Roster
from pytest_dockerlab.report.schema import Results
from pytest_dockerlab.report.sheet import Row, Sheet

# For a Canvas in another language the caller names the column with Canvas's own ids.
_ID = frozenset({"id"})
_SIS_USER = frozenset({"sis user id", "sis 用户 id", "sis用户id"})
_SIS_LOGIN = frozenset({"sis login id", "sis 登录 id", "sis登录id"})
_OWN = re.compile(r" \(\d+\)$")


def assignment_column(sheet: Sheet, name: str) -> int:
    """Return the column of an assignment: `Lab 5 (123)` as exported, or `Lab 5` where only one is called so."""
    headers = [header for header in sheet.header if _OWN.search(header)]
    if name not in sheet.header:
        alike = [header for header in headers if _OWN.sub("", header) == name.strip()]
        if len(alike) == 1:
            return sheet.column(alike[0])
        raise UsageError(
            f"{sheet.name} has {'no' if not alike else 'more than one'} assignment {name!r}",
            fix=f"its assignments are {', '.join(map(repr, headers)) or 'none'}: make it in Canvas, then export again",
        )
    return sheet.column(name)


def fill_canvas(
    sheet: Sheet,
    all_results: Iterable[Results],
    roster: Roster,
    assignment: str,
    *,
    id_column: str | None = None,
    prefix: str = "",
    overwrite: bool = False,
) -> Filled:
    """Fill the scores into a Canvas export, whose other cells keep their bytes; `sheet` is changed."""
    results_list = list(all_results)
    column = assignment_column(sheet, assignment)
    own = sheet.column(id_column) if id_column else sheet.find_column(_ID)
    if own is None:
        raise UsageError(
            f"{sheet.name} has no column `ID`: is it a gradebook exported from Canvas?",
            fix=f"if it is, give --id-column, one of {', '.join(map(repr, sheet.header))}",
        )
    # The rows with no id are Canvas's own: the points possible, which may stand anywhere, and notes about posting.
    students = [row for row in sheet.rows[1:] if row.value(own)]
    _check_points(sheet, [row for row in sheet.rows[1:] if not row.value(own)], column, results_list)
    keys = [
        Key(own, lambda person: person.canvas_id),
        Key(sheet.find_column(_SIS_USER), lambda person: person.id),
        Key(sheet.find_column(_SIS_LOGIN), lambda person: person.login or person.email, _login),
    ]
    report = Filled()
    for slot in pair_up(results_list, roster, students, keys, prefix, report):
        put_score(sheet, slot, column, overwrite, report)
    report.data = sheet.to_bytes()
    return report


def _login(text: str) -> str:
    return text.strip().casefold()


def _check_points(sheet: Sheet, others: list[Row], column: int, results_list: list[Results]) -> None:
    """Refuse a column that is worth something else than our checks: scaling a score would be a guess."""
    possible = [row.value(column) for row in others if re.fullmatch(r"\d+([.,]\d+)?", row.value(column))]
    for results in results_list:
        if possible and not same_number(possible[0], results["max_score"]):
            raise UsageError(
                f"{sheet.name}: {sheet.header[column]!r} is worth {possible[0]} points in Canvas, "
                f"{results['max_score']} in {results['assignment']['name']}",
                fix="give the assignment these points in Canvas, then export again",
            )
