"""Classroom 50's `result.json`. Its grader knows a grade (exit status 0) and an infrastructure error (any other)."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.escape import one_line
from pytest_dockerlab.report.feedback import explain
from pytest_dockerlab.report.formats.base import Context, Format, NoGrade, to_json
from pytest_dockerlab.report.schema import Check, Results

# `submit/2026-06-01T14-32-05Z-a1b2c3d`: colons are not allowed in a tag.
_TAG_TIME = re.compile(r"submit/(\d{4}-\d\d-\d\d)T(\d\d)[-:](\d\d)[-:](\d\d)Z(?:-|$)")


def _instant(text: str, what: str) -> str:
    """Return an ISO 8601 time as `YYYY-MM-DDTHH:MM:SSZ`; a time with no zone would be a guess."""
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))  # 3.10 does not read the Z
    except ValueError as error:
        raise UsageError(f"{what}: {text!r} is not a time", fix="write it as 2026-09-01T08:30:00Z") from error
    if moment.tzinfo is None:
        raise UsageError(f"{what}: {text!r} has no time zone", fix="write it as 2026-09-01T08:30:00Z")
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _submitted_at(tag: str, context: Context) -> str:
    """Return the submission's instant. It never moves, so it comes from the tag or the caller, never from the clock."""
    if context.submitted_at:
        return _instant(context.submitted_at, "--submitted-at")
    match = _TAG_TIME.match(tag)
    if not match:
        raise UsageError(
            f"the tag {tag!r} does not say when the submission was made", fix="give --submitted-at 2026-09-01T08:30:00Z"
        )
    day, *clock = match.groups()
    return _instant(f"{day}T{':'.join(clock)}Z", "SUBMISSION_TAG")


def _variables(context: Context) -> dict[str, str]:
    """Return what the grader's environment must say, or name all that is missing at once."""
    names = {
        "classroom": ("CLASSROOM",),
        "assignment": ("ASSIGNMENT",),
        "assignment_type": ("ASSIGNMENT_TYPE",),
        # OWNER first: some systems set USERNAME to the account that the job runs as.
        "owner": ("OWNER", "USERNAME"),
        "submission": ("SUBMISSION_TAG",),
        "commit": ("COMMIT_URL",),
        "release": ("RELEASE_URL",),
        "review": ("REVIEW_URL",),
    }
    found = {
        key: next((context.environ[name] for name in choice if context.environ.get(name)), "")
        for key, choice in names.items()
    }
    missing = [" or ".join(names[key]) for key, value in found.items() if not value]
    if missing:
        raise UsageError(
            f"Classroom 50's result needs the variables {', '.join(missing)}",
            fix="run it where Classroom 50's runner runs the autograder, or set them",
        )
    if found["assignment_type"] not in ("individual", "group"):
        raise UsageError(f"ASSIGNMENT_TYPE is {found['assignment_type']!r}", fix="individual or group")
    if not found["submission"].startswith("submit/"):
        raise UsageError(f"SUBMISSION_TAG is {found['submission']!r}", fix="it begins with submit/")
    return found


def _test(check: Check, lang: str) -> dict[str, Any]:
    return {
        "test-name": one_line(f"{check['id']}: {check['title']}".rstrip(": "), 200),
        "passed": check["outcome"] == "passed",
        "score": check["points"],
        "max-score": check["max_points"],
        "outcome": check["outcome"],
        "message": explain(check, lang),
    }


def convert(results: Results, context: Context) -> str:
    """Return the JSON; raises `NoGrade` where there is none to give, so that the command ends with a status."""
    if not results["graded"]:
        raise NoGrade(
            "the submission is ungraded, so there is no result.json: Classroom 50 reads a status other than 0 "
            "as an infrastructure error and keeps no score"
        )
    found = _variables(context)
    document: dict[str, Any] = {
        "schema": "classroom50/result/v1",
        **found,
        "datetime": _submitted_at(found["submission"], context),
    }
    if context.graded_at:
        document["graded_at"] = _instant(context.graded_at, "graded_at")
    document["score"] = results["score"]
    document["max-score"] = results["max_score"]
    document["tests"] = [_test(check, context.lang) for check in results["checks"]]
    return to_json(document)


FORMATS = (Format("classroom50", "result.json", convert, "Classroom 50's result.json; no grade: no file, status 10"),)
