from __future__ import annotations

import codecs
import csv
import io
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.canvas import fill_canvas
from pytest_dockerlab.report.gradebook import gradebook_csv
from pytest_dockerlab.report.moodle import fill_moodle
from pytest_dockerlab.report.roster import Roster
from pytest_dockerlab.report.sheet import Sheet

Load = Callable[[str], dict[str, Any]]
Graded = Callable[..., dict[str, Any]]

ROSTER = """github,name,id,login,email,canvas_id,moodle_id
Alice,"Liddell, Alice",S1,al1,alice@u.example,5001,Participant 123456
bob,Bob,S2,,bob@u.example,,
carol,Carol,S3,cl3,carol@u.example,5003,123458
dave,Dave,S4,,,,
,Nobody yet,S9,,,,
"""
# As Canvas exports it: a space here, two decimals there, quotes only where a comma needs them.
CANVAS = (
    "Student,ID,SIS User ID,SIS Login ID,Section,Lab 4 (77),Lab 5 (78),Current Score\r\n"
    "    Points Possible,,,,,50.00,100.00,(read only)\r\n"
    '"Liddell, Alice",5001,S1,AL1,"A, 1",50.00,,91.00\r\n'
    "Bob,5002,S2,bob@u.example,A,,,\r\n"
    '"Carol ""C""",5003,S3,cl3,A,1,42.00,\r\n'
    '"Student, Test",9999,,,A,,,'
)
MOODLE = (
    'Identifier,"Full name","Email address",Status,Grade,"Maximum Grade","Grade can be changed",'
    '"Feedback comments"\n'
    '"Participant 123456","Alice L.",,"Submitted",,100.00,Yes,\n'
    '"Participant 123457",Bob,BOB@u.example,"Submitted",-,100.00,Yes,"<p>old</p>"\n'
    '"Participant 123458",Carol,carol@u.example,"Submitted",,100.00,No,\n'
)  # fmt: skip
MOODLE_ZH = (
    "标识符,全名,邮箱地址,状态,成绩,最高分,允许更改成绩,上次修改（评分）,反馈评论\n"
    "参与人123456,爱丽丝,alice@u.example,已提交,,\"100,00\",是,-,\n"
)  # fmt: skip


@pytest.fixture
def graded(load: Load) -> Graded:
    """Return results of a submission: `failed` (18 points) or another case, by a name."""

    def build(name: str, case: str = "failed") -> dict[str, Any]:
        results = load(case)
        results["submission"]["name"] = name
        return results

    return build


def _roster(text: str = ROSTER) -> Roster:
    return Roster.from_sheet(Sheet(text.encode(), "roster.csv"))


# --- the sheet --------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.text(max_size=8), min_size=1, max_size=4), min_size=1, max_size=5), st.booleans())
def test_what_is_not_filled_keeps_its_bytes(rows: list[list[str]], quoted: bool) -> None:
    rows = [[cell.encode("utf-8", "ignore").decode() for cell in row] for row in rows]
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL).writerows(rows)
    data = codecs.BOM_UTF8 + out.getvalue().encode()
    sheet = Sheet(data)
    assert sheet.to_bytes() == data
    assert len(sheet.rows) == len(rows)
    if sheet.delimiter == ",":
        assert [[row.value(n) for n in range(len(row.cells))] for row in sheet.rows] == [
            [cell.strip() for cell in row] for row in rows
        ]


