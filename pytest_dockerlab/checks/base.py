"""What a check says, and what becomes of it in a grade."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from pytest_dockerlab.errors import CheckFailed

NOT_RUN = "not run in this session"  # the message of a check that was left out: no grade, and nobody's fault


class Outcome(str, Enum):
    """The four ways in which a check can end."""

    PASSED = "passed"
    FAILED = "failed"
    BLOCKED = "blocked"  # an earlier check failed
    INFRA = "infra"  # our fault: no grade


@dataclass(frozen=True)
class Judgement:
    """Whether the facts satisfy a check; `message` says in a sentence or two what was seen, for passes too.

    `fix` is what to do about it, `evidence` names files of the run's folder.
    """

    passed: bool
    message: str
    fix: str | None = None
    evidence: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()  # warnings that cost no points

    def require(self) -> None:
        """Raise `CheckFailed` unless passed."""
        if not self.passed:
            raise CheckFailed(self.message, fix=self.fix)


def passed(message: str, *evidence: str | None, notes: tuple[str, ...] = ()) -> Judgement:
    """Return a pass with its evidence. A check with no evidence is not a pass."""
    kept = tuple(name for name in evidence if name)
    assert kept, f"a pass without evidence: {message}"
    return Judgement(True, message, None, kept, notes)


def failed(message: str, fix: str | None, *evidence: str | None) -> Judgement:
    """Return a failure: what was seen, what to do."""
    return Judgement(False, message, fix, tuple(name for name in evidence if name))


@dataclass(frozen=True)
class CheckResult:
    """One check of a grade, as it goes into `results.json`."""

    id: str
    title: str
    outcome: Outcome
    points: int
    max_points: int
    message: str
    blocked_by: str | None = None
    duration_s: float = 0.0
    hints: tuple[dict[str, str], ...] = ()
    evidence: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the entry of `checks` in `results.json`."""
        return {
            "id": self.id,
            "title": self.title,
            "outcome": self.outcome.value,
            "points": self.points,
            "max_points": self.max_points,
            "message": self.message,
            "blocked_by": self.blocked_by,
            "duration_s": round(self.duration_s, 2),
            "hints": [dict(hint) for hint in self.hints],
            "evidence": list(self.evidence),
        }
