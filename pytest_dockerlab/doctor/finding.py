"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """How bad it is."""

    OK = "ok"
    WARN = "warn"  # grading works, with less than it could have
    FAIL = "fail"  # grading does not work


@dataclass(frozen=True)
class Finding:
    """One line: which check, how bad, what was seen, and the command that mends it."""

    check: str
    status: Status
    message: str
    fix: str | None = None

    def to_dict(self) -> dict[str, str | None]:
        """Return what `--json` prints of it."""
        return {"check": self.check, "status": self.status.value, "message": self.message, "fix": self.fix}


def ok(check: str, message: str) -> Finding:
    """Return a finding that is fine."""
    return Finding(check, Status.OK, message)


def warn(check: str, message: str, fix: str | None = None) -> Finding:
    """Return a finding that is worth a thought."""
    return Finding(check, Status.WARN, message, fix)


def fail(check: str, message: str, fix: str | None = None) -> Finding:
    """Return a finding without whose mending nothing is graded."""
    return Finding(check, Status.FAIL, message, fix)
