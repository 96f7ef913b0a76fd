"""The model file comes out of a container: bounded, link-proof, from archives that lie."""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import tarfile
import time
import zipfile

import pytest

from pytest_dockerlab import sandbox
from pytest_dockerlab.artifact import collect
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.engine.fake import FakeEngine, FakeFile, FakeProgram
from pytest_dockerlab.engine.files import ContainerFiles
from pytest_dockerlab.errors import DiskFull, InfraError

LIMIT = 10_000
PATTERNS = ("*.pt", "*.onnx")


def files(engine, container="c", within_s=60, most_bytes=1 << 30):
    return ContainerFiles(engine, container, Deadline.after(within_s), most_bytes)


def model(text="weights"):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", text)
    return buffer.getvalue()


@pytest.fixture
def lab(tmp_path):
    class Lab:
        engine = FakeEngine()
        target = tmp_path / "artifact.bin"

        def run(self, files, image_files=None, workdir="/app", deleted=()):
            config = ImageConfig("", 0, workdir=workdir)
            self.engine.add_image("lab:1", image_files or {}, config)
            self.config = self.engine.image("lab:1")
            self.engine.program("train", FakeProgram(files=files, deleted=deleted))
            spec = sandbox.probe("lab:1", {})
            self.probe = self.engine.create(spec)
            import dataclasses

            self.container = self.engine.create(dataclasses.replace(spec, entrypoint=("train",)))
            assert self.engine.start(self.container) is None
            return self

        def collect(self, limit=LIMIT, most_bytes=1 << 30, **more):
            run = files(self.engine, self.container, most_bytes=most_bytes)
            unused = files(self.engine, self.probe, most_bytes=most_bytes)
            return collect(run, unused, self.config, PATTERNS, limit, self.target, **more)

        def retrieve(self, path, limit=LIMIT):
            return files(self.engine, self.container).retrieve(path, limit, self.target)

    return Lab()


def states(fact):
    return {candidate.path: candidate.state for candidate in fact.candidates}


def test_a_new_model(lab):
    fact = lab.run({"model.pt": model()}).collect()
    assert (fact.path, fact.kind, fact.problem) == ("/app/model.pt", "pytorch-zip", None)
    assert fact.sha256 == hashlib.sha256(model()).hexdigest()
    assert lab.target.read_bytes() == model()
    assert states(fact) == {"/app/model.pt": "new"}


def test_a_model_that_lay_in_the_image_is_none(lab):
    fact = lab.run({}, {"/app/model.pt": model()}).collect()
    assert fact.path is None
    assert states(fact) == {"/app/model.pt": "in_image"}
    assert not lab.target.exists()


def test_a_model_written_again_with_the_same_bytes_is_none(lab):
    fact = lab.run({"model.pt": model()}, {"/app/model.pt": model()}).collect()
    assert fact.path is None
    assert "unchanged" in {candidate.state for candidate in fact.candidates}


def test_a_model_that_was_overwritten_counts(lab):
    fact = lab.run({"model.pt": model("new")}, {"/app/model.pt": model("old")}).collect()
    assert fact.path == "/app/model.pt"
    assert states(fact)["/app/model.pt"] == "changed"


def test_the_earlier_pattern_then_the_nearer_folder_wins(lab):
    fact = lab.run({"/tmp/a.pt": model(), "/app/deep/b.pt": model(), "/app/c.onnx": b"\x08pytorch"}).collect()
    assert fact.path == "/app/deep/b.pt"


@pytest.mark.parametrize("folder", ["/usr/lib/x", "/proc/1", "/sys", "/var/lib/x"])
def test_what_a_package_manager_writes_is_none(lab, folder):
    assert lab.run({f"{folder}/model.pt": model()}).collect().path is None


def test_a_deleted_model_is_none(lab):
    assert lab.run({}, {"/app/model.pt": model()}, deleted=["model.pt"]).collect().path is None


HOSTILE = {
    "link": FakeFile(kind="link", target="/etc/passwd"),
    "hardlink": FakeFile(kind="hardlink", target="etc/passwd"),
    "fifo": FakeFile(kind="fifo"),
    "device": FakeFile(kind="device"),
    "sparse": FakeFile(size=1 << 40),
}


@pytest.mark.parametrize(
    ("kind", "state"),
    [("link", "link"), ("hardlink", "link"), ("fifo", "special"), ("device", "special"), ("sparse", "too_big")],
)
def test_what_is_no_file_is_refused_at_once(lab, kind, state):
    started = time.monotonic()
    fact = lab.run({"model.pt": HOSTILE[kind]}).collect()
    assert fact.path is None
    assert states(fact)["/app/model.pt"] == state
    assert time.monotonic() - started < 2
    assert not lab.target.exists()


def test_an_honest_file_behind_hostile_ones_is_found(lab):
    files = {f"a{number}.pt": entry for number, entry in enumerate(HOSTILE.values())}
    assert lab.run({**files, "z.pt": model()}).collect().path == "/app/z.pt"


def test_exactly_the_limit(lab):
    lab.run({"model.pt": b"x" * LIMIT, "more.pt": b"x" * (LIMIT + 1)})
    assert lab.retrieve("/app/model.pt").state == "file"
    assert lab.retrieve("/app/more.pt").state == "too_big"


def test_an_empty_file(lab):
    assert states(lab.run({"model.pt": b""}).collect()) == {"/app/model.pt": "empty"}


def test_missing(lab):
    assert lab.run({}).retrieve("/app/model.pt").state == "missing"


