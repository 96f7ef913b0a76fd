"""What can't be graded at all: one clear message, exit status 4, no traceback."""

from __future__ import annotations

import os

import pytest

USAGE = pytest.ExitCode.USAGE_ERROR


def refused(lab, *args, says):
    result = lab.run(*args)
    said = result.stderr.str()
    assert result.ret == USAGE, result.stdout.str()
    for words in says:
        assert words in said
    assert "Traceback" not in said + result.stdout.str()
    assert lab.engine.calls == []
    return result


def test_a_path_that_is_not_there(lab):
    lab.submission = lab.root / "nobody"
    refused(lab, says=["does not exist", "nobody"])


def test_a_file(lab):
    lab.submission = lab.write("Dockerfile", "FROM x\n")
    refused(lab, says=["is a file, not a folder", "unpack"])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read(lab):
    lab.submission.chmod(0o000)
    try:
        refused(lab, says=["can't be read", "chmod"])
    finally:
        lab.submission.chmod(0o755)


def test_a_folder_that_cannot_be_read_by_anyone(lab, monkeypatch):
    # As root sees it: the permission check is asked, and says no.
    monkeypatch.setattr("pytest_dockerlab.submission.os.access", lambda *_: False)
    refused(lab, says=["can't be read", "chmod"])


def test_an_empty_folder_fails_its_first_check(lab):
    for path in lab.submission.iterdir():
        path.unlink()
    result = lab.run()
    assert result.ret == 1
    assert lab.results["score"] == 0
    assert lab.outcomes["dockerfile"] == "failed"
    assert lab.outcomes["artifact"] == "blocked"
    result.stdout.fnmatch_lines(["*The folder is empty.*"])


def test_over_the_size_limit(lab):
    lab.assignment(extra='[limits]\ncontext = "1KiB"\n')
    lab.write("data/big.bin", "x" * 5000)
    result = lab.run()
    assert result.ret == 1
    assert lab.outcomes["build"] == "failed"
    result.stdout.fnmatch_lines(["*more than the 1 kB allowed; most of it is 'data'*"])
    assert "build" not in lab.engine.calls


def test_what_dockerignore_leaves_out_is_not_counted(lab):
    lab.assignment(extra='[limits]\ncontext = "1KiB"\n')
    lab.write("data/big.bin", "x" * 5000)
    lab.write(".dockerignore", "data\n")
    assert lab.run().ret == 0


def test_too_many_files(lab):
    lab.assignment(extra="[limits]\ncontext_files = 3\n")
    for number in range(5):
        lab.write(f"more/{number}", "")
    lab.run()
    assert lab.outcomes["build"] == "failed"
    assert "more than 3 files" in str(lab.results["checks"])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("assignment = ", ["dockerlab.toml", "no valid TOML"]),
        ("asignment = 'tiny'", ["dockerlab.toml", "asignment", "allowed here: assignment, serve, train"]),
        ("[train]\ndockerfile = '../../etc/passwd'", ["train.dockerfile", "inside the submission"]),
        ("[serve]\nserver = 'iis'", ["serve.server", "'torchserve', 'triton' or 'http'"]),
        ("[serve]\nport = 99999", ["serve.port", "at most 65535"]),
        ("[train]\nepochs = 3", ["train.epochs", "context, dockerfile"]),
        ("points = 100", ["points"]),
    ],
)
def test_a_broken_dockerlab_toml(lab, text, says):
    lab.write("dockerlab.toml", text)
    refused(lab, says=says)


def test_a_dockerlab_toml_that_is_no_text(lab):
    (lab.submission / "dockerlab.toml").write_bytes(b"assignment = '\xff\xfe'")
    refused(lab, says=["not UTF-8"])


def test_a_dockerlab_toml_that_is_huge(lab):
    lab.write("dockerlab.toml", "# x\n" * 100_000)
    refused(lab, says=["32 KiB"])


def test_no_assignment_is_named(lab):
    result = lab.run("--dockerlab-submission", lab.submission, named=False)
    assert result.ret == USAGE
    assert "No assignment was named" in result.stderr.str()
    assert "--dockerlab-assignment" in result.stderr.str()


def test_an_unknown_assignment(lab):
    result = lab.run("--dockerlab-submission", lab.submission, "--dockerlab-assignment", "mnits", named=False)
    assert result.ret == USAGE
    assert "no assignment 'mnits'" in result.stderr.str()
    assert "mnist" in result.stderr.str()
    assert "Traceback" not in result.stderr.str()


def test_a_broken_assignment(lab):
    lab.assignment(extra="[predict]\nimages = 20\nmin_correct = 30\n[limits]\nmemory = '1'\n")
    result = lab.run()
    assert result.ret == USAGE
    said = result.stderr.str()
    assert "min_correct (30) is more than images (20)" in said
    assert "128" in said
    assert "assignment.toml" in said


def test_the_submission_names_its_assignment(lab, monkeypatch):
    from pytest_dockerlab import paths

    monkeypatch.setattr(paths, "bundled", lambda *parts: lab.root.joinpath(*parts))
    lab.write("dockerlab.toml", "assignment = 'tiny'\n")
    assert lab.run("--dockerlab-submission", lab.submission, named=False).ret == 0


def test_the_nearest_folder_with_a_dockerlab_toml_is_the_submission(lab, monkeypatch):
    lab.write("dockerlab.toml", "")
    lab.write("serve/notes.txt", "")
    monkeypatch.chdir(lab.submission / "serve")
    result = lab.run("--dockerlab-assignment", lab.assignment_folder, "--rootdir", lab.submission, named=False)
    assert result.ret == 0
    result.stdout.fnmatch_lines([f"dockerlab: tiny <- {lab.submission}"])
