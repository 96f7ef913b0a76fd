"""The folder that everybody shares, with somebody in it who means harm."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.gpu import FakeInventory, acquire, locks, parse
from pytest_dockerlab.gpu.lease import _parse_holder

UUID = "GPU-fake-0000"
root_only = pytest.mark.skipif(os.getuid() != 0, reason="needs to become another user")


def take(folder, choice="0", seconds=5.0):
    return acquire(parse(choice), FakeInventory.of(1), Deadline.after(seconds), lambda _: None, folder=folder)


def test_the_folder_is_the_same_for_all_users_and_can_be_moved(monkeypatch, tmp_path):
    monkeypatch.delenv("DOCKERLAB_LOCKS", raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path))
    assert locks.gpu_folder() == Path("/tmp/dockerlab-locks/gpu")
    monkeypatch.setenv("DOCKERLAB_LOCKS", str(tmp_path / "here"))
    assert locks.gpu_folder() == tmp_path / "here" / "gpu"


def test_the_folder_is_made_sticky_and_files_are_lockable_by_all_whatever_the_umask(tmp_path):
    folder = tmp_path / "not" / "yet" / "gpu"
    old = os.umask(0o077)
    try:
        with take(folder):
            pass
    finally:
        os.umask(old)
    for path in (folder, folder.parent):
        assert stat.S_IMODE(path.stat().st_mode) == 0o1777
    assert stat.S_IMODE((folder / f"{UUID}.lock").stat().st_mode) == 0o666


def test_a_private_folder_of_ours_will_do(tmp_path):
    (tmp_path / "gpu").mkdir(0o700)
    with take(tmp_path / "gpu") as lease:
        assert lease.uuids == (UUID,)


@pytest.mark.parametrize("choice", ["auto", "0"])
@pytest.mark.parametrize("level", ["outer", "inner"])
def test_a_link_in_the_folder_s_place_is_refused(tmp_path, level, choice):
    target = tmp_path / "victim"
    (target / "gpu").mkdir(parents=True)
    folder = tmp_path / "locks" / "gpu"
    if level == "outer":
        (tmp_path / "locks").symlink_to(target)
    else:
        folder.parent.mkdir()
        folder.symlink_to(target)
    with pytest.raises(GpuUnavailable, match="link") as caught, take(folder, choice):
        pass
    assert "DOCKERLAB_LOCKS" in caught.value.fix
    assert list((target / "gpu").iterdir()) == []


def test_a_folder_where_all_may_remove_each_other_s_files_is_refused(tmp_path):
    folder = tmp_path / "locks" / "gpu"
    folder.mkdir(parents=True)
    folder.chmod(0o777)
    with pytest.raises(GpuUnavailable, match="sticky"), take(folder):
        pass


@pytest.mark.parametrize("name", ["gate", f"{UUID}.lock"])
@pytest.mark.parametrize("kind", ["link", "hard link", "pipe", "folder", "dangling link"])
def test_what_lies_in_a_lock_file_s_place_is_refused_and_not_touched(tmp_path, name, kind):
    folder = tmp_path / "locks" / "gpu"
    with take(folder):
        pass
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place = folder / name
    place.unlink()
    match kind:
        case "link":
            place.symlink_to(victim)
        case "dangling link":
            place.symlink_to(tmp_path / "new")
        case "hard link":
            place.hardlink_to(victim)
        case "pipe":
            os.mkfifo(place)
        case "folder":
            place.mkdir()
    with pytest.raises(GpuUnavailable, match=name), take(folder):
        pass
    assert victim.read_text() == "precious"
    assert not (tmp_path / "new").exists()


def test_a_ticket_that_is_a_pipe_or_a_link_stops_nobody(tmp_path):
    folder = tmp_path / "locks" / "gpu"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "ticket-000000000001-1-aa")
    (folder / "ticket-000000000002-1-bb").symlink_to("/etc/passwd")
    (folder / "ticket-junk").write_text("x")
    with take(folder) as lease:
        assert lease.uuids == (UUID,)


def test_a_gate_that_somebody_keeps_shut_ends_with_the_deadline(tmp_path):
    folder = tmp_path / "locks" / "gpu"
    with (
        locks.gate(folder, Deadline.after(5)),
        pytest.raises(GpuUnavailable, match="gate"),
        take(folder, seconds=0.2),
    ):
        pass


def test_a_full_disk_is_infra(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(GpuUnavailable, match="No space left"), take(tmp_path / "locks" / "gpu"):
        pass


@pytest.mark.parametrize(
    "text",
    ["", "null", "[]", "{}", '{"pid": "x", "run": "", "user": "", "since": 0}', "[" * 3000, "\x00\xff",
     '{"pid": 1, "run": "", "user": "", "since": Infinity}', '{"pid": 1, "run": "", "user": "", "since": NaN}'],
)  # fmt: skip
def test_a_lock_file_that_says_nonsense_names_nobody(text):
    assert _parse_holder(text) is None


def test_what_a_lock_file_says_reaches_the_terminal_as_plain_bounded_text():
    holder = _parse_holder('{"pid": 7, "run": "\\u001b[31mred\\n::error::", "user": "%s", "since": 0}' % ("u" * 999))
    assert "\x1b" not in str(holder)
    assert "\n" not in str(holder)
    assert len(str(holder)) < 300


@root_only
@pytest.mark.parametrize("first", ["root", "other"])
def test_users_share_the_folder_and_exclude_each_other(tmp_path, first):
    for path in (tmp_path, *tmp_path.parents[:3]):  # pytest's own folders are private
        if path != Path("/tmp"):
            path.chmod(path.stat().st_mode | 0o011)
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    folder = shared / "locks" / "gpu"
    code = (
        "import sys; from pathlib import Path; from pytest_dockerlab.deadline import Deadline\n"
        "from pytest_dockerlab.gpu import FakeInventory, acquire, parse\n"
        "import os; os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"  # after the imports: ours may be private
        "with acquire(parse('auto'), FakeInventory.of(1), Deadline.after(0.3), print, folder=Path(sys.argv[1])) as l:\n"
        "    print(l.uuids if l else 'cpu')\n"
    )

    def other():
        done = subprocess.run(
            [sys.executable, "-c", code, str(folder)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    if first == "other":
        assert UUID in other()
    with take(folder) as lease:
        assert lease.uuids == (UUID,)
        assert f"pid {os.getpid()}" in other()
    assert UUID in other()
