"""`dockerlab loss`: what it prints, how it ends, what it says of wrong usage."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from pytest_dockerlab.train.cli import loss

GOOD = "".join(f"step {at} loss: {2.3 * 0.9**at:.4f}\n" for at in range(40))


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "train.log"
    path.write_text(GOOD)
    return path


def run(*args, **more):
    return CliRunner().invoke(loss, [str(arg) for arg in args], **more)


def test_a_sentence_and_a_sparkline(log):
    result = run(log)
    assert result.exit_code == 0
    assert result.output.startswith("decreased: The loss fell by")
    assert "█" in result.output
    assert "log:key-value" in result.output


def test_standard_input():
    result = run("-", "--json", input=GOOD)
    assert result.exit_code == 0
    assert json.loads(result.output)["points"] == 40


def test_all_readings_count_also_those_that_were_not_kept():
    log = "".join(f"step {at} loss: {2.3 * 0.9995**at:.6f}\n" for at in range(5000))
    answer = json.loads(run("-", "--json", input=log).output)
    assert answer["points"] == 5000
    assert "of 5000 readings" in answer["sentence"]


def test_json_has_no_nan():
    answer = json.loads(run("-", "--json", input="loss: nan\n" * 9).output, parse_constant=pytest.fail)
    assert answer["verdict"] == "nan"
    assert answer["first"] is None


def test_nearest_lines_are_shown():
    result = run("-", input="the loss was about 0,5\n")
    assert result.exit_code == 1
    assert "near: the loss was about 0,5" in result.output


def test_rules_can_be_set(log):
    assert run(log, "--min-points", "41").exit_code == 1
    assert run(log, "--min-relative-drop", "0.999").exit_code == 1
    assert run(log, "--series", "validation").exit_code == 1


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((), "LOG"),
        (("no-such-file",), "No such file"),
        (("-", "--min-points", "1"), "--min-points"),
        (("-", "--min-points", "x"), "not a valid integer"),
        (("-", "--alpha", "2"), "--alpha"),
        (("-", "--series", "other"), "validation"),
        (("-", "--plot", "curve.gif"), ".svg or .png"),
        (("-", "--unknown"), "--unknown"),
    ],
)
def test_wrong_usage_ends_with_4(args, message):
    result = run(*args, input=GOOD)
    assert result.exit_code == 4
    assert message in result.output


def test_a_folder_is_no_log(tmp_path):
    assert run(tmp_path).exit_code == 4


def test_help_has_an_example():
    result = run("--help")
    assert result.exit_code == 0
    assert "dockerlab loss -" in result.output


@pytest.mark.parametrize(("name", "begin"), [("a.svg", b"<?xml"), ("a.PNG", b"\x89PNG")])
def test_plots(log, tmp_path, name, begin):
    pytest.importorskip("matplotlib")
    assert run(log, "--plot", tmp_path / name).exit_code == 0
    assert (tmp_path / name).read_bytes().startswith(begin)


def test_a_plot_that_cannot_be_written(log, tmp_path):
    pytest.importorskip("matplotlib")
    assert run(log, "--plot", tmp_path / "no" / "a.svg").exit_code == 4


def test_a_metrics_file_that_is_none_is_read_as_a_log(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text(GOOD)
    assert run(path).exit_code == 0
