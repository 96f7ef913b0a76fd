"""What a Dockerfile tells without being built."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab.dockerfiles import parse


@pytest.mark.parametrize(
    ("text", "bases"),
    [
        ("FROM python:3.11", ("python:3.11",)),
        ("from python:3.11 as base\nFROM base\n", ("python:3.11",)),
        ("FROM a AS one\nFROM b AS two\nCOPY --from=one /x /x\n", ("a", "b")),
        ("FROM a\nFROM a\n", ("a",)),
        ("ARG V=3.11\nFROM python:$V-slim\n", ("python:3.11-slim",)),
        ("ARG V=3.11\nFROM python:${V}\n", ("python:3.11",)),
        ("FROM --platform=linux/amd64 python:3.11\n", ("python:3.11",)),
        ("FROM scratch\n", ()),
        ("# FROM x\nFROM y\n", ("y",)),
        ("FROM \\\n  y\n", ("y",)),
        ("FROM x\nRUN <<EOF\nfrom torch import nn\nFROM z\nEOF\n", ("x",)),
        ('FROM x\nCOPY <<"A" /a\nFROM z\nA\nRUN true\n', ("x",)),
        ("FROM x\nRUN cat <<-EOF\n\tFROM z\n\tEOF\n", ("x",)),
    ],
)
def test_bases(text, bases):
    parsed = parse(text)
    assert parsed.bases == bases
    assert parsed.has_from


@pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n", "RUN true\n", "FORM python\n"])
def test_no_from(text):
    assert not parse(text).has_from


def test_instructions_are_counted():
    assert parse("FROM x\n# c\nRUN a \\\n b\nCMD c\n").instructions == 3


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=300) | st.from_regex(r"(FROM|RUN|ARG|COPY) .{0,40}\n(.{0,40}\n){0,5}", fullmatch=True))
def test_it_never_raises(text):
    parse(text)