def test_a_hundred_thousand_files_are_looked_at_within_bounds(lab):
    started = time.monotonic()
    fact = lab.run({f"out/{number}.pt": b"x" for number in range(100_000)}).collect()
    assert len(fact.candidates) <= 60
    assert time.monotonic() - started < 60


@pytest.mark.parametrize("name", ["a\nb.pt", "\x1b[31m.pt", "<script>.pt", "数据.pt", "x" * 250 + ".pt"])
def test_odd_names(lab, name):
    fact = lab.run({name: model()}).collect()
    assert fact.path == f"/app/{name}"


class Lying(FakeEngine):
    """An engine whose archives are what the test says."""

    chunks = ()
    closed = False

    def read(self, container, path):
        def stream():
            try:
                yield from self.chunks
            finally:
                self.closed = True

        return stream()


def lie(*chunks):
    engine = Lying()
    engine.chunks = chunks
    return engine


def header(**fields):
    member = tarfile.TarInfo("model.pt")
    for name, value in fields.items():
        setattr(member, name, value)
    return member.tobuf(tarfile.PAX_FORMAT)


@pytest.mark.parametrize(
    "chunks",
    [(), (b"",), (b"no archive at all" * 100,), (bytes(1024),), (header(size=5)[:300],)],
    ids=["nothing", "empty", "noise", "zeros", "half a header"],
)
def test_archives_that_are_none(chunks, tmp_path):
    assert files(lie(*chunks)).retrieve("/model.pt", LIMIT, tmp_path / "a").state == "missing"


def test_an_archive_that_breaks_off_is_our_fault(tmp_path):
    engine = lie(header(size=5000), b"x" * 100)
    with pytest.raises(InfraError, match="stopped in an archive's middle"):
        files(engine).retrieve("/model.pt", LIMIT, tmp_path / "a")


def test_the_connection_is_closed_when_enough_was_read(tmp_path):
    def endless():
        yield header(size=1 << 40)
        while True:
            yield bytes(1 << 16)

    engine = lie()
    engine.chunks = endless()
    assert files(engine).retrieve("/model.pt", LIMIT, tmp_path / "a").state == "too_big"
    assert engine.closed


def test_a_name_that_climbs_goes_nowhere(tmp_path):
    data = b"evil"
    engine = lie(header(name="../../../tmp/evil", size=len(data)), data.ljust(512, b"\0"), bytes(1024))
    target = tmp_path / "a" / "artifact.bin"
    target.parent.mkdir()
    files(engine).retrieve("/model.pt", LIMIT, target)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["artifact.bin"]


def test_the_deadline_ends_an_archive_without_end(tmp_path):
    def endless():
        yield header(size=LIMIT)
        while True:
            time.sleep(0.01)
            yield b"x"

    engine = lie()
    engine.chunks = endless()
    with pytest.raises(InfraError, match="took more than"):
        files(engine, within_s=0.2).retrieve("/model.pt", LIMIT, tmp_path / "a")
    assert engine.closed


def test_a_full_disk_of_ours_is_our_fault(lab, tmp_path, monkeypatch):
    def full(self, *args, **more):
        raise OSError(errno.ENOSPC, "No space left on device")

    lab.run({"model.pt": model()})
    monkeypatch.setattr(type(tmp_path), "open", full)
    with pytest.raises(DiskFull, match="No room left"):
        lab.retrieve("/app/model.pt")


def test_the_deadline_ends_a_list_without_end():
    engine = FakeEngine()
    engine.changes = lambda _: ((f"/{number}", "added") for number in itertools.count())
    with pytest.raises(InfraError, match="took more than"):
        sum(1 for _ in files(engine, within_s=0.2).changes())


def test_all_candidates_together_are_read_within_bounds(lab, monkeypatch):
    old = {f"/app/{letter}.pt": bytes([number]) * 9000 for number, letter in enumerate("abcdefgh")}
    lab.run({path.removeprefix("/app/"): data for path, data in old.items()}, old)
    found = states(lab.collect(most_bytes=3 * 10_752))  # so much is the archive of 9,000 bytes
    assert list(found.values()) == ["unchanged"] * 3 + ["too_big"] * 5


def test_folders_full_of_holes_are_read_within_bounds(lab):
    lab.run({f"m{number}.pt/x": bytes(LIMIT - 1000) for number in range(50)})
    taken = []
    read = lab.engine.read
    lab.engine.read = lambda *where: (taken.append(len(piece)) or piece for piece in read(*where) or ())
    found = lab.collect(most_bytes=4 * LIMIT)
    assert found.path is None
    assert {one.state for one in found.candidates} == {"folder", "too_big"}
    assert sum(taken) < 5 * LIMIT + 100 * 1024  # a bound is noticed after the piece that passes it


@pytest.mark.parametrize("member", ["folder", "link"])
def test_a_folder_of_folders_is_walked_within_bounds(lab, member):
    entries = {f"m.pt/{number:05}": FakeFile(kind=member, target="x") for number in range(3000)}
    assert lab.run(entries).retrieve("/app/m.pt", 1 << 30).state == "too_big"


def test_whether_there_are_files(lab):
    lab.run({"data/deep/a": b"x"})
    lab.engine.add_image("folders:1", {"/deep/er": FakeFile(kind="folder")})
    folders = lab.engine.create(sandbox.probe("folders:1", {}))
    assert files(lab.engine, lab.container).any_in("/app/data")
    assert not files(lab.engine, lab.container).any_in("/app/nothing")
    assert not files(lab.engine, folders).any_in("/deep")
