from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report import schema

Load = Callable[[str], dict[str, Any]]


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(schema.results_schema())


@pytest.mark.parametrize("case", ["passed", "failed", "infra", "hostile"])
def test_the_cases_are_valid(load: Load, golden: Path, case: str) -> None:
    schema.validate(load(case))
    assert schema.load_results(golden / "inputs" / f"{case}.json") == load(case)


def _set(*path: str | int, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(results: Any) -> None:
        for part in path[:-1]:
            results = results[part]
        results[path[-1]] = to

    return change


def _drop(key: str) -> Callable[[dict[str, Any]], None]:
    return lambda results: results.pop(key)


WRONG = [
    ("passed", _set("schema", to="dockerlab/results/v2"), "at schema: "),
    ("passed", _drop("facts"), "'facts' is a required property"),
    ("passed", _set("more", to=1), "at the top level: .*'more'"),
    ("passed", _set("checks", 1, "more", to=1), r"at checks\[1\]: .*'more'"),
    ("passed", _set("score", to=None), "at score: "),
    ("passed", _set("graded", to=False), "at score: "),
    ("passed", _set("score", to=99), "at score: 99, but the checks add up to 100"),
    ("passed", _set("max_score", to=99), "at max_score: 99, but the checks are worth 100"),
    ("passed", _set("checks", to=[]), "at checks: "),
    ("passed", _set("checks", 0, "points", to=6), r"at checks\[0\]\.points: 6 of 5"),
    ("passed", _set("checks", 0, "points", to=-1), r"at checks\[0\]\.points: "),
    ("passed", _set("checks", 0, "points", to=2.5), r"at checks\[0\]\.points: "),
    ("passed", _set("checks", 0, "points", to=5.0), r"at checks\[0\]\.points: points are integers"),
    ("passed", _set("checks", 0, "points", to=True), r"at checks\[0\]\.points: "),
    ("passed", _set("checks", 0, "outcome", to="skipped"), r"at checks\[0\]\.outcome: "),
    ("passed", _set("checks", 0, "outcome", to="infra"), "at checks.*|at graded"),
    ("passed", _set("checks", 0, "id", to="build"), r"at checks\[1\]\.id: 'build' is there twice"),
    ("passed", _set("checks", 0, "blocked_by", to="train"), r"at checks\[0\]\.blocked_by: "),
    ("passed", _set("checks", 0, "evidence", to=[1]), r"at checks\[0\]\.evidence\[0\]: "),
    ("passed", _set("checks", 0, "hints", to=[{"rule": "x"}]), r"at checks\[0\]\.hints\[0\]: "),
    ("passed", _set("facts", "build", to=[]), r"at facts\.build: "),
    ("passed", _set("submission", "sha256", to="abc"), r"at submission\.sha256: "),
    ("failed", _set("checks", 3, "points", to=1), r"at checks\[3\]\.points: "),
    ("failed", _set("checks", 3, "blocked_by", to=None), r"at checks\[3\]\.blocked_by: "),
    ("infra", _set("score", to=0), "at score: "),
    ("infra", _set("graded", to=True), "at graded: |at score: "),
]


@pytest.mark.parametrize(("case", "change", "message"), WRONG)
def test_what_is_wrong_is_named(load: Load, case: str, change: Callable[[Any], None], message: str) -> None:
    results = load(case)
    change(results)
    with pytest.raises(UsageError, match=f"not a valid dockerlab/results/v1: .*{message}") as caught:
        schema.validate(results)
    assert len(str(caught.value)) < 700


def test_a_long_value_is_not_repeated(load: Load) -> None:
    results = load("passed")
    results["checks"][0]["points"] = "x" * 100_000
    with pytest.raises(UsageError) as caught:
        schema.validate(results)
    assert len(str(caught.value)) < 700


def test_points_that_are_no_verdict_are_none(load: Load) -> None:
    results = load("infra")
    assert [schema.points_of(check, results) for check in results["checks"]] == [5, 15, *[None] * 5]
    results = load("failed")
    assert [schema.points_of(check, results) for check in results["checks"]] == [3, 15, 0, 0, 0, 0, 0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"a": NaN}', "NaN is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "an object is needed, this is list"),
        (b"{}", "at schema"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "results.json"
    file.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        schema.load_results(file)
    assert str(file) in str(caught.value)


def test_a_file_is_read_within_bounds(tmp_path: Path, load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "results.json"
    file.write_text(json.dumps(load("passed")), "utf-8")
    monkeypatch.setattr(schema, "MAX_RESULTS_BYTES", 1000)
    with pytest.raises(UsageError, match="larger than"):
        schema.load_results(file)
    with pytest.raises(UsageError, match="can't be read"):
        schema.load_results(tmp_path)
