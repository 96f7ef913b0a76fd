"""Hostile repositories: whatever is in them, no score changes, and nothing of them runs on the host.

Each of them would write a canary file if its code were run. The child is the real one, with the real command line; only
the container engine is a fake.
"""

from __future__ import annotations

import io
import json
import os
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.report.schema import validate

INI = "[pytest]\naddopts = -p evil --collect-only\npython_files = *.py\n"
TAKE_OVER = """
import pytest
{code}
def pytest_runtest_makereport(item, call):
    pass
@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session):
    session.exitstatus = 0
"""

TRICKS = {
    "conftest": {"conftest.py": TAKE_OVER},
    "conftest-and-ini": {"conftest.py": TAKE_OVER, "pytest.ini": INI, "evil.py": TAKE_OVER},
    "pyproject": {"pyproject.toml": '[tool.pytest.ini_options]\naddopts = "-p evil"\n', "evil.py": TAKE_OVER},
    "tox-and-setup-cfg": {"tox.ini": INI, "setup.cfg": INI.replace("[pytest]", "[tool:pytest]"), "evil.py": TAKE_OVER},
    "sitecustomize": {"sitecustomize.py": "{code}", "usercustomize.py": "{code}"},
    "pth": {"evil.pth": "import sys; {line}", "lib/python3/site-packages/evil.pth": "import sys; {line}"},
    "modules-like-ours": {
        "pytest.py": "{code}",
        "pytest_dockerlab/__init__.py": "{code}",
        "json.py": "{code}",
        "click/__init__.py": "{code}",
    },
    "entry-points": {
        "evil-1.dist-info/entry_points.txt": "[pytest11]\nevil = evil\n",
        "evil-1.dist-info/METADATA": "Name: evil\nVersion: 1\n",
        "evil.egg-info/entry_points.txt": "[pytest11]\nevil = evil\n",
        "evil.py": "{code}",
    },
    "tests-of-their-own": {"test_tiny.py": "{code}\ndef test_it():\n    pass\n", "tests/test_tiny.py": "{code}"},
    "dotenv": {".env": "PYTEST_ADDOPTS=-p evil\nDOCKERLAB_RESULTS=/tmp/x\n", "evil.py": "{code}"},
    "an-assignment-of-their-own": {
        "tiny/assignment.toml": 'schema = 1\nname = "tiny"\n',
        "assignment.toml": 'schema = 1\nname = "tiny"\n',
        "dockerlab.toml": 'assignment = "tiny"\n',
    },
    "venv": {"pyvenv.cfg": "home = .\n", "bin/python": "{shell}", "bin/git": "{shell}", "bin/docker": "{shell}"},
    "results-of-their-own": {
        "results.json": '{"schema": "dockerlab/results/v1", "graded": true, "score": 100, "max_score": 100}',
        "train.json": "{}",
        "dockerfile.json": "{}",
    },
}


def fill(classroom, files):
    for name, text in files.items():
        text = text.replace("{code}", classroom.code).replace("{shell}", classroom.shell)
        path = classroom.write(name, text.replace("{line}", classroom.code.strip()))
        path.chmod(0o755)


@pytest.mark.parametrize("trick", TRICKS)
def test_a_file_in_the_repository_changes_nothing(classroom, trick, monkeypatch):
    """The failing submission stays failing, from inside its folder, which is where CI calls us."""
    fill(classroom, TRICKS[trick])
    classroom.says(b"no loss at all\n")
    monkeypatch.chdir(classroom.student)
    hostile = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    hostile |= {
        "PYTHONPATH": str(classroom.student),
        "PYTHONSTARTUP": str(classroom.student / "evil.py"),
        "PYTEST_ADDOPTS": "-p evil",
        "PYTEST_PLUGINS": "evil",
        "PYTHONHOME": str(classroom.student),
    }

    graded = classroom.grade(environ=hostile)

    assert graded.status == 1, classroom.text
    validate(classroom.results)
    outcomes = {check["id"]: check["outcome"] for check in classroom.results["checks"]}
    assert outcomes == {"dockerfile": "passed", "build": "passed", "train": "failed"} | {
        "loss": "blocked",
        "artifact": "blocked",
    }
    assert classroom.results["score"] == 30
    assert not classroom.canary.exists()