@pytest.mark.parametrize("data", ["a,b\r\n1,2", "a;b\n1;2\n", "a\tb\r1\t2\r", '"a","b"\n"x ""y""\nz",2\n'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le"])
def test_a_sheet_keeps_its_encoding_delimiter_and_line_ends(data: str, encoding: str) -> None:
    named = "utf-16-le" if encoding == "utf-16-le" else None
    sheet = Sheet(data.encode(encoding), encoding=named)
    assert sheet.to_bytes() == data.encode(encoding)
    assert sheet.header == ["a", "b"]
    assert sheet.rows[1].value(1) == "2"
    sheet.fill(sheet.rows[1], 1, 7)
    assert sheet.to_bytes().decode(encoding) == data.replace("2", "7")


def test_chinese_encodings_are_named_not_guessed() -> None:
    data = "姓名,成绩\n爱丽丝,\n".encode("gb18030")
    with pytest.raises(UsageError, match="gb18030"):
        Sheet(data, "f.csv")
    with pytest.raises(UsageError, match=r"f\.csv"):
        Sheet(data, "f.csv", "no-such-codec")
    sheet = Sheet(data, encoding="gb18030")
    sheet.fill(sheet.rows[1], 1, 5)
    assert sheet.to_bytes() == "姓名,成绩\n爱丽丝,5\n".encode("gb18030")


def test_a_text_cell_is_guarded_and_short_rows_grow() -> None:
    sheet = Sheet(b"a,b,c\nx\n")
    sheet.fill(sheet.rows[1], 2, '=1+"1"')
    assert sheet.to_bytes() == b'a,b,c\nx,,"\'=1+""1"""\n'
    with pytest.raises(UsageError, match="never closed"):
        Sheet(b'a\n"x')
    with pytest.raises(UsageError, match="empty"):
        Sheet(b"")


# --- the roster -------------------------------------------------------------------------------------------------------


def test_the_roster_finds_people_by_exact_name() -> None:
    roster = _roster()
    assert [person.github for person in roster.people] == ["Alice", "bob", "carol", "dave"]
    alice = roster.find("lab5-ALICE", "lab5-")
    assert alice is not None
    assert alice.name == "Liddell, Alice"
    assert roster.find("lab5-alice") is None
    assert roster.find("alice", "lab5-") is None
    assert roster.find("alic") is None
    assert roster.find("") is None


def test_other_systems_rosters_are_read() -> None:
    classroom50 = "username,first_name,last_name,email,section,github_id\nalice,Alice,Liddell,a@u.example,A,1\n"
    person = _roster(classroom50).find("alice")
    assert person is not None
    assert (person.name, person.email) == ("Alice Liddell", "a@u.example")
    legacy = '"identifier","github_username","github_id","name"\n"S1","alice","1",""\n'
    person = _roster(legacy).find("alice")
    assert person is not None
    assert person.id == "S1"


@pytest.mark.parametrize(
    ("text", "message"), [("name\nA\n", "no column `github`"), ("github\na\nA\n", "'A' is there twice")]
)
def test_a_wrong_roster_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        _roster(text)


# --- our own gradebook ------------------------------------------------------------------------------------------------


def test_the_gradebook_has_a_row_a_submission(graded: Graded) -> None:
    text = gradebook_csv([graded("alice", "passed"), graded("bob"), graded("carol", "infra"), graded("eve", "hostile")],
                         _roster(), bom=True)  # fmt: skip
    assert text.startswith('\ufeff"submission"')
    rows = list(csv.DictReader(io.StringIO(text[1:], newline="")))
    assert [row["score"] for row in rows] == ["100", "18", "", "20"]
    assert [row["name"] for row in rows] == ["Liddell, Alice", "Bob", "Carol", ""]
    assert (rows[2]["train"], rows[2]["build"], rows[2]["graded"]) == ("", "15", "no")
    assert "torchvision" in rows[1]["feedback"]
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))


# --- Canvas -----------------------------------------------------------------------------------------------------------


def test_canvas_is_filled_and_nothing_else_moves(graded: Graded) -> None:
    everyone = [graded("alice"), graded("bob", "passed"), graded("carol"), graded("dave"), graded("mallory")]
    filled = fill_canvas(Sheet(CANVAS.encode()), everyone, _roster(), "Lab 5")
    expected = CANVAS.replace('"A, 1",50.00,,91.00', '"A, 1",50.00,18,91.00').replace("example,A,,,", "example,A,,100,")
    assert filled.data == expected.encode()
    assert filled.written == ["alice", "bob"]
    assert filled.kept == [("carol", "the file has 42.00, the score is 18")]
    assert filled.unmatched == [("dave", "no row fits"), ("mallory", "not in the roster")]
    overwritten = fill_canvas(Sheet(CANVAS.encode()), everyone, _roster(), "Lab 5 (78)", overwrite=True)
    assert "A,1,18," in overwritten.data.decode()


def test_an_ungraded_student_keeps_the_cell(graded: Graded) -> None:
    filled = fill_canvas(Sheet(CANVAS.encode()), [graded("alice", "infra")], _roster(), "Lab 5", overwrite=True)
    assert filled.data == CANVAS.encode()
    assert filled.ungraded == ["alice"]
    assert "ungraded, not touched: alice" in filled.summary()


def test_two_submissions_for_one_row_are_both_left_out(graded: Graded) -> None:
    roster = _roster("github,id\nalice,S1\nalice2,S1\n")
    filled = fill_canvas(Sheet(CANVAS.encode()), [graded("alice"), graded("alice2")], roster, "Lab 5")
    assert filled.data == CANVAS.encode()
    assert [name for name, _ in filled.unmatched] == ["alice", "alice2"]


