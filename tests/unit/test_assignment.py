"""`assignment.toml`: what is refused, and whether the words say what is allowed."""

from __future__ import annotations

import pytest

from pytest_dockerlab import tomlfile
from pytest_dockerlab.assignment import FILE, Assignment, bundled_names
from pytest_dockerlab.errors import UsageError

GOOD = """schema = 1
name = "tiny"
title = { en = "Tiny", zh = "小" }
[[checks]]
id = "build"
points = 100
title = { en = "builds", zh = "构建" }
"""


@pytest.fixture
def load(tmp_path):
    def load(text=GOOD):
        (tmp_path / FILE).write_text(text)
        return Assignment.load(str(tmp_path))

    return load


def test_defaults(load):
    assignment = load()
    assert assignment.name == "tiny"
    assert assignment.max_score == 100
    assert assignment.spec.limits.memory == 4 << 30
    assert assignment.check("build").points == 100
    assert assignment.check("nothing") is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("schema = 1", "schema = 2"), ["schema", "2 is not allowed", "allowed: 1"]),
        (("schema = 1\n", ""), ["schema: this key has to be there"]),
        (('"tiny"', '"Tiny Lab"'), ["name", "'Tiny Lab' is not allowed", "it has to match ^[a-z]"]),
        (("points = 100", "points = -1"), ["checks[1].points", "-1 is not allowed", "at least 0"]),
        (("points = 100", "points = 0"), ["no check is worth a point"]),
        (("points = 100", 'points = "many"'), ["checks[1].points", "'many' is not allowed: an integer is needed"]),
        (("points = 100", "points = 1.5"), ["checks[1].points", "1.5 is not allowed: an integer is needed"]),
        (('id = "build"', 'id = "Build it"'), ["checks[1].id"]),
        (('id = "build"', 'idd = "build"'), ["checks[1].idd", "no such key", "id, points, title"]),
        (('zh = "构建"', 'zh = ""'), ["checks[1].title.zh"]),
    ],
)
def test_a_wrong_value_is_named_with_its_place(load, change, words):
    with pytest.raises(UsageError) as caught:
        load(GOOD.replace(*change))
    for word in ["assignment.toml", *words]:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ("[limits]\nmemory = '1MiB'", ["limits.memory", "allowed are 128.0MiB to 1.0TiB"]),
        ("[limits]\nmemory = 'much'", ["limits.memory"]),
        ("[limits]\ncpus = 0", ["limits.cpus", "at least 0.1"]),
        ("[limits]\nram = 1", ["limits.ram", "no such key", "memory, output, pids, shm"]),
        ("[timeouts]\nbuild = 1", ["timeouts.build", "at least 5"]),
        ("[serve]\nserver = 'flask'", ["serve.server", "'torchserve', 'triton' or 'http'"]),
        ("[train]\ngpu = 'banana'", ["train.gpu", "'banana' names no GPU", "auto, none, required, INDEX"]),
        ("[train]\nnetwork = 'host'", ["train.network", "'none' or 'bridge'"]),
        ("[predict]\nimages = 20\nmin_correct = 21", ["predict", "more than images (20)"]),
        ("[tran]\ndata = 'none'", ["tran", "train"]),
        ("[loss]\nalpha = 0.9", ["loss.alpha", "at most 0.5"]),
    ],
)
def test_a_wrong_table(load, tables, words):
    with pytest.raises(UsageError) as caught:
        load(GOOD + tables)
    for word in words:
        assert word in str(caught.value)


def test_every_error_has_a_line(load):
    with pytest.raises(UsageError) as caught:
        load(GOOD + "[limits]\ncpus = 0\npids = 1\n[timeouts]\ntrain = 0\n")
    lines = str(caught.value).splitlines()
    assert "3 wrong settings" in lines[0]
    assert len(lines) == 4


def test_the_same_check_twice(load):
    again = GOOD[GOOD.index("[[checks]]") :]
    with pytest.raises(UsageError, match="'build' stands twice"):
        load(GOOD + again)


@pytest.mark.parametrize(("text", "number"), [("4GiB", 4 << 30), ("500MB", 500_000_000), (1 << 30, 1 << 30)])
def test_sizes_are_bytes_or_text(load, text, number):
    assert load(GOOD + f"[limits]\nmemory = {text!r}\n").spec.limits.memory == number


def test_unknown_names_the_bundled_ones():
    with pytest.raises(UsageError) as caught:
        Assignment.load("mnits")
    assert "mnist" in str(caught.value)


def test_the_bundled_ones_load():
    assert "mnist" in bundled_names()
    for name in bundled_names():
        assignment = Assignment.load(name)
        assert assignment.name == name
        assert assignment.test_files


def test_a_folder_in_reach_does_not_shadow_a_bundled_name(tmp_path, monkeypatch):
    """A student's repository may hold a folder `mnist`: the name means ours."""
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / FILE).write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    assert Assignment.load("mnist").name == "mnist"
    assert Assignment.load("./mnist").name in ("mnist", "tiny")


def test_the_hash_follows_what_decides_a_grade(load, tmp_path):
    first = load().sha256
    (tmp_path / "starter").mkdir()
    (tmp_path / "starter" / "x").write_text("x")
    assert load().sha256 == first
    (tmp_path / "test_tiny.py").write_text("def test(): pass\n")
    assert load().sha256 != first


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"a = ", "no valid TOML"),
        (b"#" * (300 * 1024), "over 32 KiB"),
    ],
)
def test_files_that_are_no_toml(tmp_path, data, words):
    path = tmp_path / "x.toml"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=words):
        tomlfile.read_toml(path)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot be read"):
        tomlfile.read_toml(tmp_path / "nothing.toml")
