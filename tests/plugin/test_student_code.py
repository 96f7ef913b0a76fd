"""No student Python runs on the host, and nothing of theirs tells pytest what to do."""

from __future__ import annotations

import pytest

EVIL = "import pathlib\npathlib.Path({mark!r}).write_text('ran')\n"


@pytest.fixture
def mark(lab):
    return lab.root / "ran"


def in_repo(lab, monkeypatch, *args):
    monkeypatch.chdir(lab.submission)
    return lab.run(*args)


@pytest.mark.parametrize(
    "name", ["conftest.py", "tests/conftest.py", "test_mine.py", "pytest_dockerlab.py", "pluggy.py"]
)
def test_python_of_the_submission_is_not_imported(lab, mark, monkeypatch, name):
    lab.write(name, EVIL.format(mark=str(mark)))
    in_repo(lab, monkeypatch)
    assert not mark.exists()
    assert lab.results["score"] == 100


def test_a_conftest_cannot_turn_a_failure_into_a_pass(lab, monkeypatch):
    lab.write(
        "conftest.py",
        "import pytest\n"
        "@pytest.hookimpl(hookwrapper=True)\n"
        "def pytest_runtest_makereport(item, call):\n"
        "    outcome = yield\n"
        "    outcome.get_result().outcome = 'passed'\n",
    )
    lab.write("Dockerfile", "")
    result = in_repo(lab, monkeypatch)
    assert result.ret == 1
    assert lab.results["score"] == 0
