"""Submissions that attack the harness, each graded for real, each with its stated outcome.

They lie in `tests/samples/submissions/adv-*`; `expected.toml` says what differs from the limits and timeouts below,
what becomes of each check, and what the log has to show; its `max_files` stands in for `disk.MAX_FILES`, which takes a
minute to reach. A script that looks for a way out ends with status 0 only where it found none. Each is graded in a
process of its own, whose memory and time are bounded too.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.engine import cgroup, disk
from pytest_dockerlab.engine.docker import DockerEngine

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = [pytest.mark.engine, pytest.mark.images, pytest.mark.usefixtures("lab_images")]

SAMPLES = sorted((Path(__file__).parents[1] / "samples" / "submissions").glob("adv-*"))
RUNNER = Path(__file__).parent / "graded_run.py"
CHECKS = ("dockerfile", "build", "train")
LIMITS = {"memory": "256MiB", "cpus": 1.0, "pids": 128, "disk": "256MiB", "log": "1MiB", "output": "16MiB"}
TIMEOUTS = {"build": 60, "train": 30, "total": 90}
SPARE_S = 15.0  # what ending a stage may take beyond its time
MAX_RSS = 300 << 20


def assignment(folder: Path, extra: dict[str, dict[str, Any]]) -> Path:
    """Write an author's assignment: three checks, no data, small limits."""
    tables: dict[str, dict[str, Any]] = {
        "train": {"data": "none"},
        "limits": LIMITS | extra.get("limits", {}),
        "timeouts": TIMEOUTS | extra.get("timeouts", {}),
    }
    lines = ["schema = 1", 'name = "hostile"', 'title = { en = "Hostile", zh = "敌意" }']
    for name in CHECKS:
        lines += ["[[checks]]", f'id = "{name}"', "points = 10", f'title = {{ en = "{name}", zh = "{name}" }}']
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]
    folder.mkdir()
    (folder / "assignment.toml").write_text("\n".join(lines) + "\n")
    return folder


def graded(sample: Path, tmp_path: Path, expected: dict[str, Any], builder: str = "buildx", runtime: str = "auto"):
    """Grade a sample in a process of its own; what that process told."""
    submission = tmp_path / sample.name
    shutil.copytree(sample, submission, ignore=shutil.ignore_patterns("expected.toml"))
    lab = assignment(tmp_path / "lab", expected.get("assignment", {}))
    argv = [sys.executable, "-P", str(RUNNER)] if sys.version_info >= (3, 11) else [sys.executable, str(RUNNER)]
    done = subprocess.run(
        [*argv, str(lab), str(submission), builder, runtime, str(expected.get("max_files", disk.MAX_FILES))],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def holds(told: dict[str, Any], expected: dict[str, Any], outcomes: dict[str, str], messages: dict[str, list[str]]):
    """Compare with what is stated, and with the bounds that hold for every sample."""
    results = told["results"]
    checks = {check["id"]: check for check in results["checks"]}
    said = {name: check["message"] for name, check in checks.items()}
    assert {name: check["outcome"] for name, check in checks.items()} == outcomes, said
    for name, parts in messages.items():
        for part in parts:
            assert part in said[name]
    for name, text in expected.get("log", {}).items():
        assert text in (Path(told["folder"]) / f"{name}.log").read_text(errors="replace")

    asked = expected.get("assignment", {})
    timeouts = TIMEOUTS | asked.get("timeouts", {})
    for stage, seconds in results["timing"]["stages"].items():
        assert seconds <= timeouts.get(stage, SPARE_S) + SPARE_S
    assert told["seconds"] <= timeouts["total"] + SPARE_S
    assert told["rss"] <= MAX_RSS
    assert told["children"] <= MAX_RSS
    most = int(Limits.model_validate(LIMITS | asked.get("limits", {})).log)
    for log in Path(told["folder"]).glob("*.log"):
        assert log.stat().st_size <= most + 200  # and a line that says what was left out


def running(word: str) -> list[str]:
    """The command lines of this machine's processes that hold a word, this one's left out."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if word in line and entry.parent.name != str(os.getpid()):
            found.append(line)
    return found


@pytest.fixture(scope="module")
def build_limits() -> bool:
    with DockerEngine() as engine, cgroup.group(engine.info(), Limits()) as group:
        return group is not None


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_gets_its_stated_outcome(sample: Path, tmp_path: Path, build_limits: bool):
    expected = tomllib.loads((sample / "expected.toml").read_text())
    if expected.get("needs", {}).get("cgroup") and not build_limits:
        pytest.skip("no cgroup can be given to build steps here (`dockerlab doctor` says why)")
    told = graded(sample, tmp_path, expected)
    holds(told, expected, expected["outcomes"], expected.get("messages", {}))
    if points := expected.get("loss", {}).get("points"):
        assert len(told["results"]["facts"]["loss"]["points"]) == points
    for word in ("sleep 98761", "sleep 98762"):
        assert running(word) == []


def test_the_classic_builder_refuses_a_heredoc_by_name(tmp_path: Path):
    """It would report success and run nothing (ENGINE.md, point 1)."""
    sample = next(path for path in SAMPLES if path.name == "adv-heredoc")
    expected = tomllib.loads((sample / "expected.toml").read_text())
    told = graded(sample, tmp_path, {}, builder="classic")
    holds(told, {}, expected["classic"]["outcomes"], expected["classic"]["messages"])
    assert told["exit"] == 10


def test_the_classic_builders_steps_have_the_memory_limit_too(tmp_path: Path):
    sample = next(path for path in SAMPLES if path.name == "adv-build-memory-bomb")
    expected = tomllib.loads((sample / "expected.toml").read_text())
    told = graded(sample, tmp_path, expected, builder="classic")
    holds(told, expected, expected["outcomes"], {"build": ["137"]})


def test_the_whole_runs_time_has_its_own_message(tmp_path: Path):
    sample = next(path for path in SAMPLES if path.name == "adv-sleeps")
    expected = {"assignment": {"timeouts": {"train": 60, "total": 10}}}
    told = graded(sample, tmp_path, expected)
    outcomes = {"dockerfile": "passed", "build": "passed", "train": "failed"}
    holds(told, expected, outcomes, {"train": ["The whole run's time, 10 s (timeouts.total), is over", "0.6"]})


def test_a_run_without_time_left_says_which_stage_could_not_start(tmp_path: Path):
    """The build takes all: it says so, and nothing is started after it."""
    sample = next(path for path in SAMPLES if path.name == "adv-build-forever")
    expected = {"assignment": {"timeouts": {"build": 60, "total": 10}}}
    told = graded(sample, tmp_path, expected)
    outcomes = {"dockerfile": "passed", "build": "failed", "train": "blocked"}
    holds(told, expected, outcomes, {"build": ["The whole run's time, 10 s (timeouts.total), is over"]})


def test_no_group_of_a_build_stays():
    assert [str(path) for path in Path("/sys/fs/cgroup").glob(f"*/{cgroup.PREFIX}*-{os.getpid()}-*")] == []
