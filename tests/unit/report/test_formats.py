"""Every format on every case, against golden files and the other systems' schemas.

`UPDATE_GOLDEN=1 pytest tests/unit/report/test_formats.py` writes the golden files anew: read the difference.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.curve import sparkline
from pytest_dockerlab.report.formats import FORMATS, Context, NoGrade, actions, annotate, github_classroom

Load = Callable[[str], dict[str, Any]]
Make = Callable[..., dict[str, Any]]
CASES = ("passed", "failed", "infra", "hostile")
BLOCKS = {"mixed": {"build": ("passed", 15, 15), "train": ("failed", 10, 15), "loss": ("failed", 7, 15),
                    "extra": ("failed", 0, 20), "serve": ("failed", 1, 3), "digits": ("passed", 32, 32)}}  # fmt: skip


def _context(case: str, environ: dict[str, str]) -> Context:
    return Context(lang="zh" if case == "failed" else "en", environ=environ)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", list(FORMATS))
def test_golden(load: Load, golden: Path, classroom50_environ: dict[str, str], name: str, case: str) -> None:
    form = FORMATS[name]
    try:
        text = form.convert(load(case), _context(case, classroom50_environ))
    except NoGrade as error:
        text = f"NoGrade: {error}\n"
    file = golden / "expected" / name / f"{case}{Path(form.file_name).suffix}"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text.encode("utf-8"))
    assert file.read_bytes().decode("utf-8") == text


@pytest.mark.parametrize("name", list(FORMATS))
def test_no_line_is_a_command_that_a_student_wrote(load: Load, classroom50_environ: dict[str, str], name: str) -> None:
    text = FORMATS[name].convert(load("hostile"), Context(environ=classroom50_environ))
    lines = re.split("[\r\n\x0b\x0c\x85\u2028\u2029]", text)
    assert not [line for line in lines if "##[" in line]
    commands = [line for line in lines if line.strip().startswith("::")]
    assert all(re.match("::error (file=[^,:]*,)?(line=2,)?title=[^,:]*::", line) for line in commands)
    assert bool(commands) == (name == "annotations")
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_registry_names_each_format() -> None:
    assert list(FORMATS) == sorted(FORMATS)
    for name, form in FORMATS.items():
        assert form.name == name
        assert form.description
        assert re.fullmatch(r"[\w.-]+", form.file_name)


# --- no grade is never a 0 --------------------------------------------------------------------------------------------


def test_infra_in_every_system(load: Load, classroom50_environ: dict[str, str]) -> None:
    infra = load("infra")
    context = Context(environ=classroom50_environ)
    with pytest.raises(NoGrade):
        FORMATS["classroom50"].convert(infra, context)
    gradescope = json.loads(FORMATS["gradescope"].convert(infra))
    assert not {"score", "tests"} & set(gradescope)
    prairie = json.loads(FORMATS["prairielearn"].convert(infra))
    assert prairie["gradable"] is False
    assert "score" not in prairie
    rows = list(csv.DictReader(io.StringIO(FORMATS["csv"].convert(infra), newline="")))
    assert rows[-1]["score" if "score" in rows[-1] else "points"] == ""
    assert {row["points"] for row in rows if row["outcome"] in ("infra", "blocked")} == {""}
    junit = ET.fromstring(FORMATS["junit"].convert(infra).encode())
    assert junit.find(".//property[@name='score']") is None
    assert junit.find(".//testcase[@name='train']/error") is not None
    assert junit.find(".//testcase[@name='train']/properties/property[@name='points']") is None
    assert actions.exit_status(infra) == 10


def test_exit_status(load: Load) -> None:
    assert [actions.exit_status(load(case)) for case in CASES] == [0, 1, 10, 1]


# --- schemas and parsers of the other side ----------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", ["gradescope", "prairielearn"])
def test_schemas(load: Load, golden: Path, name: str, case: str) -> None:
    schema = json.loads((golden / f"{name}.schema.json").read_text("utf-8"))
    document = json.loads(FORMATS[name].convert(load(case)))
    jsonschema.Draft202012Validator(schema).validate(document)
    results = load(case)
    if results["graded"]:
        key = "score" if name == "gradescope" else "points"
        assert sum(test[key] for test in document["tests"]) == results["score"]
        assert document["score"] == (results["score"] if name == "gradescope" else results["score"] / 100)


@pytest.mark.parametrize("case", ["passed", "failed", "hostile"])
def test_classroom50(load: Load, golden: Path, classroom50_environ: dict[str, str], case: str) -> None:
    schema = json.loads((golden / "classroom50-result-v1.schema.json").read_text("utf-8"))
    document = json.loads(FORMATS["classroom50"].convert(load(case), Context(environ=classroom50_environ)))
    jsonschema.Draft202012Validator(schema).validate(document)
    results = load(case)
    assert (document["score"], document["max-score"]) == (results["score"], 100)
    assert sum(test["score"] for test in document["tests"]) == results["score"]
    assert document["owner"] == "alice"
    assert document["datetime"] == "2026-06-01T14:32:05Z"
    assert "graded_at" not in document


def test_classroom50_times(load: Load, golden: Path, classroom50_environ: dict[str, str]) -> None:
    schema = json.loads((golden / "classroom50-result-v1.schema.json").read_text("utf-8"))
    environ = classroom50_environ | {"SUBMISSION_TAG": "submit/v1"}
    convert = FORMATS["classroom50"].convert
    with pytest.raises(UsageError, match="does not say when"):
        convert(load("passed"), Context(environ=environ))
    context = Context(environ=environ, submitted_at="2026-06-01T16:32:05+02:00", graded_at="2026-06-02T00:00:00Z")
    document = json.loads(convert(load("passed"), context))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document["datetime"] == "2026-06-01T14:32:05Z"
    for wrong, message in [("2026-06-01T16:32:05", "no time zone"), ("yesterday", "is not a time")]:
        with pytest.raises(UsageError, match=message):
            convert(load("passed"), Context(environ=environ, submitted_at=wrong))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"CLASSROOM": "", "COMMIT_URL": ""}, "CLASSROOM, COMMIT_URL"),
        ({"OWNER": "", "USERNAME": ""}, "OWNER or USERNAME"),
        ({"ASSIGNMENT_TYPE": "pair"}, "ASSIGNMENT_TYPE is 'pair'"),
        ({"SUBMISSION_TAG": "v1"}, "SUBMISSION_TAG is 'v1'"),
    ],
)
def test_classroom50_names_what_is_missing(
    load: Load, classroom50_environ: dict[str, str], change: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        FORMATS["classroom50"].convert(load("passed"), Context(environ=classroom50_environ | change))


@pytest.mark.parametrize("case", CASES)
def test_junit_is_read_back(load: Load, case: str) -> None:
    results = load(case)
    suite = ET.fromstring(FORMATS["junit"].convert(results).encode("utf-8"))[0]
    cases = suite.findall("testcase")
    assert int(suite.attrib["tests"]) == len(cases) == 7
    assert [item.attrib["name"] for item in cases] == [check["id"] for check in results["checks"]]
    tags = {"failed": "failure", "infra": "error", "blocked": "skipped"}
    counted = {"failures": "failure", "errors": "error", "skipped": "skipped"}
    for item, check in zip(cases, results["checks"], strict=True):
        assert [child.tag for child in item][1:] == ([tags[check["outcome"]]] if check["outcome"] in tags else [])
    for attribute, tag in counted.items():
        assert int(suite.attrib[attribute]) == len(suite.findall(f"testcase/{tag}"))
    if results["graded"]:
        points = [int(item.attrib["value"]) for item in suite.findall("testcase/properties/property[@name='points']")]
        assert sum(points) == results["score"]


def test_prairielearn_is_bounded(make: Make) -> None:
    checks = {f"check{number}": ("failed", 0, 1) for number in range(400)}
    facts = {name: {"log_tail": ["x" * 400] * 20} for name in checks}
    results = make(checks, facts=facts)
    for check in results["checks"]:
        check["message"] = "中" * 4000
    text = FORMATS["prairielearn"].convert(results)
    assert len(text.encode()) <= 1_000_000
    assert len(json.loads(text)["tests"]) == 400


# --- GitHub Actions ---------------------------------------------------------------------------------------------------


def test_the_summary_is_bounded(make: Make) -> None:
    checks = {f"check{number}": ("failed", 0, 1) for number in range(300)}
    results = make(checks)
    for check in results["checks"]:
        check["message"] = "\n".join(["长" * 3000] * 3)
    text = FORMATS["step-summary"].convert(results)
    assert 900_000 < len(text.encode()) <= 1024 * 1024
    assert text.endswith("The rest was left out: the summary has a size limit.\n")
    assert "## mnist · alice: 0 / 300" in text


def test_annotations_are_the_ten_that_matter_most(make: Make) -> None:
    checks = {f"check{number}": ("failed", 0, number + 1) for number in range(12)} | {"late": ("infra", 0, 1)}
    facts = {"dockerfile": {"path": "lab/Dockerfile", "findings": [{"line": 3, "message": "m", "rule": "r"}] * 30}}
    found = annotate.choose(make(checks, facts=facts))
    assert len(found) == 10
    assert found[0].title.startswith("no grade")
    assert [item.title for item in found[1:3]] == ["Check check11 (0/12)", "Check check10 (0/11)"]


def test_annotations_point_at_the_dockerfile(make: Make) -> None:
    tail = [" > [2/3] RUN pip install torhc:", "Dockerfile.gpu:7", "other:9", "--------------------"]
    findings = [{"line": 2, "message": "a, b: 100%", "rule": "pin"}, {"line": "x", "message": "no line"}, 7]
    facts = {
        "build": {"dockerfile": "lab/Dockerfile.gpu", "log_tail": tail},
        "dockerfile": {"path": "lab/Dockerfile.gpu", "findings": findings},
    }
    text = FORMATS["annotations"].convert(make({"build": ("failed", 0, 15)}, facts=facts))
    assert text == (
        "::error file=lab/Dockerfile.gpu,line=7,title=Check build (0/15)::about build\n"
        "::warning file=lab/Dockerfile.gpu,line=2,title=pin::a, b: 100%25\n"
    )


def test_the_fence_takes_a_token_that_nobody_can_know() -> None:
    first, second = actions.fence("::notice::x\n"), actions.fence("::notice::x\n")
    match = re.fullmatch(r"::stop-commands::([0-9a-f]{32})\n::notice::x\n::\1::\n", first)
    assert match
    assert first != second
    with pytest.raises(ValueError, match="token"):
        actions.fence("x abc", token="abc")
    assert actions.fence("\x1b[2Jx\r::abc", token="t") == "::stop-commands::t\nx\n::abc\n::t::\n"


def test_sparkline() -> None:
    assert sparkline([3.0, 2.0, 1.0]) == "█▅▁"
    assert sparkline([1.0, 1.0]) == "▁▁"
    assert sparkline([]) == ""
    assert sparkline([float("nan"), float("inf")]) == "××"
    assert sparkline([2.0, float("nan"), 1.0]) == "█×▁"
    assert len(sparkline([float(value) for value in range(2000)])) == 60
    assert sparkline([1.7e308, -1.7e308]) == "█▁"
    assert sparkline([1.7e308] * 200) == "▁" * 60
    assert sparkline([5e-324, 0.0]) in ("█▁", "▁▁")


def test_any_json_number_is_a_loss(make: Make) -> None:
    values: list[Any] = [10**400, -(10**400), True, None, "NaN", "x", 1, {}]
    facts = {"loss": {"points": [{"value": value, "series": "train"} for value in values] + [7]}}
    results = make({"loss": ("passed", 1, 1)}, facts=facts)
    assert "`×××▁`" in FORMATS["step-summary"].convert(results)


# --- the legacy classroom ---------------------------------------------------------------------------------------------


def _lines(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines())


def _totals(text: str) -> dict[str, float | None]:
    """Run the reporter's arithmetic on our lines, through the environment as it does."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed: the reporter's arithmetic can't be run")
    payloads = _lines(text)
    environ = {f"{name.upper()}_RESULTS": value for name, value in payloads.items()} | {"RUNNERS": ",".join(payloads)}
    program = Path(__file__).with_name("reporter.mjs")
    done = subprocess.run([node, str(program)], env=environ, capture_output=True, text=True, check=True, timeout=60)
    return json.loads(done.stdout)  # type: ignore[no-any-return]


