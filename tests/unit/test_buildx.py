"""BuildKit's progress messages, as buildx 0.13 prints them (over many lines) and as newer ones do (on one)."""

from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab.engine import buildx
from pytest_dockerlab.engine.buildx import MAX_MESSAGE, RawJson

STARTED, ENDED = "2026-01-01T00:00:00.123456789Z", "2026-01-01T00:00:02.623456789Z"


def b64(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


def vertex(digest, name, **more):
    return {"vertexes": [{"digest": digest, "name": name, **more}]}


def log(digest, data):
    return {"logs": [{"vertex": digest, "stream": 1, "data": b64(data), "timestamp": STARTED}]}


BUILD = [
    vertex("sha256:1", "[internal] load build definition from Dockerfile", started=STARTED, completed=ENDED),
    vertex("sha256:2", "[1/2] FROM docker.io/library/python", started=STARTED, completed=ENDED, cached=True),
    vertex("sha256:3", "[2/2] RUN pip install torch", started=STARTED),
    log("sha256:3", "Collecting torch\nDown"),
    log("sha256:3", "loading\n"),
    log("sha256:3", b"caf\xff"),
    vertex("sha256:3", "[2/2] RUN pip install torch", started=STARTED, completed=ENDED, error="exit code: 1"),
]


@pytest.fixture(params=["compact", "indented"])
def read(request):
    def read(messages, plain=()):
        lines = []
        reader = RawJson(lines.append)
        for message in messages:
            text = json.dumps(message, indent=1 if request.param == "indented" else None)
            for line in text.splitlines():
                reader.feed_line(line.encode() + b"\n")
        for line in plain:
            reader.feed_line(line)
        return reader, lines

    return read


def test_the_log_reads_like_a_build(read):
    _, lines = read(BUILD)
    assert lines == [
        "#1 [internal] load build definition from Dockerfile",
        "#2 [1/2] FROM docker.io/library/python",
        "#2 CACHED",
        "#3 [2/2] RUN pip install torch",
        "#3 Collecting torch",
        "#3 Downloading",
        "#3 caf\ufffd",
        "#3 ERROR: exit code: 1",
    ]


def test_steps(read):
    reader, _ = read(BUILD)
    base, run = reader.steps()
    assert (base.cached, base.error) == (True, None)
    assert (run.name, run.seconds, run.error) == ("[2/2] RUN pip install torch", 2.5, "exit code: 1")


def test_the_clients_last_word_is_the_error(read):
    reader, lines = read(BUILD, [b"------\n", b"ERROR: failed to solve: process ... exit code: 1\n"])
    assert reader.error() == "failed to solve: process ... exit code: 1"
    assert lines[-1].startswith("ERROR")


def test_without_one_the_failed_steps_word(read):
    assert read(BUILD)[0].error() == "exit code: 1"


def test_nothing_at_all(read):
    assert read([])[0].error() == "the builder ended without a word"


def test_a_warning(read):
    _, lines = read([{"warnings": [{"vertex": "x", "level": 1, "short": b64("JSONArgsRecommended")}]}])
    assert lines == ["WARNING: JSONArgsRecommended"]


def test_a_message_that_is_cut_does_not_swallow_what_follows(read):
    lines = []
    reader = RawJson(lines.append)
    reader.feed_line(b'{"vertexes": [\n')
    reader.feed_line(b"}\n")
    reader.feed_line(b"ERROR: context canceled\n")
    assert reader.error() == "context canceled"


def test_a_message_without_end_is_dropped():
    reader = RawJson(lambda _line: None)
    reader.feed_line(b"{\n")
    for _ in range(MAX_MESSAGE // 1000 + 10):
        reader.feed_line(b"x" * 1000)
    assert reader._pending_size < MAX_MESSAGE


def test_a_line_without_end_is_bounded():
    lines = []
    reader = RawJson(lines.append)
    for _ in range(300):
        reader.feed_line(json.dumps(log("sha256:1", "x" * 10_000)).encode())
    assert max(map(len, reader._partial.values())) <= 65536


@pytest.mark.parametrize("value", ["", None, "yesterday", "2026-01-01T00:00:00Z", "2026-01-01T00:00:00.1Z"])
def test_times(value):
    seconds = buildx._time(value)
    assert seconds is None or seconds > 1.7e9


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.binary(max_size=80) | st.sampled_from([b"{", b"}", b"{}", b"[]", b'{"logs": 3}', b'{"vertexes": [3]}']))
)
def test_whatever_comes_it_goes_on(pieces):
    reader = RawJson(lambda _line: None)
    for piece in pieces:
        reader.feed_line(piece + b"\n")
    reader.steps()
    reader.error()


@pytest.mark.parametrize(
    ("shown", "version"),
    [
        ("github.com/docker/buildx 0.13.1+ds1 0.13.1+ds1-3", "0.13.1"),
        ("github.com/docker/buildx v0.14.0 171fcbe", "0.14.0"),
        ("github.com/docker/buildx v0.10.4 c513d34", None),
        ("docker: 'buildx' is not a docker command.", None),
        ("", None),
    ],
)
def test_versions(monkeypatch, shown, version):
    class Done:
        stdout = shown

    monkeypatch.setattr(buildx.shutil, "which", lambda _name: "/usr/bin/docker")
    monkeypatch.setattr(buildx.subprocess, "run", lambda *_args, **_more: Done)
    assert buildx.buildx_version() == version


def test_no_client_at_all(monkeypatch):
    monkeypatch.setattr(buildx.shutil, "which", lambda _name: None)
    assert buildx.buildx_version() is None
