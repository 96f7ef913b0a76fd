"""Two readers of one grade: the student, and the TA. The student's copy says nothing of digits that are hidden."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

from pytest_dockerlab.report.schema import Results

AUDIENCES = ("student", "ta")
HIDDEN = "[hidden]"
MARK = "hidden.json"  # in a run's folder: its digits were hidden, which nothing else there tells
MIN_SECRET = 4  # a shorter one would stand in every text by chance
# Facts of ours that a report for students holds; other JSON files of a run's folder are not for them.
SHOWN_FACTS = frozenset({"dockerfile", "build", "train", "loss", "artifact", "serve", "predict", "environment"})


def secrets_of(digits: Path | None, secret: str | None) -> tuple[str, ...]:
    """Return the texts that may stand in no log and no report."""
    found = [str(digits)] if digits else []
    if digits:
        found.append(str(digits.resolve()))
    if secret and len(secret) >= MIN_SECRET:
        found.append(secret)
    return tuple(sorted(set(found), key=len, reverse=True))


def scrub(text: str, secrets: tuple[str, ...]) -> str:
    """Return a text without the secrets."""
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    return text


def for_reader(results: Results, audience: str, secrets: tuple[str, ...], hidden: bool) -> Results:
    """Return what the reader may see: nothing secret for anybody, and for a student no hidden label."""
    seen: Results = _scrubbed(copy.deepcopy(results), secrets)
    fact = seen["facts"].get("predict") or {}
    if audience != "student" or not hidden or not fact:
        return seen
    items = fact.get("items", [])
    right = sum(item.get("got") == item.get("expected") for item in items)
    for rows in (items, fact.get("probes") or []):
        for number, item in enumerate(rows, 1):
            item["image"] = f"digit {number}"
            item.pop("expected", None)
    fact.pop("permuted", None)
    for check in seen["checks"]:
        if check["id"] == "predict" and check["outcome"] in ("passed", "failed"):
            # The verdict's own sentence tells which digits were taken for which.
            check["message"] = f"{right} of {len(items)} digits are right."
            for hint in check["hints"]:
                hint["cause"] = check["message"]
    return seen


def _scrubbed(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, list):
        return [_scrubbed(item, secrets) for item in value]
    if isinstance(value, dict):
        return {key: _scrubbed(item, secrets) for key, item in value.items()}
    return value
