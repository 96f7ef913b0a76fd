"""Fill in the offline grading worksheet that a person exported from Moodle. It is never made up."""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.escape import html
from pytest_dockerlab.report.feedback import feedback
from pytest_dockerlab.report.gradebook import Filled, Key, pair_up, put_score, same_number
from pytest_dockerlab.report.roster import Roster
from pytest_dockerlab.report.schema import Results
from pytest_dockerlab.report.sheet import Sheet

# Headers in the languages of the instructor's Moodle; for any other the caller names the columns.
_GRADE = frozenset({"grade", "成绩", "成績", "分数", "bewertung", "note", "calificación", "nota", "avaliação"})
_MAXIMUM = frozenset({"maximum grade", "最高分", "最高分數", "bestwertung", "note maximale", "calificación máxima"})
_LOCKED = frozenset(
    {"grade can be changed", "允许更改成绩", "la note peut être modifiée", "la calificación puede ser cambiada"}
)
_NO = frozenset({"no", "否", "non", "nein"})
_FEEDBACK = frozenset(
    {
        "feedback comments",
        "反馈评论",
        "反馈评语",
        "feedback als kommentar",
        "feedback par commentaires",
        "comentarios de retroalimentación",
    }
)
_EMAIL = frozenset(
    {
        "email address",
        "邮箱地址",
        "电子邮件地址",
        "email地址",
        "e-mail-adresse",
        "adresse de courriel",
        "dirección de correo",
    }
)
_ID_NUMBER = frozenset({"id number", "学号", "id号", "编号"})
# `Participant 123456`, `参与人123456`: whatever the word is, the number names the person.
_PARTICIPANT = re.compile(r"\D*?(\d+)")


def fill_moodle(
    sheet: Sheet,
    all_results: Iterable[Results],
    roster: Roster,
    *,
    grade_column: str | None = None,
    feedback_column: str | None = None,
    prefix: str = "",
    overwrite: bool = False,
    lang: str = "en",
) -> Filled:
    """Fill grades and, where there is a column for it, feedback into a worksheet; `sheet` is changed."""
    results_list = list(all_results)
    grade = sheet.column(grade_column) if grade_column else sheet.find_column(_GRADE)
    if grade is None:
        raise UsageError(
            f"{sheet.name}: no column is known to be the grade's",
            fix=f"give --grade-column, one of {', '.join(map(repr, sheet.header))}",
        )
    comments = sheet.column(feedback_column) if feedback_column else sheet.find_column(_FEEDBACK)
    _check_maximum(sheet, results_list)
    keys = [
        Key(0, lambda person: person.moodle_id, _participant),
        Key(sheet.find_column(_EMAIL), lambda person: person.email, lambda text: text.strip().casefold()),
        Key(sheet.find_column(_ID_NUMBER), lambda person: person.id),
    ]
    locked = sheet.find_column(_LOCKED)
    report = Filled()
    for slot in pair_up(results_list, roster, sheet.rows[1:], keys, prefix, report):
        if slot.row.value(locked).casefold() in _NO:
            report.kept.append((slot.results["submission"]["name"], "Moodle says that the grade can't be changed"))
        elif put_score(sheet, slot, grade, overwrite, report) and comments is not None:
            # Moodle reads comments as HTML.
            text = html(feedback(slot.results, lang)).replace("\n", "<br>")
            if overwrite or not slot.row.value(comments):
                sheet.fill(slot.row, comments, text)
    report.data = sheet.to_bytes()
    return report


def _participant(text: str) -> str:
    match = _PARTICIPANT.fullmatch(text.strip())
    return match.group(1) if match else ""


def _check_maximum(sheet: Sheet, results_list: list[Results]) -> None:
    """Refuse a worksheet whose maximum is not ours: scaling a score would be a guess."""
    column = sheet.find_column(_MAXIMUM)
    if column is None:
        return
    for there in {row.value(column) for row in sheet.rows[1:]} - {""}:
        for results in results_list:
            if not same_number(there, results["max_score"]):
                raise UsageError(
                    f"{sheet.name}: the maximum grade is {there} in Moodle, {results['max_score']} here",
                    fix="set the assignment's maximum grade in Moodle, then export the worksheet again",
                )
