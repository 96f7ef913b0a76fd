"""Who is who: a CSV that maps GitHub names to people. Nothing is guessed: a name that is not in it stays unknown."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.sheet import Row, Sheet

# GitHub Classroom's and Classroom 50's own rosters are read as they are.
_HEADERS: dict[str, frozenset[str]] = {
    "github": frozenset({"github", "github_username", "github username", "github name", "username"}),
    "name": frozenset({"name", "full name", "student", "姓名", "全名"}),
    "first_name": frozenset({"first_name", "first name", "名"}),
    "last_name": frozenset({"last_name", "last name", "姓"}),
    "id": frozenset({"id", "student_id", "student id", "id number", "sis user id", "identifier", "学号"}),
    "login": frozenset({"login", "sis login id", "login_id"}),
    "email": frozenset({"email", "email address", "e-mail", "邮箱", "电子邮件"}),
    "canvas_id": frozenset({"canvas_id", "canvas id"}),
    "moodle_id": frozenset({"moodle_id", "moodle id", "participant"}),
}


@dataclass(frozen=True)
class Person:
    """One line of a roster. Only `github` is always there."""

    github: str
    name: str = ""
    id: str = ""
    login: str = ""
    email: str = ""
    canvas_id: str = ""
    moodle_id: str = ""


class Roster:
    """People by GitHub name. GitHub does not tell upper from lower case, so neither does this."""

    def __init__(self, people: list[Person], name: str = "the roster") -> None:
        """Index the people; a GitHub name that is there twice is a mistake that nobody can resolve but the author."""
        self.people = people
        self._by_github: dict[str, Person] = {}
        for person in people:
            key = person.github.casefold()
            if key in self._by_github:
                raise UsageError(f"{name}: the GitHub name {person.github!r} is there twice")
            self._by_github[key] = person

    @classmethod
    def from_sheet(cls, sheet: Sheet) -> Roster:
        """Read people from a sheet with a header; lines with no GitHub name yet are left out."""
        columns = {field: sheet.find_column(names) for field, names in _HEADERS.items()}
        if columns["github"] is None:
            raise UsageError(f"{sheet.name} has no column `github`", fix=f"its columns are {', '.join(sheet.header)}")
        return cls([_person(row, columns) for row in sheet.rows[1:] if row.value(columns["github"])], sheet.name)

    @classmethod
    def read(cls, path: Path, encoding: str | None = None) -> Roster:
        """Read a roster from a file."""
        return cls.from_sheet(Sheet.read(path, encoding))

    def find(self, submission: str, prefix: str = "") -> Person | None:
        """Return who made a submission: its name, without the prefix that the caller names, is the GitHub name."""
        name = submission.strip().casefold()
        if prefix and not name.startswith(prefix.casefold()):
            return None
        return self._by_github.get(name[len(prefix) :])


def _person(row: Row, columns: dict[str, int | None]) -> Person:
    values = {field: row.value(column) for field, column in columns.items()}
    first, last = values.pop("first_name"), values.pop("last_name")
    values["name"] = values["name"] or f"{first} {last}".strip()
    return Person(**values)
