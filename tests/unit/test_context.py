"""The clean build context: what is in it, what is left out, and when it is refused."""

from __future__ import annotations

import hashlib
import os
import socket
import tarfile

import pytest

from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.context import MTIME, make_context, tar_of, walk
from pytest_dockerlab.errors import StudentError


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "student"
    root.mkdir()
    (root / "Dockerfile").write_text("FROM x\n")
    return root


@pytest.fixture
def make(root, tmp_path):
    def make(folder=".", dockerfile="Dockerfile", extra=None, exclude=frozenset(), **limits):
        return make_context(root, folder, dockerfile, tmp_path / "c.tar", Limits(**limits), extra, exclude)

    return make


def write(root, name, text="x"):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def members(context):
    with tarfile.open(context.tar) as tar:
        return {member.name: member for member in tar}


def test_what_it_says_of_itself(root, make):
    write(root, "src/train.py", "abc")
    context = make()
    assert sorted(members(context)) == ["Dockerfile", "src/train.py"]
    assert (context.files, context.bytes, context.left_out) == (2, 10, ())
    assert context.sha256 == hashlib.sha256(context.tar.read_bytes()).hexdigest()


def test_the_same_content_has_the_same_hash(root, make):
    path = write(root, "b.py")
    write(root, "a.py")
    first = make().sha256
    os.utime(path, (1, 1))
    path.chmod(0o600)
    assert make().sha256 == first
    path.chmod(0o700)
    assert make().sha256 != first  # executable or not is content
    path.chmod(0o600)
    path.write_text("y")
    assert make().sha256 != first


def test_owner_time_and_mode_are_ours(root, make):
    write(root, "run.sh").chmod(0o4777)
    member = members(make())["run.sh"]
    assert (member.uid, member.gid, member.uname, member.mtime, member.mode) == (0, 0, "", MTIME, 0o755)


@pytest.mark.parametrize(
    "name", [".git/config", "a/__pycache__/x.pyc", ".pytest_cache/v", "venv/lib/x.py", ".ipynb_checkpoints/n"]
)
def test_what_is_no_part_of_a_hand_in(root, make, name):
    write(root, "venv/pyvenv.cfg")
    write(root, name)
    assert list(members(make())) == ["Dockerfile"]


def test_dockerignore(root, make):
    for name in ("data/a", "data/keep", "x.log", "deep/y.log", "train.py"):
        write(root, name)
    write(root, ".dockerignore", "# comment\n\ndata\n!data/keep\n**/*.log\nDockerfile\n")
    assert sorted(members(make())) == [".dockerignore", "Dockerfile", "data/keep", "train.py"]


def test_the_dockerfiles_own_dockerignore_comes_first(root, make):
    write(root, "a")
    write(root, "b")
    write(root, ".dockerignore", "a\n")
    write(root, "Dockerfile.dockerignore", "b\n")
    assert "a" in members(make())
    assert "b" not in members(make())


def test_a_dockerignore_that_is_a_link_is_not_read(root, make, tmp_path):
    (tmp_path / "outside").write_text("*\n")
    (root / ".dockerignore").symlink_to(tmp_path / "outside")
    context = make()
    assert list(members(context)) == ["Dockerfile"]
    assert context.left_out == (".dockerignore",)


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "../../etc/passwd", "/"])
def test_links_out_are_left_out_and_named(root, make, target):
    (root / "link").symlink_to(target)
    context = make()
    assert list(members(context)) == ["Dockerfile"]
    assert context.left_out == ("link",)


def test_a_link_through_a_link_is_followed_to_its_end(root, make):
    (root / "up").symlink_to("..")
    (root / "through").symlink_to("up/secret")
    assert set(make().left_out) == {"up", "through"}


def test_links_inside_travel_as_links(root, make):
    write(root, "a.py")
    (root / "b.py").symlink_to("a.py")
    member = members(make())["b.py"]
    assert member.issym()
    assert member.linkname == "a.py"


def test_a_folder_that_is_a_link_is_not_walked(root, make):
    (root / "all").symlink_to("/usr")
    assert list(members(make())) == ["Dockerfile"]


def test_a_circle_of_links_ends(root, make):
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    make()


def test_sockets_and_fifos_are_left_out(root, make, monkeypatch):
    os.mkfifo(root / "fifo")
    monkeypatch.chdir(root)
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("socket")
        assert set(make().left_out) == {"fifo", "socket"}


def test_at_most_twenty_are_named(root, make):
    for number in range(30):
        (root / f"link{number}").symlink_to("/etc/passwd")
    assert len(make().left_out) == 20


def test_too_big_names_the_biggest(root, make):
    write(root, "data/a", "x" * 3000)
    write(root, "data/b", "x" * 3000)
    write(root, "other", "x" * 2000)
    with pytest.raises(StudentError, match=r"most of it is 'data' \(6 kB\)") as caught:
        make(context=4000)
    assert ".dockerignore" in caught.value.fix


def test_a_sparse_file_counts_with_its_size(root, make):
    with (root / "huge").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(StudentError, match="'huge'"):
        make()


def test_too_many_files(root, make):
    for number in range(12):
        write(root, f"f{number}")
    with pytest.raises(StudentError, match="more than 10 files"):
        make(context_files=10)


def test_a_folder_of_the_submission(root, make):
    write(root, "serve/Dockerfile")
    assert list(members(make("serve"))) == ["Dockerfile"]


@pytest.mark.parametrize("folder", ["..", "/etc", "nothing", "Dockerfile"])
def test_a_context_that_is_no_folder_of_the_submission(make, folder):
    with pytest.raises(StudentError, match="no folder of the submission"):
        make(folder)


def test_a_context_through_a_link_out(root, make):
    (root / "out").symlink_to("/etc")
    with pytest.raises(StudentError, match="no folder of the submission"):
        make("out")


def test_files_of_ours_come_over_the_students(root, make, tmp_path):
    write(root, "model.pt", "theirs")
    ours = tmp_path / "artifact.bin"
    ours.write_text("ours!")
    context = make(extra={"model.pt": ours})
    with tarfile.open(context.tar) as tar:
        assert tar.extractfile("model.pt").read() == b"ours!"
    assert context.files == 2


def test_what_is_excluded_is_not_sent(root, make):
    results = write(root, "results.json")
    assert list(members(make(exclude=frozenset({results})))) == ["Dockerfile"]


@pytest.mark.parametrize("name", ["a\nb", "<script>", "\x1b[31mred", "数据", "-rf", "a b", "é" * 60, "x" * 200])
def test_odd_names_travel_as_they_are(root, make, name):
    write(root, name)
    assert name in members(make())


def test_a_name_that_is_no_text(root, make):
    (root / "caf\udce9.py").write_text("x")
    assert "caf\udce9.py" in members(make())


def test_long_paths(root, make):
    name = "/".join(["deep" * 10] * 12) + "/end.py"
    write(root, name)
    assert name in members(make())


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_the_students(root, make):
    write(root, "secret").chmod(0)
    with pytest.raises(StudentError, match="secret can't be read"):
        make()


def test_walk_is_ordered_and_says_the_kind(root):
    write(root, "b/c")
    (root / "a").symlink_to("b")
    assert [(entry.name, entry.kind) for entry in walk(root)] == [
        ("Dockerfile", "file"),
        ("a", "link"),
        ("b/c", "file"),
    ]


def test_tar_of():
    import io

    with tarfile.open(fileobj=io.BytesIO(tar_of({"a/b": b"1", "c": b""}))) as tar:
        assert {member.name: member.size for member in tar} == {"a/b": 1, "c": 0}
