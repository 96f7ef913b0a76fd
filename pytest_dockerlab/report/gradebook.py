"""Many results in one table, and what filling in someone else's table has in common."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from pytest_dockerlab.report.escape import one_line
from pytest_dockerlab.report.feedback import feedback
from pytest_dockerlab.report.formats.csv_out import write_csv
from pytest_dockerlab.report.roster import Person, Roster
from pytest_dockerlab.report.schema import Results, points_of
from pytest_dockerlab.report.sheet import Row, Sheet

_HEADER = ("submission", "name", "id", "email", "commit", "graded", "score", "max_score")


def gradebook_csv(
    all_results: Iterable[Results],
    roster: Roster | None = None,
    *,
    prefix: str = "",
    lang: str = "en",
    bom: bool = False,
) -> str:
    """Return `gradebook.csv`: a header, then a row a submission in the order given.

    Ungraded submissions have empty cells. `bom` leads the text with a byte order mark, without which Excel takes
    Chinese for something else.
    """
    results_list = list(all_results)
    checks = list(dict.fromkeys(check["id"] for results in results_list for check in results["checks"]))
    rows: list[list[str | int | None]] = [[*_HEADER, *(one_line(check, 60) for check in checks), "feedback"]]
    for results in results_list:
        submission = results["submission"]
        person = roster.find(submission["name"], prefix) if roster else None
        points = {check["id"]: points_of(check, results) for check in results["checks"]}
        who = [person.name, person.id, person.email] if person else ["", "", ""]
        rows.append(
            [
                one_line(submission["name"], 200),
                *(one_line(text, 200) for text in who),
                one_line(submission["commit"] or "", 80),
                "yes" if results["graded"] else "no",
                results["score"],
                results["max_score"],
                *(points.get(check) for check in checks),
                feedback(results, lang),
            ]
        )
    return ("\ufeff" if bom else "") + write_csv(rows)


@dataclass
class Filled:
    """What became of each submission when a table was filled in. A name is in exactly one of the lists."""

    data: bytes = b""
    written: list[str] = field(default_factory=list)
    ungraded: list[str] = field(default_factory=list)  # their cells were not touched
    unmatched: list[tuple[str, str]] = field(default_factory=list)  # and why
    kept: list[tuple[str, str]] = field(default_factory=list)  # the cell said something else, and was not overwritten

    def summary(self) -> str:
        """Return a text that lists everything that was not written."""
        lines = [f"{len(self.written)} filled in"]
        lines += [f"ungraded, not touched: {one_line(name)}" for name in self.ungraded]
        lines += [f"not matched: {one_line(name)}: {one_line(why)}" for name, why in self.unmatched]
        lines += [f"not overwritten: {one_line(name)}: {one_line(why)}" for name, why in self.kept]
        return "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Key:
    """One way to recognise a person: a column, what the person should have there, and how the two are compared."""

    column: int | None
    value: Callable[[Person], str]
    normal: Callable[[str], str] = str.strip


def match_row(person: Person, rows: Sequence[Row], keys: Sequence[Key]) -> Row | str:
    """Return the one row that is this person's, or why there is none. No two keys may name different rows."""
    found: dict[int, Row] = {}
    tried = False
    for key in keys:
        wanted = key.normal(key.value(person))
        if key.column is None or not wanted:
            continue
        tried = True
        found |= {id(row): row for row in rows if key.normal(row.value(key.column)) == wanted}
    if len(found) == 1:
        return next(iter(found.values()))
    if not tried:
        return "the roster has nothing about them that the file has too"
    return "several rows fit" if found else "no row fits"


@dataclass(frozen=True)
class Slot:
    """A result and the row that it belongs to."""

    results: Results
    row: Row


def pair_up(
    all_results: Iterable[Results],
    roster: Roster,
    rows: Sequence[Row],
    keys: Sequence[Key],
    prefix: str,
    report: Filled,
) -> list[Slot]:
    """Return who goes where; the others are listed in `report`. Two submissions for one row are both left out."""
    slots: list[Slot] = []
    for results in all_results:
        name = results["submission"]["name"]
        if not results["graded"]:
            report.ungraded.append(name)
            continue
        person = roster.find(name, prefix)
        row = match_row(person, rows, keys) if person else "not in the roster"
        if isinstance(row, str):
            report.unmatched.append((name, row))
        else:
            slots.append(Slot(results, row))
    return [slot for slot in slots if not _shared(slot, slots, report)]


def _shared(slot: Slot, slots: list[Slot], report: Filled) -> bool:
    shared = sum(other.row is slot.row for other in slots) > 1
    if shared:
        report.unmatched.append((slot.results["submission"]["name"], "another submission belongs to the same row"))
    return shared


def put_score(sheet: Sheet, slot: Slot, column: int, overwrite: bool, report: Filled) -> bool:
    """Fill in a score, unless another one is there that may not be overwritten."""
    name, score = slot.results["submission"]["name"], slot.results["score"]
    there = slot.row.value(column)
    if same_number(there, score):
        report.written.append(name)
        return True
    if there not in ("", "-") and not overwrite:
        report.kept.append((name, f"the file has {there}, the score is {score}"))
        return False
    sheet.fill(slot.row, column, score)
    report.written.append(name)
    return True


def same_number(text: str, number: int) -> bool:
    """Whether a cell holds this number; `85.00` and `85,00` are 85."""
    try:
        return float(text.replace(",", ".")) == number
    except ValueError:
        return False
