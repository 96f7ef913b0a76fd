"""Two readers of one grade: the student, and the TA. The student's copy says nothing of digits that are hidden."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_dockerlab.report.schema import Results

AUDIENCES = ("student", "ta")
HIDDEN = "[hidden]"
MARK = "hidden.json"  # in a run's folder: its digits were hidden, which nothing else there tells
OUR_FAULT = "not judged: something is wrong on the grader's side"
MIN_SECRET = 4  # a shorter one would stand in every text by chance
# Facts of ours that a report for students holds; other JSON files of a run's folder are not for them.
SHOWN_FACTS = frozenset(
    {"dockerfile", "build", "train", "loss", "artifact", "serve", "predict", "provenance", "environment"}
)
# What of the answers says nothing of the labels.
_OF_ANSWERS = ("error", "log", "log_tail", "p50_ms", "p99_ms", "asked", "tried")
_OF_AN_ANSWER = ("got", "raw", "ms", "status", "error")


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
    if audience == "student":
        for check in seen["checks"]:
            if HIDDEN in check["message"]:  # a fault in the grader's own files, which are named in it
                check["message"], check["hints"] = OUR_FAULT, []
    fact = seen["facts"].get("predict") or {}
    if audience != "student" or not hidden or not fact:
        return seen
    items = fact.get("items", [])
    said = [str(one.get("sentence")) for one in fact.get("findings") or []]
    right = sum(item.get("got") == item.get("expected") for item in items)
    told = f"{right} of {len(items)} digits are right."
    seen["facts"]["predict"] = {key: fact[key] for key in _OF_ANSWERS if key in fact} | {
        rows: [_anonymous(number, item) for number, item in enumerate(fact.get(rows) or [], 1)]
        for rows in ("items", "probes")
    }
    for check in seen["checks"]:
        check["evidence"] = [name for name in check["evidence"] if shows(name, hidden=True)]
        if check["id"] == "predict" and check["outcome"] in ("passed", "failed"):
            # The verdict's own sentence tells which digits were taken for which; where the model came from does not.
            if not any(sentence in check["message"] for sentence in said):
                check["message"] = told
            for hint in check["hints"]:
                hint["cause"] = check["message"]
    return seen


def _anonymous(number: int, item: Mapping[str, Any]) -> dict[str, Any]:
    return {"image": f"digit {number}"} | {key: item[key] for key in _OF_AN_ANSWER if key in item}


def shows(name: str, hidden: bool) -> bool:
    """Whether a student may see this file of a run's folder. Pictures of digits and unknown facts stay with the TA."""
    stem, _, suffix = name.rpartition(".")
    if suffix == "json":
        return stem in SHOWN_FACTS or (stem == "integrity" and not hidden)
    return not hidden or suffix != "png" or stem.startswith("loss")


def _scrubbed(value: Any, secrets: tuple[str, ...]) -> Any:
    if isinstance(value, str):
        return scrub(value, secrets)
    if isinstance(value, list):
        return [_scrubbed(item, secrets) for item in value]
    if isinstance(value, dict):
        return {key: _scrubbed(item, secrets) for key, item in value.items()}
    return value
