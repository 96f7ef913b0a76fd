"""PrairieLearn's external grader results. `gradable: false` costs the student no attempt: that is what infra is."""

from __future__ import annotations

from typing import Any

from pytest_dockerlab.report.escape import cut, one_line
from pytest_dockerlab.report.feedback import explain, log_text
from pytest_dockerlab.report.formats.base import Context, Format, to_json
from pytest_dockerlab.report.schema import Check, Results
from pytest_dockerlab.report.words import word

MAX_BYTES = 1_000_000  # PrairieLearn takes no more than 1 MB


def _test(check: Check, results: Results, lang: str, logs: bool, limit: int) -> dict[str, Any]:
    message = explain(check, lang, limit)
    if check["outcome"] == "blocked":
        message = word("blocked_by", lang, by=one_line(check["blocked_by"] or "?"))
    return {
        "name": one_line(check["title"] or check["id"], 200),
        "description": one_line(check["id"], 200),
        "points": check["points"],
        "max_points": check["max_points"],
        "message": message,
        "output": log_text(check, results) if logs else "",
    }


def _document(results: Results, lang: str, logs: bool = True, limit: int = 4000) -> str:
    if not results["graded"]:
        messages = [explain(check, lang, limit) for check in results["checks"] if check["outcome"] == "infra"]
        return to_json({"gradable": False, "message": cut("\n".join([word("no_grade_why", lang), *messages]), 8000)})
    best = results["max_score"]
    return to_json(
        {
            "gradable": True,
            "score": results["score"] / best if best else 1.0,
            "message": word("score", lang, score=results["score"], max_score=best),
            "output": "",
            "images": [],
            "tests": [_test(check, results, lang, logs, limit) for check in results["checks"]],
        }
    )


def convert(results: Results, context: Context) -> str:
    """Return the JSON, with less and less of the logs where it would not fit."""
    for logs, limit in ((True, 4000), (False, 4000), (False, 200)):
        text = _document(results, context.lang, logs, limit)
        if len(text.encode()) <= MAX_BYTES:
            break
    return text


FORMATS = (Format("prairielearn", "results.json", convert, "PrairieLearn's grader results; no grade: gradable false"),)
