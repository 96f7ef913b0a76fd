"""The workflows that `dockerlab init` writes, run step by step: each `run:` in a clean clone, as the runner would."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import jsonschema
import pytest
import yaml

from pytest_dockerlab import paths
from pytest_dockerlab.cli import main

pytestmark = [pytest.mark.engine, pytest.mark.images, pytest.mark.usefixtures("lab_images")]

SAMPLE = "bad-copy-missing-file"  # fails in its build, at a line of its Dockerfile: 5 of 100 points
SCORE = 5
PRESENT = "dockerlab/client:latest"  # in the place of the base images, so that no test pulls gigabytes
SCHEMA = Path(__file__).resolve().parents[2] / "golden" / "report" / "classroom50-result-v1.schema.json"


@dataclass
class Runner:
    """What a runner is to a job: a checkout, a temporary folder, the files for outputs and the summary, a log."""

    checkout: Path
    temp: Path
    sha: str
    status: int = 0
    log: str = ""
    ran: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        return (self.temp / "summary").read_text()

    @property
    def outputs(self) -> dict[str, str]:
        return dict(line.split("=", 1) for line in (self.temp / "output").read_text().splitlines())

    @property
    def results(self) -> dict[str, object]:
        return json.loads((self.temp / "results.json").read_text())

    def expression(self, text: str, ref: str) -> str:
        """The few expressions that stand in `env:`."""
        values = {"github.sha": self.sha, "github.ref_name": ref, "github.server_url": "https://github.com"}
        values |= {"github.repository": "o/lab", "secrets.DOCKERLAB_SECRET": ""}

        def one(match: re.Match[str]) -> str:
            return values.get(match[1].strip(), match[1].split("||")[-1].strip().strip("'"))

        return re.sub(r"\$\{\{(.*?)\}\}", one, text)

    def run(self, workflow: Path, ref: str) -> None:
        (job,) = yaml.safe_load(workflow.read_text())["jobs"].values()
        for name in ("summary", "output", "env"):
            (self.temp / name).touch()
        base = {name: os.environ[name] for name in ("HOME", "DOCKER_HOST") if name in os.environ}
        base |= {name: value for name, value in os.environ.items() if name.startswith(("DOCKERLAB_", "SSL_"))}
        base |= {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "CI": "true",
            "GITHUB_ACTIONS": "true",
            "GITHUB_SHA": self.sha,
            "GITHUB_REF_NAME": ref,
            "GITHUB_TOKEN": "ghs_must_not_be_seen",
            "GITHUB_WORKSPACE": str(self.checkout),
            "GITHUB_STEP_SUMMARY": str(self.temp / "summary"),
            "GITHUB_OUTPUT": str(self.temp / "output"),
            "GITHUB_ENV": str(self.temp / "env"),
            "RUNNER_TEMP": str(self.temp),
        }
        for step in job["steps"]:
            if "run" not in step:
                continue
            script = self.temp / "step.sh"
            script.write_text(step["run"])
            told = job["env"] | {"DOCKERLAB_IMAGES": PRESENT} | step.get("env", {})
            env = base | {name: self.expression(value, ref) for name, value in told.items()}
            done = subprocess.run(
                ["bash", "-e", str(script)],
                cwd=self.checkout,
                env=env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            self.log += done.stdout
            self.ran.append(step["name"])
            self.status = done.returncode
            if self.status:
                return


def git(folder: Path, *arguments: str) -> str:
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    env = {"HOME": str(folder), "PATH": os.environ["PATH"]} | names
    argv = ["git", "-c", "init.defaultBranch=main", *arguments]
    return subprocess.run(argv, cwd=folder, env=env, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def runner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """A repository made by `dockerlab init`, with a student's work in it, cloned as the checkout action does."""
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "cache"))
    origin, checkout, temp = tmp_path / "lab", tmp_path / "work" / "lab", tmp_path / "temp"
    with pytest.raises(SystemExit):
        main(["init", str(origin), "--classroom", "all"])
    shutil.copytree(
        paths.bundled("fixtures", "submissions", SAMPLE),
        origin,
        dirs_exist_ok=True,
        ignore=shutil.ignore_patterns("expected.toml"),
    )
    git(origin, "init", "-q")
    git(origin, "add", "-A")
    git(origin, "commit", "-q", "-m", "hand in")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{origin}", str(checkout))
    temp.mkdir()
    return Runner(checkout, temp, git(checkout, "rev-parse", "HEAD"))


def workflow(runner: Runner, name: str) -> Path:
    return runner.checkout / ".github" / "workflows" / name


def check_log(runner: Runner) -> None:
    """Our annotations are commands, and whatever came from the submission stands inside the fence."""
    lines = runner.log.splitlines()
    (start,) = (index for index, line in enumerate(lines) if line.startswith("::stop-commands::"))
    assert f"::{lines[start].removeprefix('::stop-commands::')}::" in lines
    assert [line for line in lines if line.startswith("::error file=Dockerfile,line=")]
    assert "ghs_must_not_be_seen" not in runner.log


def test_plain(runner):
    runner.run(workflow(runner, "dockerlab.yml"), "main")
    assert runner.ran == ["Install the grader", "Fetch the base images", "Grade"], runner.log
    assert runner.status == 1
    assert runner.results["score"] == SCORE
    assert runner.results["submission"]["commit"] == runner.sha
    assert f": {SCORE} / 100" in runner.summary
    assert (runner.temp / "report" / "junit.xml").is_file()
    assert (runner.temp / "images" / "base.tar").is_file()
    assert runner.outputs == {"fetched": "true"}
    check_log(runner)


def test_classroom50(runner):
    runner.run(workflow(runner, "classroom50.yml"), "submit/2026-06-01T14-32-05Z-a1b2c3d")
    assert runner.status == 0, runner.log
    told = json.loads((runner.checkout / "result.json").read_text())
    jsonschema.validate(told, json.loads(SCHEMA.read_text()))
    assert (told["score"], told["max-score"]) == (SCORE, 100)
    check_log(runner)


def test_legacy_classroom(runner):
    runner.run(workflow(runner, "classroom.yml"), "main")
    assert runner.status == 0, runner.log
    assert runner.ran[-2:] == ["Grade", "Report"]
    payloads = [json.loads(base64.b64decode(text)) for name, text in runner.outputs.items() if name != "fetched"]
    assert sum(test["score"] for told in payloads for test in told["tests"]) == SCORE
    assert sum(told["max_score"] for told in payloads) == 100
    assert f"::notice title=Autograding complete::Points {SCORE}/100" in runner.log
    check_log(runner)
