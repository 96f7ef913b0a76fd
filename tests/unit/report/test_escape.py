from __future__ import annotations

import csv
import io
import re
import unicodedata
import xml.etree.ElementTree as ET
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from pytest_dockerlab.report import escape

# Any text, and text made of the pieces that an attack is made of.
PIECES = [
    *("\x1b", "[", "]", "0;", "m", "\x07", "\x9b", "\x9d", "\x9c", "\x00", "\\", "\ud800", "\ufffe", "\U000e0041"),
    *("::", ":", "##[", "::stop-commands::", "%", ",", "\n", "\r", "\r\n", "\u2028", "\x85", " ", "\t"),
    *("<", ">", "&", "]]>", "<!--", "-->", "</details>", "\u202e", "\u2066", "\u200b", "\ufeff"),
    *("`", "``", "```", "~~~", "|", "*", "_", "!", "(", ")", "$", "1.", "x", "中"),
    *("http://a.b", "www.a.b", "@all", "#1", "GH-2", "=", "+", "-", "/", "..", "CON"),
]
hostile = st.one_of(st.text(max_size=60), st.lists(st.sampled_from(PIECES), max_size=25).map("".join))


def _is_plain(text: str) -> bool:
    return not any(
        (unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\t")
        or (unicodedata.category(char) == "Cf" and char not in "\u200c\u200d")
        or char in "\u2028\u2029\xad"
        for char in text
    )


@given(hostile)
@example("\x1b\x1b[0m[31mx")
def test_plain_leaves_nothing_that_a_terminal_obeys(text: str) -> None:
    out = escape.plain(text)
    assert _is_plain(out)
    out.encode("utf-8")
    assert escape.plain(out) == out


@given(hostile)
def test_one_line_is_one_short_line(text: str) -> None:
    out = escape.one_line(text, 20)
    assert len(out) <= 20
    assert "\n" not in out
    assert _is_plain(out)
    assert "\n" not in escape.log_line(text)


def test_what_is_meant_is_kept() -> None:
    assert escape.plain("\x1b[1;31mloss\x1b[0m: 0.1\r\n中文 é ✓") == "loss: 0.1\n中文 é ✓"
    assert escape.plain("\x1b]8;;http://evil.example\x07here\x1b]8;;\x07") == "here"
    assert escape.plain("a\u202eb\x08") == "a<U+202E>b␈"
    assert escape.plain("10%\r20%\r30%") == "10%\n20%\n30%"
    assert escape.log_line("    return x\n") == "    return x"


@pytest.mark.parametrize("start", ["\x1b]", "\x1b[", "\x1bP", "\x9d", "\x90"])
def test_unfinished_sequences_are_read_in_one_pass(start: str) -> None:
    text = start * 200_000
    assert _is_plain(escape.plain(text))  # quadratic time would be minutes


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@given(hostile)
def test_html_is_text_only(text: str) -> None:
    out = escape.html(text)
    assert not re.search("[<>\"']", out)
    parser = _Tags()
    parser.feed(f"<p title='{out}'>{out}</p>")
    parser.close()
    assert parser.tags == ["p"]
    assert parser.text == escape.plain(text)


def _inline(markdown: str) -> list[Any]:
    blocks = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)
    assert {block.type for block in blocks} <= {"paragraph_open", "inline", "paragraph_close"}
    return [token for block in blocks for token in block.children or ()]


@given(hostile)
def test_markdown_is_text_only(text: str) -> None:
    out = escape.markdown(text)
    tokens = _inline(out)
    assert {token.type for token in tokens} <= {"text", "text_special"}
    shown = "".join(token.content for token in tokens)
    assert shown.replace("\u200b", "") == escape.one_line(text, 4000)
    # What GitHub links after rendering: mentions, references and bare addresses.
    assert not re.search(r"(?i)@\w|#\d|GH-\d|://|www\.", shown)


