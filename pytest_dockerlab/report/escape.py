r"""The one place where text that a student wrote is made fit to be shown.

| shown in | use | what it stops |
| --- | --- | --- |
| a terminal, any plain text | `plain`, `one_line`, `log_line` | escape sequences (colours, links), bidi overrides |
| HTML | `html` | tags, attributes, entities |
| GitHub Markdown | `markdown`, `code_span`, `fenced` | images, links, HTML, mentions, tables, early ends of a fence |
| CSV | `csv_text` | cells that a spreadsheet would run as formulas |
| a GitHub Actions log | `workflow_text`, `command_data`, `command_property` | `::commands::`, the old `##[commands]` |
| a file system | `file_name` | folders, dot files, reserved names |
| XML | `xml_text` | characters that XML 1.0 has no way to hold |

All but `command_data`, `command_property` and `csv_text` begin with `plain`, so each is enough by itself. All are
linear in the length of the text.
"""

from __future__ import annotations

import html as _html
import re
import unicodedata

# Whole escape sequences are dropped: training logs are full of colours, and what they say is wanted. The bodies stop at
# the next ESC or C1 control, so text with many unfinished sequences is still read in one pass.
_SEQUENCE = re.compile(
    r"(?:\x1b\]|\x9d)[^\x07\x1b\x80-\x9f]*(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links, the clipboard
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x80-\x9f]*(?:\x1b\\|\x9c)"  # DCS, SOS, PM, APC
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, the cursor
    r"|\x1b[ -/]*[0-~]"  # character sets, resets
)
_LINE_END = re.compile("\r\n|[\r\x0b\x0c\x85\u2028\u2029]")
# Joiners are part of emoji and of several scripts; every other invisible format character is shown by its number.
_JOINERS = "\u200c\u200d"
_ODD = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]|[^\x00-\u02ff]")


def _show(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    if code < 0x20:
        return chr(0x2400 + code)  # the control pictures: ␀ … ␟
    if code == 0x7F:
        return "\u2421"
    category = unicodedata.category(char)
    if category == "Cs":
        return "\ufffd"  # half a surrogate pair can't be encoded
    if category == "Cc" or (category == "Cf" and char not in _JOINERS) or code & 0xFFFE == 0xFFFE:
        return f"<U+{code:04X}>"
    return char


def plain(text: str) -> str:
    r"""Return text without terminal sequences. Line ends become `\n`; other control characters become visible."""
    text = _LINE_END.sub("\n", _SEQUENCE.sub("", text)).replace("\xad", "<U+00AD>")
    return _ODD.sub(_show, text)


def cut(text: str, limit: int) -> str:
    """Return at most `limit` characters, the last of them `…` where something was left out."""
    return text if len(text) <= limit else text[: max(0, limit - 1)] + "…"


def one_line(text: str, limit: int = 500) -> str:
    """Return plain text on a single line, at most `limit` characters."""
    # Cut before as well: nobody needs a megabyte to be cleaned for the sake of its first line.
    return cut(" ".join(plain(text[: 8 * limit + 64]).split()), limit)


def log_line(text: str, limit: int = 400) -> str:
    """Return one line of a log as plain text, with its indentation."""
    return cut(" ".join(plain(text[: 4 * limit]).rstrip().splitlines()).expandtabs(4), limit)


def html(text: str) -> str:
    """Return text for HTML, between tags or inside a quoted attribute."""
    return _html.escape(plain(text), quote=True)


_MD_SYNTAX = re.compile(r"([!-/:-@\[-`{-~])")
# A backslash does not stop what GitHub links after rendering; a zero-width space does, and shows nothing.
_MD_AUTOLINK = re.compile(r"(?i)(@|#(?=\d)|GH-(?=\d)|(?<=:)(?=//)|www(?=\.)|(?:mailto|xmpp):|:(?=[\w+-]+:))")


def markdown(text: str) -> str:
    """Return text for the running text, a heading or a table cell of GitHub's Markdown, on one line."""
    flat = _MD_AUTOLINK.sub("\\1\u200b", one_line(text, 4000))
    return _MD_SYNTAX.sub(r"\\\1", flat)


def markdown_lines(text: str) -> str:
    """Return text of several lines as one paragraph, or one table cell, of GitHub's Markdown."""
    return "<br>".join(markdown(line) for line in plain(text[:20_000]).split("\n") if line.strip())


def _longest_run(text: str, char: str) -> int:
    return max((len(run) for run in re.findall(f"{re.escape(char)}+", text)), default=0)


def code_span(text: str) -> str:
    """Return text as inline code, outside of tables: GitHub's tables split at `|` even inside code."""
    flat = one_line(text, 1000)
    if not flat:
        return ""
    fence = "`" * (_longest_run(flat, "`") + 1)
    return f"{fence} {flat} {fence}"


def fenced(text: str, info: str = "text") -> str:
    """Return text as a code block whose fence is longer than any run of backticks in it."""
    body = plain(text).rstrip("\n")
    fence = "`" * max(3, _longest_run(body, "`") + 1)
    return f"{fence}{info}\n{body}\n{fence}\n"


# Excel in Chinese and Japanese reads the full-width signs too.
_FORMULA = re.compile("[\\s\ufeff\u200b]*[=+\\-@\uff1d\uff0b\uff0d\uff20\t\r\n]")


def csv_text(text: str) -> str:
    """Return the text of a cell, led by an apostrophe where a spreadsheet would take it for a formula."""
    return "'" + text if _FORMULA.match(text) else text


_COMMAND_AT_START = re.compile(r"^((?:[^\S\n]|\x1b\[[0-9;]*m)*):(?=:)", re.MULTILINE)


def no_commands(text: str) -> str:
    """Return a finished page, colours and all, no line of which the GitHub runner takes for a command.

    For what we rendered from text that is plain already: wrapping may have brought a `::` to the start of a line.
    """
    return _COMMAND_AT_START.sub(r"\1: ", text.replace("##[", "# #["))


def workflow_text(text: str) -> str:
    """Return plain text no line of which the GitHub runner takes for a command, so that it can be printed unfenced."""
    return no_commands(plain(text))


def command_data(text: str) -> str:
    """Return the message of a workflow command: `::error::HERE`."""
    # The old form is looked for anywhere in a line, so it is broken up here too.
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A").replace("##[", "# #[")


def command_property(text: str) -> str:
    """Return a value in a workflow command's head: `::error title=HERE::…`."""
    return command_data(text).replace(":", "%3A").replace(",", "%2C")


_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)")


def file_name(text: str, max_bytes: int = 100) -> str:
    """Return a name for one file or folder that any common file system takes. Two texts may give the same name."""
    name = re.sub(r"[^\w.\-]+", "_", unicodedata.normalize("NFC", plain(text)))
    name = name.encode("utf-8")[:max_bytes].decode("utf-8", "ignore").lstrip(".-").rstrip(".")
    return ("_" + name)[:max_bytes] if not name or _RESERVED.match(name) else name


def xml_text(text: str) -> str:
    """Return text that an XML 1.0 document can hold; the writer of the document escapes the markup."""
    return plain(text)  # which leaves no control, surrogate or noncharacter
