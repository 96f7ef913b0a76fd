"""What `dockerlab grade` hands on: options, formats, status, signals, and where the assignment comes from."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pytest_dockerlab.classroom import child, lesson, publish
from pytest_dockerlab.cli import COMMANDS, main
from pytest_dockerlab.errors import UsageError


def test_the_author_adds_a_test_and_it_counts(classroom):
    with (classroom.assignment / "assignment.toml").open("r+") as file:
        text = file.read()
        extra = '[[checks]]\nid = "own"\npoints = 7\ntitle = { en = "own", zh = "own" }\n[train]'
        file.seek(0)
        file.write(text.replace("[train]", extra))
    with (classroom.assignment / "test_tiny.py").open("a") as file:
        file.write(
            '\n@pytest.mark.dockerlab(check="own")\ndef test_own(dockerlab_loss):\n'
            "    assert len(dockerlab_loss.values()) > 99, 'print more'\n"
        )
    assert classroom.grade().status == 1
    own = next(check for check in classroom.results["checks"] if check["id"] == "own")
    assert (own["outcome"], own["points"]) == ("failed", 0)
    assert "print more" in own["message"]
    assert classroom.results["score"] == 100
    assert classroom.results["max_score"] == 107


def test_options_reach_the_child(classroom):
    with (classroom.assignment / "test_tiny.py").open("a") as file:
        file.write(
            "\ndef test_options(dockerlab_settings):\n"
            "    s = dockerlab_settings\n"
            "    assert (s.gpu, s.lang, s.runtime, s.fresh, s.keep) == ('none', 'zh', 'runc', True, False)\n"
        )
    graded = classroom.grade(gpu="none", lang="zh", runtime="runc", fresh=True, reader="ta")
    assert graded.status == 0, classroom.text


def test_formats_go_into_the_report_or_to_the_log(classroom):
    report = classroom.root / "report"
    assert classroom.grade(report=str(report), formats=("junit", "csv", "classroom50"), environ=CLASSROOM50).status == 0
    assert (report / "junit.xml").read_text().startswith("<?xml")
    assert json.loads((report / "result.json").read_text())["score"] == 100
    assert json.loads((report / "results.json").read_text()) == classroom.results
    assert (report / "train.log").is_file()
    classroom.grade(formats=("prairielearn",))
    assert '"gradable": true' in classroom.text


def test_a_format_that_is_called_results_json_too_does_not_take_the_place_of_ours(classroom):
    report = classroom.root / "report"
    assert classroom.grade(report=str(report), formats=("gradescope", "prairielearn")).status == 0
    assert json.loads((report / "results.json").read_text()) == classroom.results
    assert json.loads((report / "gradescope-results.json").read_text())["score"] == 100
    assert json.loads((report / "prairielearn-results.json").read_text())["gradable"] is True


CLASSROOM50 = {
    "PATH": os.environ["PATH"],
    "CLASSROOM": "c",
    "ASSIGNMENT": "a",
    "ASSIGNMENT_TYPE": "individual",
    "OWNER": "o",
    "SUBMISSION_TAG": "submit/2026-06-01T14-32-05Z-a1b2c3d",
    "COMMIT_URL": "u",
    "RELEASE_URL": "u",
    "REVIEW_URL": "u",
}


def test_no_grade_is_no_file_where_the_other_system_has_no_word_for_it(classroom):
    (classroom.assignment / "test_tiny.py").write_text(
        "import pytest\nfrom pytest_dockerlab.errors import InfraError\n"
        + "".join(
            f'@pytest.mark.dockerlab(check="{name}")\ndef test_{name}():\n    raise InfraError("the disk is full")\n'
            for name in ("dockerfile", "build", "train", "loss", "artifact")
        )
    )
    report = classroom.root / "report"
    graded = classroom.grade(report=str(report), formats=("classroom50", "junit"), environ=CLASSROOM50)
    assert graded.status == 10
    assert classroom.results["score"] is None
    assert not (report / "result.json").exists()
    assert (report / "junit.xml").exists()
    assert "classroom50: not written" in classroom.text


def test_the_environment_is_an_allow_list(tmp_path):
    outer = {
        "PATH": "/bin",
        "LC_ALL": "C",
        "DOCKER_HOST": "unix:///x",
        "https_proxy": "p",
        "NO_PROXY": "n",
        "SSL_CERT_FILE": "f",
        "DOCKERLAB_SECRET": "s",
        "DOCKERLAB_DIGITS": "/d",
        "DOCKERLAB_GPU": "required",
        "GITHUB_TOKEN": "t",
        "GITHUB_ENV": "e",
        "AWS_SECRET_ACCESS_KEY": "k",
        "PYTHONPATH": "/evil",
        "PYTEST_ADDOPTS": "-p evil",
        "LD_PRELOAD": "/evil.so",
        "HOME": "/home/grader",
    }
    env = child.environment(tmp_path, outer, tmp_path)
    kept = {"PATH", "LC_ALL", "DOCKER_HOST", "https_proxy", "NO_PROXY", "SSL_CERT_FILE"}
    ours = {"HOME", "DOCKERLAB_CACHE", "DOCKERLAB_CONFIG_DIR", "PYTEST_DISABLE_PLUGIN_AUTOLOAD"}
    assert set(env) == kept | ours
    assert env["HOME"] == str(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_passed_on_and_the_child_is_waited_for(classroom, number):
    classroom.write("Dockerfile", 'FROM python:3.11-slim\nCMD ["python", "slow.py"]\n')
    done = threading.Event()

    def send() -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until and "training" not in classroom.text:
            time.sleep(0.05)
        time.sleep(0.5)
        if not done.is_set():
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    sender = threading.Thread(target=send)
    sender.start()
    started = time.monotonic()
    graded = classroom.grade()
    done.set()
    sender.join()
    assert time.monotonic() - started < 40
    assert graded.status in (2, 10), classroom.text
    assert graded.results is None or graded.results["graded"] is False
    assert signal.getsignal(number) is before


def test_a_missing_path_and_what_is_no_submission(classroom, tmp_path):
    with pytest.raises(UsageError, match="There is no"):
        classroom.grade(tmp_path / "nothing")
    (tmp_path / "text.txt").write_text("x")
    with pytest.raises(UsageError, match="neither a folder"):
        classroom.grade(tmp_path / "text.txt")
    with pytest.raises(UsageError, match="no git repository"):
        classroom.grade(ref="main")


# -- the assignment, from git


def git(folder, *arguments):
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    done = subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *arguments],
        cwd=folder,
        env={"HOME": str(folder), "PATH": os.environ["PATH"]} | names,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def course(classroom):
    folder = classroom.assignment.parent
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "one")
    return f"git+file://{folder}//tiny", git(folder, "rev-parse", "HEAD")


def test_an_assignment_at_a_commit(classroom, course):
    url, commit = course
    (classroom.assignment / "test_tiny.py").write_text("changed since\n")
    assert classroom.grade(assignment=f"{url}@{commit}").status == 0
    kept = lesson.load(f"{url}@{commit}").folder  # from the cache: the repository is not asked again
    assert kept.is_relative_to(classroom.root / "cache")


@pytest.mark.parametrize("at", ["", "@main", "@abc1234", "@" + "0" * 40])
def test_an_assignment_needs_a_whole_hash_that_is_there(classroom, course, at):
    with pytest.raises(UsageError):
        classroom.grade(assignment=course[0] + at)


def test_a_folder_that_is_no_assignment(classroom, course):
    url, commit = course
    with pytest.raises(UsageError, match="no folder"):
        classroom.grade(assignment=f"{url}x@{commit}")


# -- where results go


@pytest.fixture
def repo(tmp_path):
    """A submission with a link out of it, which the grader stands in."""
    (tmp_path / "elsewhere" / "deep" / "er").mkdir(parents=True)
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "link").symlink_to(tmp_path / "elsewhere" / "deep" / "er")
    return repo


@pytest.mark.parametrize("name", ["../r.json", "r.json", "new/r.json", "../elsewhere/r.json"])
def test_results_beside_or_inside_of_the_submission(repo, name):
    publish.check_targets(repo, [repo / name, None])


@pytest.mark.parametrize("name", ["link", "link/r.json", "link/../r.json", "link/../../r.json"])
def test_a_link_of_the_students_does_not_say_where_results_go(repo, name):
    with pytest.raises(UsageError, match="leads out of the submission"):
        publish.check_targets(repo, [repo / name])


# -- the command


def test_every_command_has_help_with_an_example(capsys):
    inner = [["data", "fetch"], ["data", "status"], ["images", "ensure"], ["images", "list"], ["images", "remove"]]
    for words in [[], *([name] for name in COMMANDS), *inner]:
        with pytest.raises(SystemExit) as caught:
            main([*words, "--help"])
        assert caught.value.code == 0
        _, example, shown = capsys.readouterr().out.partition("Example")
        assert example, words
        assert " ".join(["dockerlab", *words]) in shown


def test_json_alone_is_on_standard_output(classroom, capsys, monkeypatch):
    import pytest_dockerlab.classroom.grading as grading

    first = classroom.grade()

    def stored(_request, say):
        say("a line of the report")
        return first

    monkeypatch.setattr(grading, "grade_path", stored)
    with pytest.raises(SystemExit) as caught:
        main(["grade", str(classroom.student), "--json"])
    out, err = capsys.readouterr()
    assert caught.value.code == 0
    assert json.loads(out) == first.results
    assert err == "a line of the report\n"


@pytest.mark.parametrize("arguments", [["grade", "nowhere"], ["grade", ".", "--format", "x"], ["regrade", "nowhere"]])
def test_a_wrong_call_ends_with_4(arguments):
    program = Path(sys.executable).with_name("dockerlab")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 4
    assert "Traceback" not in done.stderr
