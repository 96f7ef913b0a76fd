"""`dockerlab init`: starters, workflows that other tools find nothing wrong with, new assignments."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pytest_dockerlab import paths
from pytest_dockerlab.assignment import Assignment, Limits
from pytest_dockerlab.cli import main
from pytest_dockerlab.submission import Submission


def init(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["init", *map(str, arguments)])
    return int(caught.value.code or 0)


def tool(name: str) -> str:
    path = Path(sys.executable).with_name(name)
    if not path.is_file():
        pytest.skip(f"{name} is not installed (pip install pytest-dockerlab[dev])")
    return str(path)


def test_a_starter_is_what_the_assignment_has(tmp_path):
    assert init(tmp_path / "lab") == 0
    source = paths.bundled("assignments", "mnist", "starter")
    theirs = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    ours = {path.relative_to(tmp_path / "lab") for path in (tmp_path / "lab").rglob("*") if path.is_file()}
    assert ours == theirs
    assert Submission.load(tmp_path / "lab", Limits()).file.assignment == "mnist"


def test_files_of_others_are_not_overwritten(tmp_path, capsys):
    (tmp_path / "Dockerfile").write_text("mine")
    assert init(tmp_path) == 4
    assert "Dockerfile" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["Dockerfile"]  # nothing else was written either
    assert init(tmp_path, "--force") == 0
    assert (tmp_path / "Dockerfile").read_text() != "mine"
    assert init(tmp_path) == 0  # the same files again are no loss


def test_a_link_in_the_folder_is_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    lab = tmp_path / "lab"
    lab.mkdir()
    (lab / "serve").symlink_to(victim)
    assert init(lab, "--force") == 4
    assert not list(victim.iterdir())


@pytest.fixture
def workflows(tmp_path):
    assert init(tmp_path, "--classroom", "all") == 0
    return sorted((tmp_path / ".github" / "workflows").iterdir())


def test_github_alone_writes_the_plain_workflow(tmp_path):
    assert init(tmp_path, "--github") == 0
    assert [path.name for path in (tmp_path / ".github" / "workflows").iterdir()] == ["dockerlab.yml"]


def test_the_workflows_follow_the_schema(workflows):
    assert [path.name for path in workflows] == ["classroom.yml", "classroom50.yml", "dockerlab.yml"]
    subprocess.run(
        [tool("check-jsonschema"), "--builtin-schema", "vendor.github-workflows", *workflows],
        check=True,
        capture_output=True,
    )


def test_zizmor_finds_nothing(workflows):
    done = subprocess.run(
        [tool("zizmor"), "--offline", "--no-progress", "--no-config", *workflows],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_every_workflow_is_pinned_bounded_and_poor(workflows):
    for path in workflows:
        told = yaml.safe_load(path.read_text())
        assert told["permissions"] == {}
        assert told["concurrency"]
        for job in told["jobs"].values():
            assert job["timeout-minutes"] <= 60
            assert job["permissions"] == {"contents": "read"}
            assert "DOCKERLAB_RUNNER" in job["runs-on"]  # a GPU runner is an option
            for step in job["steps"]:
                assert "${{" not in step.get("run", "")
                if "uses" in step:
                    assert re.fullmatch(r"actions/[a-z/-]+@[0-9a-f]{40}", step["uses"])
    legacy = yaml.safe_load(workflows[0].read_text())
    assert legacy[True] == ["push", "repository_dispatch"]  # YAML 1.1 reads `on` as true
    assert legacy["jobs"]["run-autograding-tests"]["if"] == "github.actor != 'github-classroom[bot]'"
    assert yaml.safe_load(workflows[1].read_text())["jobs"]["grade"]["timeout-minutes"] == 15


def test_an_assignment_that_no_runner_can_find_is_told(tmp_path, capsys):
    assert init("--assignment", "tomatoes", tmp_path / "tomatoes") == 0
    assert init(tmp_path / "lab", "--from", tmp_path / "tomatoes", "--github") == 0
    assert "DOCKERLAB_ASSIGNMENT" in capsys.readouterr().err


# -- a new assignment


def test_a_new_assignment_is_valid(tmp_path):
    folder = tmp_path / "red-tomatoes"
    assert init("--assignment", "red-tomatoes", folder) == 0
    assignment = Assignment.load(str(folder))
    assert (assignment.name, assignment.max_score) == ("red-tomatoes", 100)
    assert [path.name for path in assignment.test_files] == ["test_red_tomatoes.py"]
    for path in folder.rglob("*"):
        assert not path.is_file() or not re.search(r"@[A-Z]+@", path.read_text())
    assert (folder / "README.zh.md").is_file()


def test_a_new_assignment_without_a_folder_gets_one_of_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert init("--assignment", "red-tomatoes") == 0
    assert Assignment.load("red-tomatoes").folder == tmp_path / "red-tomatoes"


def test_a_starter_needs_a_folder(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert init() == 4
    assert "DIR" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["Tomatoes", "../x", "a b", ""])
def test_a_name_that_can_not_be_one(tmp_path, name):
    assert init("--assignment", name, tmp_path / "x") == 4
    assert not (tmp_path / "x").exists()


def test_a_new_assignment_passes_its_own_tests_at_once(classroom, tmp_path):
    """On the fake engine, to which the solution's own output is told; the real one has its turn below."""
    folder = tmp_path / "tomatoes"
    assert init("--assignment", "tomatoes", folder) == 0
    output = subprocess.run([sys.executable, "train.py"], cwd=folder / "solution", capture_output=True, check=True)
    model = (folder / "solution" / "line.safetensors").read_bytes()
    (folder / "solution" / "line.safetensors").unlink()
    plugin = tmp_path / "engine.py"
    plugin.write_text(
        "from pytest_dockerlab import fixtures\n"
        "from pytest_dockerlab.engine.fake import FakeEngine, FakeProgram\n"
        "def open_engine():\n"
        "    engine = FakeEngine()\n"
        "    engine.add_image('python:3.11-slim')\n"
        f"    said = FakeProgram(output={output.stdout!r}, files={{'line.safetensors': {model!r}}})\n"
        "    engine.program('python -u train.py', said)\n"
        "    return engine\n"
        "fixtures.open_engine = open_engine\n"
    )
    from pytest_dockerlab.classroom.grading import Request, grade_path
    from pytest_dockerlab.settings import resolve

    request = Request(folder / "solution", resolve({"assignment": str(folder)}, environ={}))
    graded = grade_path(request, say=classroom.log.append, _plugins=(plugin,))
    assert graded.status == 0, classroom.text
    assert graded.results["score"] == 100


@pytest.mark.engine
@pytest.mark.images
def test_and_on_a_real_engine(tmp_path, lab_images, monkeypatch):
    from pytest_dockerlab.classroom.grading import Request, grade_path
    from pytest_dockerlab.settings import resolve

    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "tomatoes"
    assert init("--assignment", "tomatoes", folder) == 0
    log = []
    told = {"assignment": str(folder), "gpu": "none"}
    for name, score in (("solution", 100), ("starter", 50)):
        graded = grade_path(Request(folder / name, resolve(told, environ={})), say=log.append)
        assert graded.results["score"] == score, "\n".join(log)
