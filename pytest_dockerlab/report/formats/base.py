"""What a format is: a pure function from results to text, with a name and the file that the other system looks for."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.report.escape import no_commands
from pytest_dockerlab.report.schema import Results


class NoGrade(InfraError):
    """The submission is ungraded, and the other system has no way to say so in a file: there must be none."""


@dataclass(frozen=True)
class Context:
    """All that a converter may know beside the results: nothing is read from the process or the clock."""

    lang: str = "en"
    environ: Mapping[str, str] = field(default_factory=dict)  # the variables that the other system set
    submitted_at: str | None = None  # ISO 8601
    graded_at: str | None = None  # ISO 8601; left out where it is not given, so that two runs give the same bytes
    width: int = 100  # of the terminal
    color: bool = False


@dataclass(frozen=True)
class Format:
    """One format of `dockerlab report --format NAME`."""

    name: str
    file_name: str
    write: Callable[[Results, Context], str]
    description: str  # one line, with what "no grade" becomes
    commands: bool = False  # the text is made of workflow commands, each escaped by itself

    def convert(self, results: Results, context: Context | None = None) -> str:
        """Return the text. Should it end in the log of a CI job, no line of it is a command that a student wrote."""
        text = self.write(results, context or Context())
        return text if self.commands else no_commands(text)


def to_json(value: object) -> str:
    """Return JSON as every format here writes it: readable, in a fixed order, UTF-8."""
    return json.dumps(value, ensure_ascii=False, indent=1, allow_nan=False) + "\n"