def test_keys_that_disagree_match_nobody(graded: Graded) -> None:
    filled = fill_canvas(Sheet(CANVAS.encode()), [graded("a")], _roster("github,id,canvas_id\na,S1,5002\n"), "Lab 5")
    assert filled.unmatched == [("a", "several rows fit")]
    filled = fill_canvas(Sheet(CANVAS.encode()), [graded("a")], _roster("github,name\na,Bob\n"), "Lab 5")
    assert filled.unmatched == [("a", "the roster has nothing about them that the file has too")]  # never by name


@pytest.mark.parametrize(
    ("change", "assignment", "message"),
    [
        (("", ""), "Lab 6", "no assignment 'Lab 6'.*\n.*'Lab 4 \\(77\\)', 'Lab 5 \\(78\\)'"),
        (("Lab 4", "Lab 5"), "Lab 5", "more than one assignment"),
        (("100.00", "10.00"), "Lab 5", "worth 10.00 points in Canvas, 100 in mnist"),
        (("Student,ID,", "学生,编号,"), "Lab 5", "--id-column"),
    ],
)
def test_a_canvas_file_that_does_not_fit_is_refused(
    graded: Graded, change: tuple[str, str], assignment: str, message: str
) -> None:
    sheet = Sheet(CANVAS.replace(*change).encode() if change[0] else CANVAS.encode())
    with pytest.raises(UsageError, match=f"(?s){message}"):
        fill_canvas(sheet, [graded("alice")], _roster(), assignment)


def test_canvas_in_another_language(graded: Graded) -> None:
    text = CANVAS.replace("Student,ID,SIS User ID,", "学生,编号,SIS 用户 ID,").replace("Points Possible", "满分")
    filled = fill_canvas(Sheet(text.encode()), [graded("alice")], _roster(), "Lab 5", id_column="编号")
    assert filled.written == ["alice"]


# --- Moodle -----------------------------------------------------------------------------------------------------------


def test_moodle_is_filled_by_participant_and_by_mail(graded: Graded) -> None:
    everyone = [graded("alice"), graded("bob", "hostile"), graded("carol")]
    filled = fill_moodle(Sheet(MOODLE.encode()), everyone, _roster(), lang="zh")
    lines = filled.data.decode().splitlines()
    assert lines[0] == MOODLE.splitlines()[0]
    assert lines[1].startswith('"Participant 123456","Alice L.",,"Submitted",18,100.00,Yes,"总分：18 / 100<br>✗ ')
    assert "torchvision" in lines[1]
    assert lines[2] == '"Participant 123457",Bob,BOB@u.example,"Submitted",20,100.00,Yes,"<p>old</p>"'
    assert lines[3] == MOODLE.splitlines()[3]
    assert filled.kept == [("carol", "Moodle says that the grade can't be changed")]
    again = fill_moodle(Sheet(MOODLE.encode()), everyone, _roster(), overwrite=True).data.decode()
    assert "<p>old" not in again
    assert "<script" not in again
    assert "&lt;script&gt;" in again


def test_moodle_in_chinese(graded: Graded) -> None:
    filled = fill_moodle(Sheet(codecs.BOM_UTF8 + MOODLE_ZH.encode()), [graded("alice", "passed")], _roster(), lang="zh")
    assert filled.data.startswith(codecs.BOM_UTF8)
    row = list(csv.reader(io.StringIO(filled.data.decode("utf-8-sig"), newline="")))[1]
    assert row == ["参与人123456", "爱丽丝", "alice@u.example", "已提交", "100", "100,00", "是", "-", "总分：100 / 100"]


def test_moodle_in_a_language_that_we_do_not_know(graded: Graded) -> None:
    text = MOODLE.replace(",Grade,", ",Arvosana,")
    with pytest.raises(UsageError, match=r"(?s)no column is known.*'Arvosana'"):
        fill_moodle(Sheet(text.encode()), [graded("alice")], _roster())
    assert fill_moodle(Sheet(text.encode()), [graded("alice")], _roster(), grade_column="Arvosana").written == ["alice"]
    with pytest.raises(UsageError, match="no column 'Nope'"):
        fill_moodle(Sheet(text.encode()), [graded("alice")], _roster(), grade_column="Nope")


def test_moodle_with_another_maximum_is_refused(graded: Graded) -> None:
    with pytest.raises(UsageError, match=r"maximum grade is 10\.00 in Moodle, 100 here"):
        fill_moodle(Sheet(MOODLE.replace("100.00", "10.00").encode()), [graded("alice")], _roster())
