"""The rules by which one image name stands for another."""

from pathlib import Path

import pytest

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.images.names import MAX_NAME, load_map, mirrored, normalise, resolve, user_maps
from pytest_dockerlab.images.recipes import RECIPES, STANDIN_LABEL, Recipe, key, labels, with_bases

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("python", "python:latest"),
        ("  python:3.11-slim ", "python:3.11-slim"),
        ("library/python:3", "python:3"),
        ("docker.io/library/python", "python:latest"),
        ("docker.io/pytorch/pytorch", "pytorch/pytorch:latest"),
        ("index.docker.io/library/alpine:3", "alpine:3"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
        ("localhost:5000/x:y", "localhost:5000/x:y"),
        ("ghcr.io/library/x", "ghcr.io/library/x:latest"),
        (f"python@{DIGEST}", f"python@{DIGEST}"),
        (f"docker.io/library/python:3.11@{DIGEST}", f"python:3.11@{DIGEST}"),
        ("pytorch/*", "pytorch/*"),
    ],
)
def test_names_are_read_as_docker_reads_them(written: str, read: str) -> None:
    assert normalise(written) == read


@pytest.mark.parametrize(
    ("name", "images", "expected"),
    [
        ("pytorch/pytorch:2.4.1-cuda12.1-cudnn9-runtime", {"pytorch/pytorch:*": "torch:1"}, "torch:1"),
        ("docker.io/library/python:3.11-slim", {"python:3*": "py:1"}, "py:1"),
        ("python", {"python": "py:1"}, "py:1"),
        ("python", {"python:latest": "py:1"}, "py:1"),
        ("python:3.11", {"docker.io/library/python:3.11": "py:1"}, "py:1"),
        ("localhost:5000/x:y", {"localhost:5000/*": "here/*"}, "here/x:y"),
        ("pytorch/pytorch:2.4", {"pytorch/*": "mirror.example/pytorch/*"}, "mirror.example/pytorch/pytorch:2.4"),
        ("a/b:c", {"*/*:*": "m/*/*:*"}, "m/a/b:c"),
        ("python:3.11", {"python:3.1?": "py:1"}, "py:1"),
        # digests
        (f"python@{DIGEST}", {"python:*": "py:1"}, "py:1"),
        (f"python@{DIGEST}", {"python:*": "mirror.example/python:*"}, f"mirror.example/python@{DIGEST}"),
        (f"python@{DIGEST}", {"python:3*": "py:1"}, None),
        (f"python@{DIGEST}", {"python:latest": "py:1"}, None),
        (f"python:3.11@{DIGEST}", {"python:3.11": "py:1"}, "py:1"),
        (f"python:3.11-slim@{DIGEST}", {"python:3.*-slim": "py:1"}, "py:1"),
        (f"pytorch/pytorch:2@{DIGEST}", {"pytorch/*": "m/*"}, f"m/pytorch:2@{DIGEST}"),
        # what must not match
        ("python:2.7", {"python:3*": "py:1"}, None),
        ("pythonX3", {"python.3": "py:1"}, None),
        ("python:3.11", {"python": "py:1"}, None),
        ("mirror.example/python:3", {"python:3*": "py:1"}, None),
        ("Python:3", {"python:3*": "py:1"}, None),
        ("scratch", {"*": "x"}, None),
        ("", {"*": "x"}, None),
        ("x" * (MAX_NAME + 1), {"*": "x"}, None),
        ("python:3", {}, None),
    ],
)
def test_one_map(name: str, images: dict[str, str], expected: str | None) -> None:
    assert resolve(name, images) == expected


def test_an_exact_name_wins_over_a_glob_in_whatever_order() -> None:
    images = {"python:*": "glob", "python:3.11": "exact"}
    assert resolve("python:3.11", images) == "exact"
    assert resolve("python:3.11", dict(reversed(images.items()))) == "exact"


def test_the_most_specific_glob_wins_in_whatever_order() -> None:
    images = {"*": "any", "py*": "short", "python:3.1*": "long", "python:*": "middle"}
    for order in (images, dict(reversed(images.items()))):
        assert resolve("python:3.11", order) == "long"
        assert resolve("python:3.8", order) == "middle"
        assert resolve("pypy:3", order) == "short"
        assert resolve("ruby", order) == "any"


def test_an_earlier_map_wins_even_with_a_glob() -> None:
    assert resolve("python:3", {"python:*": "first"}, {"python:3": "second"}) == "first"
    assert resolve("python:3", {"ruby:*": "first"}, {"python:3": "second"}) == "second"
    assert resolve("python:3") is None


