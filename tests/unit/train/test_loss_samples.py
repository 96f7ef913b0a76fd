"""Every sample that a real framework printed is read right (tests/samples/logs)."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pytest_dockerlab.facts import Series
from pytest_dockerlab.train.cli import loss as loss_command
from pytest_dockerlab.train.loss import read_log, read_metrics
from pytest_dockerlab.train.trend import judge

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SAMPLES = Path(__file__).parents[2] / "samples" / "logs"
EXPECTED = tomllib.loads((SAMPLES / "expected.toml").read_text(encoding="utf-8"))


def path_of(name: str) -> Path:
    return SAMPLES / (name if name.startswith("files/") else f"{name}.log")


def test_every_sample_is_described():
    logs = {path.stem for path in SAMPLES.glob("*.log")} | {f"files/{path.name}" for path in SAMPLES.glob("files/*")}
    assert logs == set(EXPECTED)


def test_samples_are_small_and_name_no_machine():
    for name in EXPECTED:
        data = path_of(name).read_bytes()
        assert len(data) < 30_000, name
        assert b"/home/" not in data, name
        assert b"/tmp/" not in data, name


@pytest.mark.parametrize("name", EXPECTED)
def test_the_sample_is_read_right(name):
    if "tfevents" in name:
        pytest.importorskip("tensorboard")
    path, wanted = path_of(name), EXPECTED[name]
    curve = read_metrics({path.name: path.read_bytes()}) if name.startswith("files/") else read_log(path)
    verdict = judge(curve)
    assert verdict.kind.value == wanted["verdict"], verdict.sentence
    assert verdict.detail == wanted.get("detail", verdict.detail)
    assert curve.source == wanted["source"]
    assert len(curve.values()) == wanted["points"]
    assert curve.name == wanted.get("name", curve.name)
    for series in ("validation", "test"):
        assert len(curve.values(Series(series))) == wanted.get(series, len(curve.values(Series(series))))
    assert curve.claimed_epochs == wanted.get("epochs", curve.claimed_epochs)
    if "accuracy" in wanted:
        assert curve.claimed_accuracy == pytest.approx(wanted["accuracy"], abs=1e-4)


@pytest.mark.parametrize("name", EXPECTED)
def test_the_command_says_the_same(name):
    if "tfevents" in name:
        pytest.importorskip("tensorboard")
    wanted = EXPECTED[name]
    result = CliRunner().invoke(loss_command, [str(path_of(name)), "--json"])
    answer = json.loads(result.stdout)
    assert (answer["verdict"], answer["source"], answer["points"]) == (
        wanted["verdict"],
        wanted["source"],
        wanted["points"],
    )
    assert {"first", "last", "relative_drop", "sentence"} <= set(answer)
    assert result.exit_code == (0 if wanted["verdict"] == "decreased" else 1)
