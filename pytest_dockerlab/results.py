"""A grade, and its form as `results.json`."""

from __future__ import annotations

import platform
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_dockerlab import __version__
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.checks.base import CheckResult, Outcome
from pytest_dockerlab.facts import Environment, to_dict
from pytest_dockerlab.submission import Submission

SCHEMA = "dockerlab/results/v1"
EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_NO_GRADE = 0, 1, 4, 10
FACTS = ("build", "train", "loss", "artifact", "serve", "predict")  # always there, empty where a stage did not run


@dataclass(frozen=True)
class Grade:
    """The outcome of one run. `score` is `None` unless every check was judged and none is `infra`."""

    assignment: Assignment
    submission: Submission
    checks: tuple[CheckResult, ...]
    facts: dict[str, object]
    folder: Path
    environment: Environment | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    total_s: float = 0.0
    reused: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def graded(self) -> bool:
        """Whether there is a score."""
        return all(check.outcome is not Outcome.INFRA for check in self.checks)

    @property
    def score(self) -> int | None:
        """The sum of the points."""
        return sum(check.points for check in self.checks) if self.graded else None

    @property
    def exit_status(self) -> int:
        """0 all passed, 1 something failed, 10 no grade."""
        if any(check.outcome is Outcome.INFRA for check in self.checks):
            return EXIT_NO_GRADE
        return EXIT_OK if all(check.outcome is Outcome.PASSED for check in self.checks) else EXIT_FAILED

    def to_results(self) -> dict[str, Any]:
        """Return `results.json`, schema `dockerlab/results/v1`."""
        machine = self.environment
        return {
            "schema": SCHEMA,
            "dockerlab_version": __version__,
            "assignment": {"name": self.assignment.name, "sha256": self.assignment.sha256},
            "submission": {
                "name": self.submission.name,
                "sha256": self.submission.sha256,
                "commit": self.submission.commit,
            },
            "graded": self.graded,
            "score": self.score,
            "max_score": self.assignment.max_score,
            "checks": [check.to_dict() for check in self.checks],
            "facts": {
                name: to_dict(self.facts[name]) if name in self.facts else {}
                for name in (*FACTS, *(["provenance"] if "provenance" in self.facts else []))
            },
            "environment": {
                "cpus": machine.cpus if machine else 0,
                "memory_bytes": machine.memory_bytes if machine else 0,
                "gpus": [dict(one) for one in machine.gpus] if machine else [],
                "os": machine.os if machine else platform.platform(),
                "engine": machine.engine if machine else None,
                "frameworks": {},
                "cuda": None,
            },
            "timing": {"total_s": round(self.total_s, 2), "stages": dict(self.seconds)},
            "notes": list(self.notes),
        }
