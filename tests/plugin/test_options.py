"""Options: command line over environment over ini; wrong values are named together with the valid ones."""

from __future__ import annotations

import pytest

USAGE = pytest.ExitCode.USAGE_ERROR


def header(result, word):
    return any(word in line for line in result.outlines if line.startswith("dockerlab:"))


def test_the_command_line_wins_over_the_environment(lab, monkeypatch):
    monkeypatch.setenv("DOCKERLAB_LANG", "zh")
    assert header(lab.run("--collect-only", "--dockerlab-lang", "en"), "language en")


def test_the_environment_wins_over_the_ini_file(lab, monkeypatch):
    lab.pytester.makeini("[pytest]\ndockerlab_lang = en\n")
    monkeypatch.setenv("DOCKERLAB_LANG", "zh")
    assert header(lab.run("--collect-only"), "language zh")


def test_the_ini_file_wins_over_the_default(lab):
    lab.pytester.makeini("[pytest]\ndockerlab_lang = zh\n")
    assert header(lab.run("--collect-only"), "language zh")


def test_the_default(lab):
    assert header(lab.run("--collect-only"), "language en")


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--dockerlab-lang", "de", "en, zh"),
        ("--dockerlab-runtime", "kata", "auto, runc, runsc"),
        ("--dockerlab-gpu", "some", "auto"),
        ("--dockerlab-gpu", "0,", "auto"),
    ],
)
def test_a_wrong_value_is_refused(lab, option, value, named):
    result = lab.run(option, value)
    assert result.ret == USAGE
    said = result.stderr.str()
    assert option in said
    assert named in said
    assert "Traceback" not in said


def test_a_wrong_value_in_the_environment_names_the_variable(lab, monkeypatch):
    monkeypatch.setenv("DOCKERLAB_LANG", "de")
    result = lab.run()
    assert result.ret == USAGE
    assert "DOCKERLAB_LANG" in result.stderr.str()


def test_a_wrong_value_in_the_ini_file_names_the_setting(lab):
    lab.pytester.makeini("[pytest]\ndockerlab_runtime = kata\n")
    result = lab.run()
    assert result.ret == USAGE
    assert "dockerlab_runtime" in result.stderr.str()


@pytest.mark.parametrize("value", ["maybe", "2"])
def test_a_flag_is_yes_or_no(lab, monkeypatch, value):
    monkeypatch.setenv("DOCKERLAB_FRESH", value)
    result = lab.run()
    assert result.ret == USAGE
    assert "yes" in result.stderr.str()


def test_a_wrong_value_runs_nothing(lab):
    lab.run("--dockerlab-lang", "de")
    assert lab.engine.calls == []
    assert not lab.results_file.exists()


def test_xdist_is_refused(lab):
    pytest.importorskip("xdist")
    result = lab.run("-n", "2")
    assert result.ret == USAGE
    assert "xdist" in result.stderr.str()
    assert lab.engine.calls == []


def test_quiet_shows_no_progress(lab):
    result = lab.run("-q")
    assert result.ret == 0
    assert "building the image" not in result.stdout.str()


def test_a_report_folder(lab):
    folder = lab.root / "report"
    assert lab.run("--dockerlab-report", folder).ret == 0
    names = {path.name for path in folder.iterdir()}
    assert {"results.json", "train.log", "build.log"} <= names
    assert not [name for name in names if name.endswith((".bin", ".tar", ".lock"))]
    for check in lab.results["checks"]:
        assert check["evidence"], check["id"]
        assert set(check["evidence"]) <= names


def test_results_that_are_a_folder_are_refused(lab):
    result = lab.run("--dockerlab-results", lab.root)
    assert result.ret == USAGE
    assert "is a folder" in result.stderr.str()
    assert lab.engine.calls == []


def test_a_report_that_is_a_file_is_refused(lab):
    result = lab.run("--dockerlab-report", lab.write("train.py", ""))
    assert result.ret == USAGE
    assert "is a file" in result.stderr.str()


def test_digits_that_cannot_be_used_are_refused_before_anything_runs(lab):
    result = lab.run("--dockerlab-digits", lab.root / "nowhere")
    assert result.ret == USAGE
    assert "labels.csv" in result.stderr.str()
    assert "Traceback" not in result.stderr.str()
    assert lab.engine.calls == []


@pytest.mark.parametrize(
    ("asked", "shown"), [("--help", "*--dockerlab-gpu=*"), ("--markers", "*mark.dockerlab(check=*")]
)
def test_help_needs_no_assignment(lab, asked, shown):
    result = lab.run(asked, named=False)
    assert result.ret == 0
    result.stdout.fnmatch_lines([shown])
    assert lab.engine.calls == []
