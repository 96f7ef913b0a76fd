"""GitHub Classroom's own actions (legacy): a payload for each runner, as lines for `$GITHUB_OUTPUT`.

The reporter adds the score up twice: its table takes (passed tests / tests) x max_score, its notice adds up each test's
`score`. They agree only where a runner's tests weigh the same. So a check is a runner with one test; a check with
partial credit is a runner with as few equal tests as can express it (10 of 15 points: two of three tests of 5).

A runner worth 0 points is taken for one worth 1 by the table: such a check has no runner. Where the submission is
ungraded every runner says `error` with a `max_score` of 0; then there is nothing to add up, and no score is reported.
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.escape import cut, one_line, workflow_text
from pytest_dockerlab.report.feedback import explain, log_text
from pytest_dockerlab.report.formats.base import Context, Format
from pytest_dockerlab.report.schema import Check, Results
from pytest_dockerlab.report.words import word

MAX_JSON_BYTES = 90_000  # `NAME=base64` has to stay under 131,072 bytes, the kernel's limit for one variable
_MAX_MESSAGE = 2000


def runner_ids(results: Results) -> dict[str, str]:
    """Return check id -> the id of its runner, an identifier since it becomes a variable; 0 points have no runner."""
    ids: dict[str, str] = {}
    for check in results["checks"]:
        if check["max_points"] == 0:
            continue
        name = re.sub(r"[^a-z0-9_]", "_", check["id"].lower())
        name = name if re.match(r"[a-z_]", name) else f"_{name}"
        if name in ids.values():
            raise UsageError(f"two checks would both be the runner {name!r}", fix="rename one of them")
        ids[check["id"]] = name
    return ids


def _test(check: Check, status: str, score: int, message: str, part: str = "") -> dict[str, Any]:
    return {
        "name": workflow_text(one_line(check["title"] or check["id"], 200)) + part,
        "status": status,
        "score": score,
        "message": message,
        "test_code": workflow_text(one_line(f"dockerlab: {check['id']}", 200)),
        "filename": "",
        "line_no": 0,
        "duration": round(check["duration_s"] * 1000),
    }


def _tests(check: Check, message: str) -> list[dict[str, Any]]:
    points, best = check["points"], check["max_points"]
    if points in (0, best):
        return [_test(check, "pass" if points else "fail", points, message)]
    weight = math.gcd(points, best)
    count, passed = best // weight, points // weight
    return [
        _test(
            check,
            "pass" if number < passed else "fail",
            weight if number < passed else 0,
            message if number == passed else "",  # the first that is lost says why
            f" [{number + 1}/{count}]",
        )
        for number in range(count)
    ]


def payload(check: Check, results: Results, lang: str = "en") -> dict[str, Any]:
    """Return what one runner reports. Its messages are printed to the job's log, so no line of them is a command."""
    message = explain(check, lang)
    if check["outcome"] == "blocked":
        message = word("blocked_by", lang, by=one_line(check["blocked_by"] or "?"))
    log = log_text(check, results, 10)
    message = workflow_text(cut(f"{message}\n{log}".strip(), _MAX_MESSAGE))
    if not results["graded"]:
        message = cut(f"{word('no_grade', lang)}: {word('no_grade_why', lang)}\n{message}", _MAX_MESSAGE)
        return {"version": 1, "status": "error", "max_score": 0, "tests": [_test(check, "error", 0, message)]}
    status = "pass" if check["points"] == check["max_points"] else "fail"
    return {"version": 1, "status": status, "max_score": check["max_points"], "tests": _tests(check, message)}


def encode(document: dict[str, Any]) -> str:
    """Return a payload as base64; raises `UsageError` where it would not fit into a variable."""
    data = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    if len(data) > MAX_JSON_BYTES:
        raise UsageError(
            f"a runner's payload has {len(data)} bytes, GitHub Classroom takes {MAX_JSON_BYTES}",
            fix="give the check fewer points, or points that share a larger divisor",
        )
    return base64.b64encode(data).decode("ascii")


def convert(results: Results, context: Context) -> str:
    """Return a line `NAME=base64` for each check; the workflow hands them to the reporter as `NAME_RESULTS`."""
    ids = runner_ids(results)
    lines = [
        f"{ids[check['id']]}={encode(payload(check, results, context.lang))}\n"
        for check in results["checks"]
        if check["id"] in ids
    ]
    return "".join(lines)


FORMATS = (
    Format(
        "github-classroom",
        "github-classroom.outputs",
        convert,
        "legacy GitHub Classroom, lines for $GITHUB_OUTPUT; no grade: status error, 0 of 0",
    ),
)
