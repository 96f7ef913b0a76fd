"""Files of containers: what changed, archives out and in."""

from __future__ import annotations

import io
import tarfile

import pytest

from pytest_dockerlab.context import tar_of
from pytest_dockerlab.engine.fake import FakeFile, FakeProgram
from pytest_dockerlab.errors import InfraError


def test_changes(rig):
    container = rig.ended(
        "mkdir -p /lab/out; echo 1 > /lab/out/model.pt; echo 2 > /etc/hostname2; rm /bin/busybox2 2>/dev/null; :",
        FakeProgram(files={"/lab/out/model.pt": b"1\n", "/etc/hostname2": b"2\n"}),
    )
    changes = dict(rig.engine.changes(container))
    assert changes["/lab"] == "added"
    assert changes["/lab/out"] == "added"
    assert changes["/lab/out/model.pt"] == "added"
    assert changes["/etc/hostname2"] == "added"
    assert changes["/etc"] == "modified"


def test_changes_to_what_the_image_had(rig):
    tag, outcome, _ = rig.build(f"FROM {rig.image}\nCOPY a b /app/\n", {"a": b"old", "b": b"old"})
    assert outcome.ok, outcome.error
    container = rig.ended(
        "echo new > /app/a; rm /app/b", FakeProgram(files={"/app/a": b"new\n"}, deleted=["/app/b"]), image=tag
    )
    changes = dict(rig.engine.changes(container))
    assert changes["/app/a"] == "modified"
    assert changes["/app/b"] == "deleted"
    assert rig.engine.read(container, "/app/b") is None


def test_no_changes(rig):
    assert not [path for path, _ in rig.engine.changes(rig.create("true")) if path.startswith("/app")]


def test_read_a_file(rig, archive_of, content_of):
    container = rig.ended("echo -n 123 > /model.pt", FakeProgram(files={"/model.pt": b"123"}))
    [(name, member)] = archive_of(rig.engine.read(container, "/model.pt")).items()
    assert name == "model.pt"
    assert member.isreg()
    assert content_of(rig.engine.read(container, "/model.pt")) == b"123"


def test_read_a_big_file(rig, content_of):
    container = rig.ended("head -c 5000001 /dev/zero > /big", FakeProgram(files={"/big": bytes(5_000_001)}))
    assert len(content_of(rig.engine.read(container, "/big"))) == 5_000_001


def test_read_a_folder(rig, archive_of):
    container = rig.ended(
        "mkdir -p /out/deep; echo 1 > /out/a; echo 2 > /out/deep/b",
        FakeProgram(files={"/out/a": b"1\n", "/out/deep/b": b"2\n"}),
    )
    found = archive_of(rig.engine.read(container, "/out"))
    assert {name.rstrip("/") for name in found} == {"out", "out/a", "out/deep", "out/deep/b"}
    assert found["out/a"].isreg()


@pytest.mark.podman_lacks("links")
def test_a_link_stays_a_link(rig, archive_of):
    container = rig.ended(
        "ln -s /etc/passwd /model.pt", FakeProgram(files={"/model.pt": FakeFile(kind="link", target="/etc/passwd")})
    )
    [member] = archive_of(rig.engine.read(container, "/model.pt")).values()
    assert member.issym()
    assert member.linkname == "/etc/passwd"


def test_a_fifo_stays_a_fifo(rig, archive_of):
    container = rig.ended("mkfifo /model.pt", FakeProgram(files={"/model.pt": FakeFile(kind="fifo")}))
    [member] = archive_of(rig.engine.read(container, "/model.pt")).values()
    assert member.isfifo()


def test_a_sparse_file_says_its_size_first(rig):
    container = rig.ended(
        "truncate -s 1T /model.pt 2>/dev/null || dd if=/dev/null of=/model.pt bs=1M seek=1048576",
        FakeProgram(files={"/model.pt": FakeFile(size=1 << 40)}, written_bytes=0),
    )
    stream = rig.engine.read(container, "/model.pt")
    head = next(stream)
    while len(head) < 4096:
        head += next(stream)
    stream.close()
    with tarfile.open(fileobj=io.BytesIO(head), mode="r|") as archive:
        assert archive.next().size == 1 << 40


@pytest.mark.parametrize("path", ["/nothing", "/nothing/below", "/etc/nothing"])
def test_read_what_is_not_there(rig, path):
    assert rig.engine.read(rig.create("true"), path) is None


def test_put(rig, content_of):
    container = rig.create("cat /tmp/in.txt", FakeProgram(output=b"from us"))
    rig.engine.put(container, "/", tar_of({"tmp/in.txt": b"from us"}))
    assert content_of(rig.engine.read(container, "/tmp/in.txt")) == b"from us"
    rig.engine.start(container)
    rig.wait(container)
    assert b"".join(rig.engine.output(container)) == b"from us"


def test_put_from_a_file(rig, content_of, tmp_path):
    container = rig.create("true")
    (tmp_path / "in.tar").write_bytes(b"ours" + tar_of({"tmp/in.txt": b"x" * 3_000_000}))
    with (tmp_path / "in.tar").open("rb") as archive:
        archive.seek(4)
        rig.engine.put(container, "/", archive)
    assert content_of(rig.engine.read(container, "/tmp/in.txt")) == b"x" * 3_000_000


def test_many_changes_come_one_by_one(rig):
    container = rig.ended(
        "mkdir /many; cd /many; seq 20000 | xargs touch", FakeProgram(files={f"/many/{n}": b"" for n in range(20_000)})
    )
    rows = rig.engine.changes(container)
    assert iter(rows) is rows
    assert sum(path.startswith("/many/") for path, _ in rows) == 20_000


def test_files_of_a_removed_container(rig):
    container = rig.create("true")
    rig.engine.remove(container)
    with pytest.raises(InfraError):
        rig.engine.changes(container)