@pytest.mark.parametrize("case", ["passed", "failed", "hostile", "mixed"])
def test_both_totals_of_the_reporter_are_the_score(load: Load, make: Make, case: str) -> None:
    results = make(BLOCKS[case]) if case in BLOCKS else load(case)
    totals = _totals(FORMATS["github-classroom"].convert(results))
    assert totals["table"] == pytest.approx(results["score"], abs=1e-9)
    assert totals["notice"] == results["score"]
    assert totals["maximum"] == 100


def test_the_reporter_has_no_score_where_there_is_no_grade(load: Load) -> None:
    text = FORMATS["github-classroom"].convert(load("infra"))
    assert _totals(text) == {"table": 0, "notice": None, "maximum": 0}
    for value in _lines(text).values():
        assert json.loads(base64.b64decode(value))["status"] == "error"


@pytest.mark.parametrize("case", CASES)
def test_payloads_have_what_the_reporter_needs(load: Load, case: str) -> None:
    for name, value in _lines(FORMATS["github-classroom"].convert(load(case))).items():
        assert re.fullmatch("[a-z_][a-z0-9_]*", name)
        assert len(f"{name.upper()}_RESULTS={value}") < 131_072
        document = json.loads(base64.b64decode(value))
        assert (document["version"], bool(document["tests"])) == (1, True)
        for test in document["tests"]:
            assert set(test) == {"name", "status", "score", "message", "test_code", "filename", "line_no", "duration"}
            assert isinstance(test["score"], int)
            shown = "\n".join([test["name"], test["message"], test["test_code"]])
            assert not [line for line in shown.splitlines() if line.strip().startswith("::") or "##[" in line]


def test_payload_sizes_are_bounded(make: Make) -> None:
    results = make({"build": ("failed", 50, 100)}, facts={"build": {"log_tail": ["𝕏" * 4000] * 200}})
    results["checks"][0]["message"] = "\U0001d54f" * 1_000_000
    (line,) = FORMATS["github-classroom"].convert(results).splitlines()
    assert len(line) < 131_072
    with pytest.raises(UsageError, match="takes 90000"):
        FORMATS["github-classroom"].convert(make({"build": ("failed", 499, 1000)}))


def test_runner_ids_are_identifiers(make: Make) -> None:
    checks = {"my-check": ("passed", 1, 1), "2nd": ("passed", 1, 1), "free": ("passed", 0, 0)}
    assert github_classroom.runner_ids(make(checks)) == {"my-check": "my_check", "2nd": "_2nd"}
    with pytest.raises(UsageError, match="both be the runner"):
        github_classroom.runner_ids(make({"a-b": ("passed", 1, 1), "a_b": ("passed", 1, 1)}))
