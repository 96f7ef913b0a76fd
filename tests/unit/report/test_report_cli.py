from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from pytest_dockerlab.report.cli import report
from pytest_dockerlab.report.formats import FORMATS

Load = Callable[[str], dict[str, Any]]


def _run(*args: object) -> Result:
    return CliRunner().invoke(report, [str(arg) for arg in args])


@pytest.fixture
def out(tmp_path: Path, load: Load) -> Path:
    """A folder as `dockerlab batch --out` writes it."""
    for name, case in {"alice": "passed", "bob": "failed", "carol": "infra"}.items():
        results = load(case)
        assert results["submission"]["name"] == name
        (tmp_path / "out" / name).mkdir(parents=True)
        (tmp_path / "out" / name / "results.json").write_text(json.dumps(results), "utf-8")
    (tmp_path / "roster.csv").write_text("github,name,id\nalice,Alice,S1\nbob,Bob,S2\n", "utf-8")
    return tmp_path / "out"


def test_help_has_an_example() -> None:
    done = _run("--help")
    assert done.exit_code == 0
    assert 'dockerlab report results.json --format step-summary --append -o "$GITHUB_STEP_SUMMARY"' in done.output


def test_formats_are_listed() -> None:
    assert [line.split()[0] for line in _run("--list-formats").output.splitlines()] == list(FORMATS)
    rows = json.loads(_run("--list-formats", "--json").output)
    assert [row["name"] for row in rows] == list(FORMATS)


def test_json_is_the_result_as_it_is(out: Path, load: Load) -> None:
    assert json.loads(_run(out / "bob", "--json").output) == load("failed")


def test_one_result_in_a_format(out: Path, golden: Path) -> None:
    assert "score: 100 of 100" in _run(out / "alice").output
    done = _run(out / "alice" / "results.json", "--format", "csv")
    assert done.exit_code == 0
    assert done.stdout_bytes == (golden / "expected" / "csv" / "passed.csv").read_bytes()


def test_no_grade_is_status_10_and_classroom50_has_no_file(out: Path, tmp_path: Path) -> None:
    done = _run(out / "carol", "--format", "prairielearn", "-o", tmp_path / "r.json")
    assert done.exit_code == 10
    assert json.loads((tmp_path / "r.json").read_text())["gradable"] is False
    done = _run(out / "carol", "--format", "classroom50", "-o", tmp_path / "result.json")
    assert done.exit_code == 10
    assert not (tmp_path / "result.json").exists()


def test_append_is_for_githubs_files(out: Path, tmp_path: Path) -> None:
    file = tmp_path / "output"
    file.write_text("before=1\n")
    assert _run(out / "bob", "--format", "github-classroom", "--append", "-o", file).exit_code == 0
    lines = file.read_text().splitlines()
    assert lines[0] == "before=1"
    assert [line.split("=")[0] for line in lines[1:]] == [
        "dockerfile", "build", "train", "loss", "artifact", "serve", "predict"]  # fmt: skip


def test_a_gradebook_from_a_folder(out: Path, tmp_path: Path) -> None:
    done = _run(out, "--gradebook", "--roster", tmp_path / "roster.csv", "-o", tmp_path / "g.csv")
    assert done.exit_code == 0
    with (tmp_path / "g.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["name"], row["score"]) for row in rows] == [("Alice", "100"), ("Bob", "18"), ("", "")]


def test_canvas_and_moodle(out: Path, tmp_path: Path) -> None:
    export = tmp_path / "export.csv"
    export.write_bytes(b"Student,ID,SIS User ID,Section,Lab (1)\n,,,,100\nA,1,S1,X,\nB,2,S2,X,\n")
    args = (out, "--roster", tmp_path / "roster.csv")
    done = _run(*args, "--canvas", export, "--assignment-column", "Lab", "-o", tmp_path / "filled.csv")
    assert done.exit_code == 0
    assert (tmp_path / "filled.csv").read_bytes() == export.read_bytes().replace(b"S1,X,", b"S1,X,100").replace(
        b"S2,X,", b"S2,X,18"
    )
    assert "2 filled in\nungraded, not touched: carol\n" in done.stderr
    sheet = tmp_path / "sheet.csv"
    sheet.write_bytes(b"Identifier,ID number,Grade\nParticipant 1,S1,\n")
    done = _run(*args, "--moodle", sheet)
    assert done.stdout_bytes == b"Identifier,ID number,Grade\nParticipant 1,S1,100\n"
    assert "not matched: bob: no row fits" in done.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "no results.json given"),
        (["nix.json"], "nix.json can't be read"),
        (["{tmp}"], "holds no results.json"),
        (["{out}"], "takes one results.json, these are 3"),
        (["{out}", "--gradebook", "--moodle", "x"], "give one of"),
        (["{out}", "--moodle", "x"], "--moodle needs --roster"),
        (["{out}", "--canvas", "{roster}", "--roster", "{roster}"], "--canvas needs --assignment-column"),
        (["{out}", "--moodle", "x.csv", "--roster", "{roster}"], "x.csv can't be read"),
        (["{out}", "--gradebook", "-o", "{out}/alice/results.json"], "it would be lost"),
        (["{out}/alice", "-o", "{out}/none/file"], "can't be written"),
        (["{out}/alice", "--format", "classroom50"], "needs the variables CLASSROOM"),
    ],
)
def test_wrong_use_is_status_4_and_a_sentence(
    out: Path, tmp_path: Path, args: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CLASSROOM", raising=False)
    done = _run(*[arg.format(out=out, tmp=tmp_path, roster=tmp_path / "roster.csv") for arg in args])
    assert done.exit_code == 4
    assert message in done.stderr
    assert done.stderr.startswith("Error: ")


def test_a_pipe_gets_utf8_in_any_locale(out: Path) -> None:
    code = "from pytest_dockerlab.report.cli import report; report()"
    environ = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code, str(out / "bob"), "--lang", "zh"], env=environ,
                          capture_output=True, check=True, timeout=60)  # fmt: skip
    assert "总分：18 / 100" in done.stdout.decode("utf-8")
