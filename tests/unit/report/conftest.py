"""The results that every report is tried on: all passed, failures with blocked checks, infra, hostile strings."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "report"
CASES = ("passed", "failed", "infra", "hostile")

Load = Callable[[str], dict[str, Any]]


@pytest.fixture
def golden() -> Path:
    return GOLDEN


@pytest.fixture
def load() -> Load:
    """Return a fresh copy of one of the cases by its name."""

    def read(name: str) -> dict[str, Any]:
        found = json.loads((GOLDEN / "inputs" / f"{name}.json").read_text("utf-8"))
        assert isinstance(found, dict)
        return found

    return read


@pytest.fixture
def make(load: Load) -> Callable[..., dict[str, Any]]:
    """Return results with the given `{check id: (outcome, points, max_points)}`; sums are kept right."""

    def build(checks: dict[str, tuple[str, int, int]], **changes: Any) -> dict[str, Any]:
        results = copy.deepcopy(load("passed"))
        results["checks"] = [
            {"id": name, "title": f"Check {name}", "outcome": outcome, "points": points, "max_points": best,
             "message": f"about {name}", "blocked_by": next(iter(checks)) if outcome == "blocked" else None,
             "duration_s": 1.0, "hints": [], "evidence": []}
            for name, (outcome, points, best) in checks.items()
        ]  # fmt: skip
        results["graded"] = all(outcome != "infra" for outcome, _, _ in checks.values())
        results["score"] = sum(points for _, points, _ in checks.values()) if results["graded"] else None
        results["max_score"] = sum(best for _, _, best in checks.values())
        results.update(changes)
        return results

    return build


@pytest.fixture
def classroom50_environ() -> dict[str, str]:
    return {
        "CLASSROOM": "cs101",
        "ASSIGNMENT": "mnist",
        "ASSIGNMENT_TYPE": "individual",
        "OWNER": "alice",
        "USERNAME": "runner",
        "SUBMISSION_TAG": "submit/2026-06-01T14-32-05Z-a1b2c3d",
        "COMMIT_URL": "https://github.example/o/r/commit/1",
        "RELEASE_URL": "https://github.example/o/r/releases/1",
        "REVIEW_URL": "https://github.example/o/r/pull/1",
    }
