"""`results.json` is a contract: what leaves us is checked against it, and so is what comes back to be reported.

The structure is `results.schema.json`, which ships beside this file for others to use. Three rules can't be said there
and are checked here: ids are unique, no check has more points than it is worth, and the sums are the sums.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import cache
from importlib import import_module, resources
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

from pytest_dockerlab.errors import UsageError

SCHEMA_ID = "dockerlab/results/v1"
# 2,000 loss points, seven log tails and a hundred predictions are about 400 KiB; this leaves room and fits memory.
MAX_RESULTS_BYTES = 32 * 1024 * 1024

Results: TypeAlias = dict[str, Any]
Check: TypeAlias = dict[str, Any]


def points_of(check: Check, results: Results) -> int | None:
    """Return the points of a check, or `None` where it was not judged through no fault of the student's.

    In an ungraded submission this is the check that our side failed, and all that were blocked: their 0 is no verdict.
    """
    if check["outcome"] == "infra" or (check["outcome"] == "blocked" and not results["graded"]):
        return None
    return int(check["points"])


@cache
def _schema_text() -> str:
    return resources.files(__package__).joinpath("results.schema.json").read_text("utf-8")


def results_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of `dockerlab/results/v1`; the caller may change its copy."""
    schema = json.loads(_schema_text())
    assert isinstance(schema, dict)
    return schema


@cache
def _validator() -> Any:  # jsonschema has no types of its own
    try:
        jsonschema = import_module("jsonschema")  # not at the top: the plugin is imported by every pytest run
    except ImportError as error:
        raise UsageError(
            "results.json can't be checked: the package jsonschema is not installed", fix="pip install jsonschema"
        ) from error
    return jsonschema.Draft202012Validator(results_schema())


def _wrong(place: str, what: str) -> NoReturn:
    raise UsageError(f"not a valid {SCHEMA_ID}: at {place}: {what}")


def _place(path: Iterable[str | int]) -> str:
    """Write a path as `checks[2].points`, the way a person would look it up."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the top level"


def _what(error: Any) -> str:
    """Say what is wrong in a line: the schema's own messages quote the whole value, which may be megabytes of log."""
    if error.validator in ("required", "additionalProperties", "enum", "const", "type"):
        message = str(error.message)
        if len(message) <= 300:
            return message
    return f"{str(error.instance)[:80]!r} does not satisfy {error.validator}: {str(error.validator_value)[:120]}"


def validate(results: object) -> None:
    """Raise `UsageError` that names the first wrong place, unless `results` is a valid `dockerlab/results/v1`."""
    if not isinstance(results, dict):
        _wrong("the top level", f"an object is needed, this is {type(results).__name__}")
    if results.get("schema") != SCHEMA_ID:
        _wrong("schema", f"{SCHEMA_ID!r} is needed, this is {str(results.get('schema'))[:80]!r}")
    errors = sorted(_validator().iter_errors(results), key=lambda e: [str(part) for part in e.absolute_path])
    if errors:
        _wrong(_place(errors[0].absolute_path), _what(errors[0]))
    _check_sums(results)


def _check_sums(results: Results) -> None:
    """Check what no schema can say. Points are true integers here: JSON Schema counts 15.0 as one too."""
    seen: set[str] = set()
    for number, check in enumerate(results["checks"]):
        here = f"checks[{number}]"
        if check["id"] in seen:
            _wrong(f"{here}.id", f"{check['id']!r} is there twice")
        seen.add(check["id"])
        for key in ("points", "max_points"):
            if not isinstance(check[key], int):
                _wrong(f"{here}.{key}", "points are integers")
        if check["points"] > check["max_points"]:
            _wrong(f"{here}.points", f"{check['points']} of {check['max_points']}")
    for key in ("score", "max_score"):
        if results[key] is not None and not isinstance(results[key], int):
            _wrong(key, "scores are integers")
    best = sum(check["max_points"] for check in results["checks"])
    if results["max_score"] != best:
        _wrong("max_score", f"{results['max_score']}, but the checks are worth {best}")
    total = sum(check["points"] for check in results["checks"])
    if results["graded"] and results["score"] != total:
        _wrong("score", f"{results['score']}, but the checks add up to {total}")


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def load_results(path: Path) -> Results:
    """Read and check a `results.json`. Everything that can be wrong with it is a `UsageError` that names the file."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RESULTS_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{path} can't be read: {error.strerror or error}",
            fix="give the results.json that `dockerlab grade --results` wrote",
        ) from error
    if len(data) > MAX_RESULTS_BYTES:
        raise UsageError(f"{path} is larger than {MAX_RESULTS_BYTES >> 20} MiB: not a results.json of ours")
    try:
        results = json.loads(data.decode("utf-8-sig"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # bad UTF-8, bad JSON and NaN are all ValueErrors
        raise UsageError(f"{path} is not JSON: {error}") from error
    try:
        validate(results)
    except UsageError as error:
        raise UsageError(f"{path}: {error.message}", fix=error.fix) from error
    assert isinstance(results, dict)
    return results