def test_a_replacement_is_not_replaced_again() -> None:
    assert resolve("a:1", {"a:*": "b:1", "b:*": "c:1"}) == "b:1"


@pytest.mark.parametrize(
    ("pattern", "replacement", "problem"),
    [
        ("python:3*", "", "is empty"),
        ("python:3*", "   ", "is empty"),
        ("python:3*", "a b", "character"),
        ("python:3*", "a\x1b[31m", "character"),
        ("python:3.11", "mirror/*", "as many"),
        ("*/*", "mirror/*", "as many"),
    ],
)
def test_a_replacement_that_cannot_be_an_image_is_refused(pattern: str, replacement: str, problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        resolve("x/python:3.11" if "/" in pattern else "python:3.11", {pattern: replacement})


def test_load_map_reads_only_its_own_table(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('[other]\nx = 1\n[images]\n"python:3*" = "py:1"\n')
    assert load_map(file) == {"python:3*": "py:1"}
    file.write_text("[other]\nx = 1\n")
    assert load_map(file) == {}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pytorch/pytorch = 'x'", "not valid TOML"),
        ("images = 3", "must be a table, not a int"),
        ("[images]\n'python:3' = 3", "'python:3' is a int"),
        ("[images]\npython.x = 'y'", "'python' is a dict"),
        ("[images]\n'python:3' = ''", "is empty"),
        ("[images]\n'' = 'x'", "a name is empty"),
        ("[images]\n'python:3' = 'x/*'", "as many"),
    ],
)
def test_a_bad_file_is_named_with_the_entry_and_what_is_allowed(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        load_map(file)
    assert str(file) in str(caught.value)
    assert "under [images] lines such as" in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_map(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'[images]\n"\xe9" = "x"\n')
    with pytest.raises(UsageError, match="cannot be read"):
        load_map(tmp_path / "latin.toml")


def test_the_users_map_comes_before_the_stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKERLAB_CONFIG_DIR", str(tmp_path))
    assert user_maps() == []
    (tmp_path / "standins.toml").write_text('[images]\n"python:3*" = "standin:1"\n')
    assert resolve("python:3", *user_maps()) == "standin:1"
    (tmp_path / "config.toml").write_text('[images]\n"python:3*" = "mine:1"\n')
    assert user_maps() == [{"python:3*": "mine:1"}, {"python:3*": "standin:1"}]
    assert resolve("python:3", *user_maps()) == "mine:1"


def test_a_mirror_is_the_users_word_and_never_a_stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKERLAB_CONFIG_DIR", str(tmp_path))
    (tmp_path / "standins.toml").write_text('[images]\n"pytorch/*" = "standin:1"\n')
    assert mirrored("pytorch/pytorch:2") == "pytorch/pytorch:2"
    (tmp_path / "config.toml").write_text('[images]\n"pytorch/*" = "mirror.example/pytorch/*"\n')
    assert mirrored("pytorch/pytorch:2") == "mirror.example/pytorch/pytorch:2"


def test_every_recipe_has_a_dockerfile_that_takes_its_base() -> None:
    for recipe in RECIPES.values():
        if recipe.base is not None:
            text = recipe.files()["Dockerfile"].decode()
            assert "ARG BASE=" in text
            assert "FROM ${BASE}" in text
            assert "--mount" not in text
            assert "<<" not in text  # the classic builder would run nothing and say so to nobody


def test_bases_come_first_and_once() -> None:
    names = [recipe.name for recipe in with_bases(["torchserve", "torch", "client"])]
    assert names == ["rootfs", "base", "python", "torch", "torchserve", "client"]
    with pytest.raises(UsageError, match="no image recipe 'nope'"):
        with_bases(["nope"])


def test_a_key_changes_with_the_base_and_the_hosts_files_only() -> None:
    recipe = RECIPES["base"]
    first = key(recipe, "base", {"a": b"1"})
    assert first == key(recipe, "base", {"a": b"1"})
    assert (
        len({first, key(recipe, "other", {"a": b"1"}), key(recipe, "base", {"a": b"2"}), key(recipe, "base", {})}) == 4
    )
    assert key(recipe, "base", {"a": b"1b2"}) != key(recipe, "base", {"a": b"1", "b": b"2"})


def test_our_own_image_on_a_stand_in_does_not_pass_for_one() -> None:
    assert labels(RECIPES["client"])[STANDIN_LABEL] == ""
    assert labels(RECIPES["python"])[STANDIN_LABEL].startswith("python:3*,")
    assert Recipe("x", ours=True).repository == "dockerlab/x"
    assert Recipe("x").repository == "dockerlab/standin-x"