def test_the_canary_would_have_been_written(classroom):
    """The control: what the grader never does, plain pytest does."""
    fill(classroom, TRICKS["conftest"])
    subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=classroom.student, capture_output=True, check=False)
    assert classroom.canary.exists()


def test_the_command_line_alone_keeps_pythonpath_and_modules_out(classroom):
    """Through the real command, with a Python path and working folder of the student's."""
    fill(classroom, TRICKS["conftest-and-ini"] | TRICKS["sitecustomize"])
    (classroom.student / "Dockerfile").unlink()
    program = Path(sys.executable).with_name("dockerlab")
    env = os.environ | {"PYTEST_ADDOPTS": "-p evil", "PYTEST_PLUGINS": "evil", "DOCKER_HOST": "unix:///nowhere"}

    done = subprocess.run(
        [program, "grade", ".", "--assignment", classroom.assignment, "--results", classroom.results_file],
        cwd=classroom.student,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 10, done.stdout + done.stderr  # no engine there: no grade, and no zero
    assert classroom.results["graded"] is False
    assert not classroom.canary.exists()


def test_the_good_submission_keeps_its_points(classroom):
    fill(classroom, TRICKS["conftest"] | TRICKS["sitecustomize"])
    assert classroom.grade().status == 0
    assert classroom.results["score"] == 100
    assert not classroom.canary.exists()


def test_programs_of_the_submission_are_not_on_the_path(classroom, repository, monkeypatch):
    fill(classroom, {f"bin/{name}": "{shell}" for name in ("git", "docker", "python", "docker-buildx")})
    own = str(classroom.student / "bin")
    path = os.pathsep.join(["", ".", "bin", own, os.environ["PATH"]])
    monkeypatch.setenv("PATH", path)
    monkeypatch.chdir(classroom.student)
    assert classroom.grade(ref="HEAD", environ=dict(os.environ)).status == 0
    monkeypatch.chdir(classroom.student / "bin")
    assert classroom.grade(environ=dict(os.environ)).status == 0
    assert not classroom.canary.exists()


def test_a_config_file_that_speaks_to_the_runner_is_only_quoted(classroom):
    classroom.write("dockerlab.toml", '"\\n::set-output name=score::100\\n\\u001b[2J" = 1\n')
    program = Path(sys.executable).with_name("dockerlab")
    for options in ([], ["--assignment", classroom.assignment]):
        done = subprocess.run(
            [program, "grade", classroom.student, *options], capture_output=True, text=True, check=False
        )
        assert done.returncode == 4, done.stdout + done.stderr
        said = done.stdout + done.stderr
        assert "set-output" in said
        assert "\x1b" not in said
        assert not [line for line in said.splitlines() if line.lstrip().startswith("::")]


# -- the assignment


def test_an_assignment_inside_the_submission_is_refused(classroom):
    inside = classroom.student / "tiny"
    inside.mkdir()
    for path in classroom.assignment.iterdir():
        (inside / path.name).write_bytes(path.read_bytes())
    (inside / "test_tiny.py").write_text(classroom.code)
    with pytest.raises(UsageError, match="lies inside the submission"):
        classroom.grade(assignment=str(inside))
    link = classroom.root / "looks-ours"
    link.symlink_to(inside)
    with pytest.raises(UsageError, match="lies inside the submission"):
        classroom.grade(assignment=str(link))
    assert not classroom.canary.exists()


def test_the_student_can_name_a_bundled_assignment_and_no_other(classroom, monkeypatch):
    classroom.write("dockerlab.toml", 'assignment = "tiny"\n')
    monkeypatch.chdir(classroom.assignment.parent)  # where a folder of that name lies
    with pytest.raises(UsageError, match="none of the bundled ones"):
        classroom.grade(assignment=None)
    classroom.write("dockerlab.toml", 'assignment = "mnist"\n')
    (classroom.student / "Dockerfile").unlink()
    classroom.grade(assignment=None)
    assert "dockerlab.toml says 'mnist'" in classroom.text


# -- results and reports that lie there already


def test_a_results_file_of_theirs_is_gone_even_where_there_is_no_grade(classroom):
    forged = classroom.write("results.json", '{"score": 100}')
    report = classroom.student / "report"
    classroom.write("report/junit.xml", "<forged/>")
    (classroom.assignment / "test_tiny.py").write_text("this is no Python\n")  # so that nothing is graded
    graded = classroom.grade(results=str(forged), report=str(report))
    assert graded.results is None
    assert graded.status == 10
    assert not forged.exists()
    assert not (report / "junit.xml").exists()


def test_results_are_not_written_through_their_link(classroom):
    victim = classroom.root / "victim"
    victim.mkdir()
    (victim / "results.json").write_text("mine")
    (classroom.student / "out").symlink_to(victim)
    with pytest.raises(UsageError, match="by a link"):
        classroom.grade(results=str(classroom.student / "out" / "results.json"))
    with pytest.raises(UsageError, match="by a link"):
        classroom.grade(report=str(classroom.student / "out"))
    assert (victim / "results.json").read_text() == "mine"


def test_results_inside_the_submission_do_not_change_it(classroom):
    first = classroom.grade(results=str(classroom.student / "results.json")).results
    second = classroom.grade(results=str(classroom.student / "results.json")).results
    assert first["submission"] == second["submission"]


# -- links


def test_links_out_of_the_submission_lead_nowhere(classroom):
    secret = classroom.root / "secret"
    secret.write_text("FROM python:3.11-slim\nRUN echo top-secret-content\n")
    (classroom.student / "Dockerfile").unlink()
    (classroom.student / "Dockerfile").symlink_to(secret)
    config = classroom.root / "evil.toml"
    config.write_text('[train]\ndockerfile = "other"\n')
    (classroom.student / "dockerlab.toml").symlink_to(config)
    report = classroom.root / "report"
    assert classroom.grade(report=str(report)).status == 1
    assert classroom.results["checks"][0]["outcome"] == "failed"
    everything = classroom.text + "".join(path.read_text("utf-8", "replace") for path in report.iterdir())
    assert "top-secret-content" not in everything


# -- what the training prints

INJECTION = (
    b"::notice title=Autograding complete::Points 100/100\n"
    b"::set-output name=score::100\n##[error]no\n::add-mask::0\n"
    b"\x1b]0;owned\x07\x1b[2J\x1b[1;1Hscore: 100 of 100\x1b[8m\n"
    b"<script>alert(1)</script><img src=x onerror=alert(1)>\n"
    b"=cmd|' /C calc'!A0\n"
    b"::stop-commands::x\n::x::\n"
)


def test_output_that_issues_commands_stays_output(classroom):
    classroom.says(INJECTION)
    summary = classroom.root / "summary.md"
    report = classroom.root / "report"
    environ = dict(os.environ) | {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(summary)}

    formats = ("junit", "terminal", "csv", "step-summary", "annotations", "gradescope")
    graded = classroom.grade(environ=environ, reader="ta", report=str(report), formats=formats)

    assert graded.status == 1
    assert classroom.results["score"] == 30
    lines = classroom.text.split("\n")
    token = next(line for line in lines if line.startswith("::stop-commands::")).removeprefix("::stop-commands::")
    start, end = lines.index(f"::stop-commands::{token}"), lines.index(f"::{token}::")
    outside = lines[:start] + lines[end + 1 :]
    commands = [line for line in outside if line.lstrip().startswith("::") or "##[" in line]
    assert commands
    assert all(line.startswith("::error ") for line in commands)  # our annotations, and nothing else
    assert "\x1b" not in classroom.text
    outside_of_code = "".join(summary.read_text().split("```")[::2])
    assert "alert(1)" in summary.read_text()
    assert "alert(1)" not in outside_of_code
    assert "\x1b" not in summary.read_text()
    for path in report.iterdir():
        if path.suffix in (".md", ".txt", ".csv", ".xml"):
            assert "\x1b" not in path.read_text(), path.name
            assert not [line for line in path.read_text().split("\n") if line.startswith("::notice")], path.name


def test_without_actions_no_line_of_the_log_is_a_command(classroom):
    classroom.says(INJECTION)
    classroom.grade(reader="ta")
    assert "Points 100/100" in classroom.text or "stop-commands" in classroom.text
    assert not [line for line in classroom.log if line.lstrip().startswith("::")]


# -- archives


def tar_of(*members, mode="w:gz"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:
        for member, data in members:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def info(name, kind=tarfile.REGTYPE, link=""):
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


def good_zip(classroom):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(classroom.student.iterdir()):
            archive.write(path, f"lab-main/{path.name}")
    return buffer.getvalue()


def test_a_zip_and_a_tar_get_what_the_folder_gets(classroom):
    path = classroom.root / "alice.zip"
    path.write_bytes(good_zip(classroom))
    assert classroom.grade(path).status == 0
    assert classroom.results["submission"]["name"] == "alice"
    by_zip = classroom.results["submission"]["sha256"]
    path = classroom.root / "alice.tar.xz"
    with tarfile.open(path, "w:xz") as tar:
        tar.add(classroom.student, "./")
    assert classroom.grade(path).status == 0
    classroom.grade()
    assert classroom.results["submission"]["sha256"] == by_zip


def zip_bomb():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(80):
            archive.writestr(f"{number}.bin", b"\0" * (1 << 20))
    return buffer.getvalue()


def lying_zip():
    """Its directory says 5 bytes; the data are many."""
    data = bytearray(zip_bomb())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        data[at + 24 : at + 28] = (5).to_bytes(4, "little")
        at = data.find(b"PK\x01\x02", at + 4)
    return bytes(data)


def zip_with(name, mode=0o644 | stat.S_IFREG, data=b"x"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        entry = zipfile.ZipInfo(name)
        entry.external_attr = mode << 16
        archive.writestr(entry, data)
    return buffer.getvalue()


def many_entries():
    """A directory that says a million entries."""
    data = bytearray(zip_with("a"))
    at = data.rfind(b"PK\x05\x06")
    data[at + 8 : at + 12] = b"\xff\xff\xff\xff"
    data[at + 12 : at + 16] = (1 << 30).to_bytes(4, "little")
    return bytes(data)


ARCHIVES = {
    "zip-bomb": ("zip", zip_bomb),
    "zip-that-lies": ("zip", lying_zip),
    "zip-directory-bomb": ("zip", many_entries),
    "zip-traversal": ("zip", lambda: zip_with("../escaped")),
    "zip-absolute": ("zip", lambda: zip_with("/escaped")),
    "zip-windows": ("zip", lambda: zip_with("..\\escaped")),
    "zip-device": ("zip", lambda: zip_with("dev", stat.S_IFCHR | 0o644)),
    "zip-cut-off": ("zip", lambda: zip_with("a" * 50)[:60]),
    "tar-bomb": ("tgz", lambda: tar_of((info("a"), b"\0" * (64 << 20)))),
    "tar-traversal": ("tgz", lambda: tar_of((info("a/../../escaped"), b"x"))),
    "tar-absolute": ("tgz", lambda: tar_of((info("/escaped"), b"x"))),
    "tar-hard-link": ("tar", lambda: tar_of((info("a", tarfile.LNKTYPE, "/etc/passwd"), b""), mode="w")),
    "tar-device": ("tar", lambda: tar_of((info("a", tarfile.CHRTYPE), b""), mode="w")),
    "tar-fifo": ("tar", lambda: tar_of((info("Dockerfile", tarfile.FIFOTYPE), b""), mode="w")),
    "tar-through-a-link": (
        "tar",
        lambda: tar_of((info("out", tarfile.SYMTYPE, "."), b""), (info("out/escaped"), b"x"), mode="w"),
    ),
    "tar-file-and-folder": ("tar", lambda: tar_of((info("a"), b"x"), (info("a/b"), b"x"), mode="w")),
    "tar-header-bomb": (
        "tgz",
        lambda: tar_of((info("h", tarfile.XHDTYPE), b"1 a=" + b"x" * (1 << 20)), (info("b"), b"")),
    ),
    "tar-cut-off": ("tgz", lambda: tar_of((info("a"), os.urandom(5000)))[:2000]),
    "no-archive": ("zip", lambda: b"just text"),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_a_hostile_archive_is_refused_and_writes_nothing(classroom, case):
    suffix, make = ARCHIVES[case]
    path = classroom.root / f"mallory.{suffix}"
    path.write_bytes(make())
    before = {entry for entry in classroom.root.rglob("*") if "cache" not in entry.parts}
    with pytest.raises(UsageError) as caught:
        classroom.grade(path)
    if case == "tar-through-a-link":  # the link is made last, so its name is a folder by then
        assert "stands twice" in str(caught.value)
    assert {entry for entry in classroom.root.rglob("*") if "cache" not in entry.parts} == before
    assert not list(classroom.root.parent.rglob("escaped"))


def test_a_link_upwards_is_left_out_and_its_name_stays_inside(classroom):
    path = classroom.root / "mallory.tar"
    path.write_bytes(tar_of((info("out", tarfile.SYMTYPE, ".."), b""), (info("out/escaped"), b"x"), mode="w"))
    assert classroom.grade(path).status == 1  # graded: there is no Dockerfile
    assert not list(classroom.root.parent.rglob("escaped"))


def test_links_in_an_archive_stay_inside_or_are_left_out(classroom):
    path = classroom.root / "mallory.tar"
    files = [(info(name), (classroom.student / name).read_bytes()) for name in ("Dockerfile", "train.py")]
    links = [
        (info("passwd", tarfile.SYMTYPE, "/etc/passwd"), b""),
        (info("up", tarfile.SYMTYPE, "a/../../x"), b""),
        (info("loop", tarfile.SYMTYPE, "loop"), b""),
        (info("fine", tarfile.SYMTYPE, "train.py"), b""),
    ]
    path.write_bytes(tar_of(*files, *links, mode="w"))
    assert classroom.grade(path).status == 0
    for name in ("passwd", "up", "loop"):
        assert f"left out of the submission: {name}" in classroom.text
    assert "left out of the submission: fine" not in classroom.text


# -- git


def git(folder, *arguments, **env):
    clean = {"HOME": str(folder), "PATH": os.environ["PATH"], "GIT_CONFIG_NOSYSTEM": "1"}
    names = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    return subprocess.run(
        ["git", "-c", "init.defaultBranch=main", *arguments],
        cwd=folder,
        env=clean | names | env,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()


@pytest.fixture
def repository(classroom):
    """A commit that is fine, with everything around it that makes git run a command."""
    student = classroom.student
    git(student, "init", "-q")
    classroom.write(".gitattributes", "*.py filter=evil diff=evil export-subst\ntrain.py export-ignore\n* ident\n")
    classroom.write("version.py", "v = '$Format:%H$ $Id$'\n")
    git(student, "add", "-A")
    git(student, "commit", "-q", "-m", "one")
    git(student, "tag", "-a", "submit/1", "-m", "x")
    classroom.commit = git(student, "rev-parse", "HEAD")
    script = classroom.write(".git/evil.sh", classroom.shell)
    script.chmod(0o755)
    for hook in ("post-checkout", "post-index-change", "pre-auto-gc", "reference-transaction", "post-merge"):
        path = student / ".git" / "hooks" / hook
        path.parent.mkdir(exist_ok=True)
        path.write_text(classroom.shell)
        path.chmod(0o755)
    with (student / ".git" / "config").open("a") as file:
        file.write(
            f"[core]\n\tfsmonitor = {script}\n\thooksPath = {student}/.git/hooks\n\tsshCommand = {script}\n"
            f"\tpager = {script}\n\teditor = {script}\n\tgitProxy = {script}\n"
            f'[filter "evil"]\n\tclean = {script}\n\tsmudge = {script}\n\tprocess = {script}\n\trequired = true\n'
            f'[diff "evil"]\n\ttextconv = {script}\n\tcommand = {script}\n'
            f'[alias]\n\tls-tree = "!{script}"\n\tcat-file = "!{script}"\n'
            f"[include]\n\tpath = {script}\n[uploadpack]\n\tpackObjectsHook = {script}\n"
        )
    (student / ".git" / "info" / "attributes").write_text("* filter=evil\n")
    return student


def test_a_commit_is_graded_as_it_is_and_nothing_of_the_repository_runs(classroom, repository):
    commit = classroom.commit
    (repository / "Dockerfile").write_text("not what was committed")
    for ref in ("submit/1", "HEAD", "main", commit, commit[:10], "refs/tags/submit/1"):
        graded = classroom.grade(ref=ref)
        assert graded.status == 0, classroom.text
        assert classroom.results["submission"]["commit"] == commit
    assert classroom.grade(ref="HEAD").results["submission"]["name"] == "mallory"
    assert not classroom.canary.exists()


def test_blobs_are_written_as_they_are(classroom, repository, tmp_path):
    from pytest_dockerlab.classroom import gitrepo
    from pytest_dockerlab.classroom.tree import Bounds

    target = tmp_path / "exported"
    target.mkdir()
    gitrepo.export(repository, "main", target, Bounds())
    assert (target / "version.py").read_text() == "v = '$Format:%H$ $Id$'\n"
    assert (target / "train.py").exists()  # export-ignore hides nothing
    assert not classroom.canary.exists()


def test_packed_refs_and_a_bare_clone(classroom, tmp_path):
    git(classroom.student, "init", "-q")
    git(classroom.student, "add", "-A")
    git(classroom.student, "commit", "-q", "-m", "one")
    git(classroom.student, "tag", "v1")
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", "--no-local", str(classroom.student), str(bare))
    git(bare, "pack-refs", "--all")
    assert classroom.grade(bare, ref="v1").status == 0
    assert classroom.results["submission"]["name"] == "bare"


@pytest.mark.parametrize(
    "ref", ["nothing", "--upload-pack=x", "main^{/x}", "../../HEAD", "HEAD:train.py", "0" * 40, ""]
)
def test_a_ref_that_is_none_is_refused(classroom, repository, ref):
    with pytest.raises(UsageError):
        classroom.grade(ref=ref)
    assert not classroom.canary.exists()


def test_a_ref_file_that_is_a_link_is_not_read(classroom, repository):
    secret = classroom.root / "secret"
    secret.write_text("top-secret\n")
    (repository / ".git" / "refs" / "heads" / "evil").symlink_to(secret)
    with pytest.raises(UsageError) as caught:
        classroom.grade(ref="evil")
    assert "top-secret" not in str(caught.value)


def test_borrowed_objects_are_refused(classroom, repository):
    (repository / ".git" / "objects" / "info" / "alternates").write_text("/somewhere/else\n")
    with pytest.raises(UsageError, match="borrows"):
        classroom.grade(ref="HEAD")


def tree_of(repository, *rows):
    data = b"".join(f"{mode} {name}".encode() + b"\0" + bytes.fromhex(oid) for mode, name, oid in rows)
    path = repository / ".git" / "raw"
    path.write_bytes(data)
    return git(repository, "hash-object", "-t", "tree", "-w", "--literally", str(path))


def commit_of(repository, tree):
    commit = git(repository, "commit-tree", "-m", "x", tree)
    git(repository, "update-ref", "refs/heads/evil", commit)


@pytest.fixture
def plain_repository(classroom):
    git(classroom.student, "init", "-q")
    git(classroom.student, "add", "-A")
    git(classroom.student, "commit", "-q", "-m", "one")
    return classroom.student


def test_trees_that_no_honest_git_writes(classroom, plain_repository):
    repository = plain_repository
    blob = git(repository, "rev-parse", "HEAD:train.py")
    up = repository / ".git" / "up"
    up.write_text("b")
    link = git(repository, "hash-object", "-w", str(up))
    inner = tree_of(repository, ("100644", "escaped", blob))
    trees = {
        "leads out": tree_of(repository, ("40000", "..", inner)),
        "through a link": tree_of(repository, ("120000", "a", link), ("40000", "a", inner)),
        "twice": tree_of(repository, ("100644", "a", blob), ("100644", "a", blob)),
    }
    for tree in trees.values():
        commit_of(repository, tree)
        with pytest.raises(UsageError):
            classroom.grade(ref="evil")
    assert not list(classroom.root.rglob("escaped"))


def test_a_tree_bomb_is_cut_off(classroom, plain_repository):
    repository = plain_repository
    oid, mode = git(repository, "rev-parse", "HEAD:train.py"), "100644"
    for _ in range(9):
        oid = tree_of(repository, *((mode, f"d{number}", oid) for number in range(10)))
        mode = "40000"
    commit_of(repository, oid)
    with pytest.raises(UsageError, match=r"too many files|more than"):
        classroom.grade(ref="evil")


def test_submodules_are_not_fetched(classroom, plain_repository):
    repository = plain_repository
    classroom.write(".gitmodules", '[submodule "s"]\n\tpath = s\n\turl = --upload-pack=touch\n\tupdate = !touch x\n')
    git(repository, "add", "-A")
    head = git(repository, "rev-parse", "HEAD")
    git(repository, "update-index", "--add", "--cacheinfo", f"160000,{head},s")
    git(repository, "commit", "-q", "-m", "two")
    assert classroom.grade(ref="HEAD").status == 0
    assert "left out of the submission: s" in classroom.text


def test_json_of_the_results_holds_no_more_than_the_schema(classroom):
    classroom.grade()
    validate(json.loads(classroom.results_file.read_text()))
