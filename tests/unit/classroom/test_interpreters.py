"""The flags that keep a repository's modules out do so on every Python that this package supports."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_dockerlab.classroom import child


def interpreters() -> list[str]:
    """The Python of this run, and the others that are here."""
    here = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return [sys.executable, *(name for name in (f"python3.{n}" for n in range(10, 15)) if name != here)]


@pytest.mark.parametrize("program", interpreters())
def test_nothing_is_imported_from_the_working_folder_or_the_environment(program, tmp_path):
    found = shutil.which(program)
    usable = found and not subprocess.run([found, "-c", ""], capture_output=True, check=False).returncode
    if not usable:
        pytest.skip(f"{program} is not on this machine")
    canary = tmp_path / "canary"
    evil = f"open({str(canary)!r}, 'w').write('ran')\n"
    student = tmp_path / "student"
    user = tmp_path / "home" / ".local" / "lib" / "python3" / "site-packages"
    for folder in (student, user):
        folder.mkdir(parents=True)
        for name in ("sitecustomize.py", "usercustomize.py", "json.py", "pytest.py", "evil.py"):
            (folder / name).write_text(evil)
        (folder / "evil.pth").write_text(f"import os; {evil}")
    line = child.command(tmp_path, tmp_path, 0, [])
    flags = line[1 : line.index("-m")]
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path / "home"),
        "PYTHONPATH": str(student),
        "PYTHONUSERBASE": str(tmp_path / "home" / ".local"),
        "PYTHONSTARTUP": str(student / "evil.py"),
    }
    for arguments in (["-m", "json.tool", "--help"], ["-m", "evil"]):
        done = subprocess.run([found, *flags, *arguments], cwd=student, env=env, capture_output=True, check=False)
        assert (done.returncode == 0) == (arguments[1] != "evil"), done.stderr
    assert not canary.exists()
    # The control: without our flags the same Python runs what lies there.
    subprocess.run([found, "-m", "evil"], cwd=student, env=env, capture_output=True, check=False)
    assert canary.exists()


def test_the_command_names_everything_that_could_be_looked_up(tmp_path):
    line = child.command(tmp_path, Path("/course/lab"), 7, ["--x"])
    assert line[:2] == [sys.executable, "-I"]
    assert line[line.index("-c") + 1] == str(tmp_path / "pytest.ini")
    assert {"--rootdir=/course/lab", "--confcutdir=/course/lab", "--dockerlab", "no:cacheprovider"} <= set(line)
