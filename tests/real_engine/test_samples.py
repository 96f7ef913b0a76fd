"""Every sample submission gets exactly its stated outcomes, on the real engine, with real TorchServe."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from pytest_dockerlab import paths
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.grade import grade
from pytest_dockerlab.report.schema import validate
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = [pytest.mark.engine, pytest.mark.images, pytest.mark.usefixtures("lab_data", "lab_images")]
SAMPLES = sorted(paths.bundled("fixtures", "submissions").iterdir())


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_sample_gets_its_stated_outcomes(sample: Path, tmp_path: Path):
    expected = tomllib.loads((sample / "expected.toml").read_text())
    folder = tmp_path / sample.name
    shutil.copytree(sample, folder, ignore=shutil.ignore_patterns("expected.toml"))
    assignment = Assignment.load("mnist")
    submission = Submission.load(folder, assignment.spec.limits)

    result = grade(submission, assignment, Settings(submission=folder, gpu="none"))

    seen = {check.id: check.outcome.value for check in result.checks}
    told = {check.id: "\n".join([check.message, *(hint["fix"] for hint in check.hints)]) for check in result.checks}
    assert seen == expected["outcomes"], told
    assert result.score == expected["score"]
    assert result.exit_status == expected["exit"]
    for check_id, parts in expected.get("messages", {}).items():
        for part in [parts] if isinstance(parts, str) else parts:
            assert part in told[check_id]
    validate(result.to_results())


def test_there_is_a_good_and_a_bad_sample_of_each_kind():
    names = [sample.name for sample in SAMPLES]
    assert sum(name.startswith("good-") for name in names) >= 5
    assert sum(name.startswith("bad-") for name in names) >= 14
