"""Options, environment and ini, merged."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.settings import OPTIONS, resolve


def test_defaults(tmp_path):
    settings = resolve({}, environ={}, cwd=tmp_path)
    assert settings.submission == tmp_path
    assert (settings.gpu, settings.lang, settings.fresh, settings.keep) == ("auto", "en", False, False)
    assert settings.given == frozenset()


@pytest.mark.parametrize(
    ("cli", "env", "ini", "lang"),
    [("zh", "en", "en", "zh"), (None, "zh", "en", "zh"), (None, None, "zh", "zh"), (None, "", None, "en")],
)
def test_precedence(cli, env, ini, lang):
    environ = {} if env is None else {"DOCKERLAB_LANG": env}
    settings = resolve({"lang": cli}, lambda key: ini if key == "lang" else None, environ)
    assert settings.lang == lang


def test_what_was_given_is_known():
    assert resolve({"gpu": "none"}, environ={"DOCKERLAB_KEEP": "1"}).given == {"gpu", "keep"}


@pytest.mark.parametrize(("word", "value"), [("1", True), ("yes", True), ("ON", True), ("no", False), ("0", False)])
def test_flags(word, value):
    assert resolve({}, environ={"DOCKERLAB_FRESH": word}).fresh is value


def test_a_flag_that_says_no_wins_over_the_ini():
    assert resolve({}, lambda _: "yes", {"DOCKERLAB_FRESH": "no", "DOCKERLAB_LANG": "en"} | quiet()).fresh is False


def quiet():
    """Values for what `yes` is no answer to."""
    return {
        option.variable: {"gpu": "auto", "lang": "en", "runtime": "auto", "max_disk": "1GB"}.get(option.key, "x")
        for option in OPTIONS
        if not option.flag
    }


def test_paths_are_absolute_and_start_where_pytest_was_called(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    settings = resolve({"results": "r.json", "report": "~/report", "submission": "repo"}, environ={}, cwd=tmp_path)
    assert settings.results == tmp_path / "r.json"
    assert settings.report == Path("/home/someone/report")
    assert settings.submission == tmp_path / "repo"


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("lang", "de", "en, zh"),
        ("runtime", "kata", "auto, runc, runsc"),
        ("gpu", "maybe", "--dockerlab-gpu"),
        ("fresh", "maybe", "neither yes nor no"),
        ("max_disk", "lots", "is no size"),
        ("results", "x" * 300, "File name too long"),
        ("report", "x" * 300, "File name too long"),
    ],
)
def test_wrong_values(key, value, words):
    with pytest.raises(UsageError) as caught:
        resolve({key: value}, environ={})
    assert words in str(caught.value)


def test_the_secret_is_in_no_repr():
    settings = resolve({}, environ={"DOCKERLAB_SECRET": "hush"})
    assert settings.secret == "hush"
    assert "hush" not in repr(settings)
