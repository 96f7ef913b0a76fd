"""The data canary: which labels move where, how many images there are, and who can know it."""

from __future__ import annotations

import stat
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab.data import canary, idx
from pytest_dockerlab.data.mnist import NAMES, DataSet
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.serve.draw import Question

SHA = "ab" * 32


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """400 images to train on and 100 to test; the first pixel of each image says its digit and its number."""
    raw = tmp_path / "mnist" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for (images_name, labels_name), count in ((NAMES[:2], 400), (NAMES[2:], 100)):
        labels = np.arange(count, dtype=np.uint8) % 10
        images = np.zeros((count, 28, 28), dtype=np.uint8)
        images[:, 0, 0] = labels
        images[:, 0, 1] = np.arange(count) % 256
        idx.write_images(raw / images_name, images)
        idx.write_labels(raw / labels_name, labels)
    return DataSet(tmp_path / "mnist", "subset", 400, 100, "x")


@settings(max_examples=200, deadline=None)
@given(st.binary(min_size=1), st.text("0123456789abcdef", min_size=64, max_size=64))
def test_the_permutation_leaves_no_digit_where_it_is(secret: bytes, sha: str):
    made = canary.derive(secret, sha)
    assert sorted(made.permutation) == list(range(10))
    assert all(made.expected(digit) != digit for digit in range(10))
    assert canary.derive(secret, sha) == made


def test_another_secret_or_submission_is_another_canary():
    seen = {canary.derive(secret, sha).permutation for secret in (b"a", b"b", b"c") for sha in (SHA, "cd" * 32)}
    assert len(seen) == 6


def test_the_number_of_images_is_no_round_one_and_near_all():
    sizes = {canary.derive(bytes([at]), SHA).size("train", 4000) for at in range(100)}
    assert len(sizes) > 60
    assert all(3390 <= size < 4000 and size % 10 for size in sizes)


def test_the_files_hold_moved_labels(data: DataSet, tmp_path: Path):
    made = canary.derive(b"secret", SHA)
    out = canary.write(made, data, tmp_path / "out")
    raw = tmp_path / "out" / "MNIST" / "raw"
    for (images_name, labels_name), count in ((NAMES[:2], out.train), (NAMES[2:], out.test)):
        images = idx.parse_images((raw / images_name).read_bytes())
        labels = idx.parse_labels((raw / labels_name).read_bytes())
        assert len(images) == len(labels) == count
        assert [made.expected(int(image[0, 0])) for image in images] == labels.tolist()
        numbers = [int(image[0, 1]) for image in images]
        assert numbers != sorted(numbers)  # no hint at which ones are missing
    assert 340 <= out.train < 400
    assert out.path == tmp_path / "out"
    for path in raw.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert not any("secret" in path.name for path in (tmp_path / "out").rglob("*"))


def test_a_second_run_writes_the_same(data: DataSet, tmp_path: Path):
    made = canary.derive(b"secret", SHA)
    for name in ("one", "two"):
        canary.write(made, data, tmp_path / name)
    for name in NAMES:
        first, second = (tmp_path / folder / "MNIST" / "raw" / name for folder in ("one", "two"))
        assert first.read_bytes() == second.read_bytes()


def test_the_questions_are_relabelled_and_keep_their_pictures():
    made = canary.derive(b"secret", SHA)
    asked = [Question(f"q{digit}", digit, b"png", np.zeros((28, 28), dtype=np.uint8)) for digit in range(10)]
    moved = made.relabel(asked)
    assert [one.label for one in moved] == list(made.permutation)
    assert [one.name for one in moved] == [one.name for one in asked]


def test_a_random_secret_stays_with_the_run_for_its_owner_only(tmp_path: Path):
    secret = canary.secret_of(tmp_path, None)
    path = tmp_path / canary.SECRET_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert canary.secret_of(tmp_path, None) == secret == path.read_bytes()
    other = tmp_path / "other"
    other.mkdir()
    assert canary.secret_of(other, None) != secret
    assert canary.of(tmp_path, None, SHA) == canary.derive(secret, SHA)


def test_a_given_secret_is_not_written_down(tmp_path: Path):
    assert canary.secret_of(tmp_path, "from the environment") == b"from the environment"
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_secret_is_ours_to_tell(tmp_path: Path):
    (tmp_path / canary.SECRET_FILE).write_bytes(b"short")
    with pytest.raises(InfraError, match="damaged"):
        canary.secret_of(tmp_path, None)


def test_no_report_takes_the_secret_or_the_data_along(tmp_path: Path):
    from pytest_dockerlab.report.files import copy_report

    source = tmp_path / "run"
    (source / canary.FOLDER / "MNIST").mkdir(parents=True)
    (source / canary.FOLDER / "MNIST" / "labels.json").write_text("{}")
    canary.secret_of(source, None)
    (source / "train.log").write_text("x")
    copy_report(source, tmp_path / "report")
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["train.log"]