@given(hostile)
def test_markdown_stays_in_its_table_cell(text: str) -> None:
    table = f"| a | b |\n| --- | --- |\n| {escape.markdown_lines(text)} | end |\n"
    blocks = MarkdownIt("commonmark").enable("table").parse(table)
    assert [block.type for block in blocks].count("td_open") == 2
    assert [block.type for block in blocks].count("tr_open") == 2
    html = [token.content for block in blocks for token in block.children or () if token.type.startswith("html")]
    assert set(html) <= {"<br>"}


@given(hostile)
def test_code_span_holds_all_of_it(text: str) -> None:
    if flat := escape.one_line(text, 1000):
        tokens = _inline(escape.code_span(text))
        assert [(token.type, token.content) for token in tokens] == [("code_inline", flat)]


@given(hostile)
def test_a_fence_is_never_ended_from_inside(text: str) -> None:
    blocks = MarkdownIt("commonmark").parse(escape.fenced(text) + "after")
    assert [block.type for block in blocks] == ["fence", "paragraph_open", "inline", "paragraph_close"]
    assert blocks[0].content == escape.plain(text).rstrip("\n") + "\n"


@given(hostile)
@example(" =1")
@example("\ufeff=1")
def test_a_cell_is_never_a_formula(text: str) -> None:
    out = escape.csv_text(text)
    assert not re.match("[\\s\ufeff\u200b]*[=+\\-@＝＋－＠]", out)
    assert out[:1] not in ("\t", "\r")
    assert out in (text, "'" + text)
    row = io.StringIO()
    csv.writer(row, quoting=csv.QUOTE_ALL).writerow([out, "end"])
    assert next(csv.reader(io.StringIO(row.getvalue(), newline=""))) == [out, "end"]


def _commands(text: str) -> list[str]:
    """Return the lines that the runner would obey: it trims a line, then looks for `::`, or `##[` anywhere."""
    lines = re.split("[\r\n\x0b\x0c\x85\u2028\u2029]", text)
    return [line for line in lines if line.strip().startswith("::") or "##[" in line]


@given(hostile)
def test_workflow_text_has_no_commands(text: str) -> None:
    out = escape.workflow_text(text)
    assert _is_plain(out)
    assert not _commands(out)
    assert escape.workflow_text(out) == out


@given(hostile, hostile)
def test_a_command_is_one_line_with_its_own_head(title: str, message: str) -> None:
    line = f"::error title={escape.command_property(title)}::{escape.command_data(message)}"
    assert not re.search("[\r\n]", line)
    head, _, body = line.removeprefix("::").partition("::")
    undo = {"%0A": "\n", "%0D": "\r", "%3A": ":", "%2C": ",", "%25": "%"}
    assert "," not in head
    restored = re.sub("%0A|%0D|%3A|%2C|%25", lambda m: undo[m.group()], head.removeprefix("error title="))
    assert restored == title.replace("##[", "# #[")
    assert re.sub("%0A|%0D|%25", lambda m: undo[m.group()], body) == message.replace("##[", "# #[")


@given(hostile)
def test_a_file_name_is_one_name(text: str) -> None:
    name = escape.file_name(text)
    assert name
    assert not re.search(r'[/\\\x00<>:"|?*\s]', name)
    assert name not in (".", "..")
    assert name[0] not in ".-"
    assert len(name.encode("utf-8")) <= 100
    assert not re.fullmatch(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?", name)


def test_file_names_are_bounded_in_bytes() -> None:
    assert escape.file_name("中" * 100) == "中" * 33
    assert escape.file_name("../../etc/passwd") == "_.._etc_passwd"
    assert escape.file_name("alice-lab_5.v2") == "alice-lab_5.v2"


@given(hostile)
def test_xml_takes_it(text: str) -> None:
    element = ET.Element("a", b=escape.one_line(text))
    element.text = escape.xml_text(text)
    back = ET.fromstring(ET.tostring(element, encoding="unicode"))
    assert (back.text or "") == escape.xml_text(text)
