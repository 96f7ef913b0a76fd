"""Which log belongs to a check: its last lines and the file that has the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pytest_dockerlab.report.schema import Check, Results

# Checks that judge what another stage recorded.
_STAGE_OF = {"loss": "train", "artifact": "train"}


def _candidates(check: Check, facts: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the facts that may hold the check's log, the nearest first."""
    for stage in (check["id"], _STAGE_OF.get(check["id"], "")):
        fact = facts.get(stage)
        if not isinstance(fact, dict):
            continue
        inner = fact.get("image_build")
        # A serving image that did not build never started: the build's log is the one to read.
        if isinstance(inner, dict) and inner.get("ok") is False:
            yield inner
        yield fact


def log_tail(check: Check, results: Results, lines: int = 20) -> list[str]:
    """Return the last lines of the log behind a check, as they were written: not yet escaped."""
    for fact in _candidates(check, results["facts"]):
        tail = fact.get("log_tail")
        if isinstance(tail, list) and tail:
            return [str(line) for line in tail[-lines:]]
    return []


def log_file(check: Check, results: Results) -> str | None:
    """Return the file with the whole log, relative to the folder of `results.json`."""
    logs = [name for name in check["evidence"] if name.lower().endswith((".log", ".txt"))]
    if logs:
        return str(logs[0])
    for fact in _candidates(check, results["facts"]):
        if isinstance(fact.get("log"), str):
            return str(fact["log"])
    return None
