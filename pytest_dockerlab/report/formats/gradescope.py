"""Gradescope's `results.json`. Every test is visible: one hidden test would hide the student's total."""

from __future__ import annotations

from typing import Any

from pytest_dockerlab.report.escape import one_line
from pytest_dockerlab.report.feedback import explain, log_text
from pytest_dockerlab.report.formats.base import Context, Format, to_json
from pytest_dockerlab.report.schema import Check, Results
from pytest_dockerlab.report.words import word


def _test(number: int, check: Check, results: Results, lang: str) -> dict[str, Any]:
    parts = [explain(check, lang)]
    if check["outcome"] == "blocked":
        parts = [word("blocked_by", lang, by=one_line(check["blocked_by"] or "?"))]
    log = log_text(check, results)
    if log:
        parts.append(f"{word('last_lines', lang)}:\n{log}")
    return {
        "name": one_line(check["title"] or check["id"], 200),
        "name_format": "text",
        "number": str(number),
        "score": check["points"],
        "max_score": check["max_points"],
        "status": "passed" if check["outcome"] == "passed" else "failed",
        "output": "\n\n".join(part for part in parts if part),
        "output_format": "text",
        "visibility": "visible",
        "extra_data": {"id": one_line(check["id"], 200), "outcome": check["outcome"]},
    }


def convert(results: Results, context: Context) -> str:
    """Return the JSON. An ungraded one has neither `score` nor `tests`, so Gradescope has nothing to make a 0 of."""
    lang = context.lang
    document: dict[str, Any] = {
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "visibility": "visible",
        "stdout_visibility": "hidden",
        "execution_time": round(results["timing"]["total_s"]),
    }
    if not results["graded"]:
        messages = [explain(check, lang) for check in results["checks"] if check["outcome"] == "infra"]
        document["output"] = "\n\n".join([f"{word('no_grade', lang)}: {word('no_grade_why', lang)}", *messages])
        document["extra_data"] = {"graded": False}
        return to_json(document)
    document["score"] = results["score"]
    document["output"] = word("score", lang, score=results["score"], max_score=results["max_score"])
    document["extra_data"] = {"graded": True, "max_score": results["max_score"]}
    document["tests"] = [_test(number, check, results, lang) for number, check in enumerate(results["checks"], 1)]
    return to_json(document)


FORMATS = (Format("gradescope", "results.json", convert, "Gradescope's results.json; no grade: no score and no tests"),)
