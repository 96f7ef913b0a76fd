"""Metrics files from a container: which one counts, and that hostile ones do no harm."""

from __future__ import annotations

import json
import math
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dockerlab.facts import LossCurve, LossPoint, Series
from pytest_dockerlab.train.loss import best_curve, read_metrics


def jsonl(values, key="train_loss") -> bytes:
    return b"".join(
        json.dumps({"step": at, "epoch": at // 5, key: value}).encode() + b"\n" for at, value in enumerate(values)
    )


def csv(values, key="train_loss") -> bytes:
    return f"epoch,step,{key},val_loss\n".encode() + b"".join(
        b"%d,%d,%r,\n%d,%d,,0.5\n" % (at // 5, at, value, at // 5, at) for at, value in enumerate(values)
    )


def log_curve(count) -> LossCurve:
    return LossCurve(tuple(LossPoint(float(at)) for at in range(count)), source="log:x", claimed_accuracy=0.9)


def test_json_lines():
    curve = read_metrics({"out/metrics.jsonl": jsonl([3.0, 2.0, math.nan])})
    assert curve.source == "file:metrics.jsonl"
    assert curve.values()[:2] == [3.0, 2.0]
    assert math.isnan(curve.values()[2])
    assert [point.step for point in curve.points] == [0, 1, 2]


def test_nested_json_and_text_numbers():
    data = b'{"train": {"loss": "0.5"}, "val": {"loss": 0.7}}\nnot json\n[1]\n{"loss": true}\n'
    curve = read_metrics({"metrics.jsonl": data})
    assert (curve.values(), curve.values(Series.VALIDATION)) == ([0.5], [0.7])


def test_csv_with_gaps():
    curve = read_metrics({"lightning_logs/version_0/metrics.csv": csv([3.0, 2.0])})
    assert (curve.values(), curve.values(Series.VALIDATION)) == ([3.0, 2.0], [0.5, 0.5])


def test_the_last_version_counts():
    files = {f"lightning_logs/version_{at}/metrics.csv": csv([float(at)]) for at in (2, 10, 9)}
    assert read_metrics(files).values() == [10.0]


def test_the_order_of_trust():
    files = {
        "metrics.csv": csv([2.0]),
        "metrics.jsonl": jsonl([1.0]),
        "trainer_state.json": json.dumps({"log_history": [{"loss": 3.0, "step": 1}]}).encode(),
    }
    assert read_metrics(files).values() == [1.0]
    del files["metrics.jsonl"]
    assert read_metrics(files).values() == [2.0]
    del files["metrics.csv"]
    assert read_metrics(files).values() == [3.0]


def test_a_file_without_training_loss_is_passed_over():
    files = {"metrics.jsonl": jsonl([1.0], "val_loss"), "metrics.csv": csv([2.0])}
    assert read_metrics(files).values() == [2.0]


def test_no_file_tells_a_loss():
    assert read_metrics({}) is None
    assert read_metrics({"metrics.csv": b"a,b\n1,2\n", "model.pt": b"loss: 3", "x.jsonl": b"\xff\x00"}) is None


def test_a_file_is_trusted_before_the_log_and_the_claims_are_kept():
    curve = best_curve({"metrics.jsonl": jsonl([3.0] * 10)}, log_curve(90))
    assert curve.source == "file:metrics.jsonl"
    assert curve.claimed_accuracy == 0.9


def test_a_file_with_next_to_nothing_yields_to_the_log():
    assert best_curve({"metrics.jsonl": jsonl([3.0])}, log_curve(90)).source == "log:x"
    assert best_curve({"metrics.jsonl": jsonl([3.0])}, log_curve(0)).source == "file:metrics.jsonl"
    assert best_curve({}, log_curve(3)).source == "log:x"


def test_event_files_without_the_library_leave_a_note(monkeypatch):
    monkeypatch.setitem(sys.modules, "pytest_dockerlab.train.loss.tfevents", None)
    curve = best_curve({"events.out.tfevents.1": b"x"}, LossCurve())
    assert "tensorboard" in curve.near_misses[0]
    assert best_curve({"events.out.tfevents.1": b"x"}, log_curve(3)).source == "log:x"


def test_a_broken_event_file_is_no_error():
    pytest.importorskip("tensorboard")
    assert read_metrics({"events.out.tfevents.1": b"\x00" * 100}) is None


@pytest.mark.parametrize(
    "data",
    [
        b'{"log_history": 5}',
        b"[" * 100_000,
        b'{"log_history": [{"loss": ' + b"9" * 5000 + b"}]}",
        b'{"log_history": [{"loss": 1e999, "step": 1e999}]}',
        b"\xff",
    ],
)
def test_a_hostile_trainer_state(data):
    read_metrics({"trainer_state.json": data})
    read_metrics({"metrics.jsonl": data})


@given(st.dictionaries(st.sampled_from(["a.jsonl", "b.csv", "trainer_state.json"]), st.binary(max_size=200)))
def test_nothing_makes_it_raise(files):
    read_metrics(files)


@given(st.text(alphabet='loss,"\n\r01.\0é', max_size=200))
def test_no_csv_makes_it_raise(text):
    read_metrics({"b.csv": text.encode()})
