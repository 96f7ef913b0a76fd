"""The handwritten digits that the harness asks a student's server about: PNG files and `labels.csv`."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from pytest_dockerlab import paths
from pytest_dockerlab.data.idx import SIDE, Pixels
from pytest_dockerlab.errors import UsageError

LABELS_FILE = "labels.csv"
MAX_DIGITS = 5_000
MAX_LABELS_BYTES = 512 * 1024
MAX_PNG_BYTES = 64 * 1024  # a 28x28 image takes about 300 bytes


# All that Pillow raises for a file that is broken, or that unpacks to more than it is willing to.
_UNREADABLE = (
    UnidentifiedImageError,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
    OSError,
    SyntaxError,
    ValueError,
)


@dataclass(frozen=True, eq=False)
class Digit:
    """One image and what it shows. The label stays with the judge; only `png` is ever sent."""

    name: str
    label: int
    png: bytes = field(repr=False)
    pixels: Pixels = field(repr=False)  # 28x28, white on black


def pixel_hash(pixels: Pixels) -> str:
    """Return the sha256 of the pixels, row by row: how an image is known again however it was stored."""
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def load_digits(folder: Path | None = None) -> list[Digit]:
    """Return the digits of a folder (default: the 100 that come with this package), in the order of `labels.csv`."""
    folder = paths.bundled("fixtures", "digits") if folder is None else folder
    labels = folder / LABELS_FILE
    table = _text(labels)
    reader = csv.DictReader(io.StringIO(table))
    if not {"file", "label"} <= set(reader.fieldnames or ()):
        raise _broken(labels, "the first line has to name the columns `file` and `label`")
    digits: dict[str, Digit] = {}
    try:
        for row in reader:
            digit = _digit(folder, row["file"], row["label"], f"{labels}, line {reader.line_num}")
            if digit.name in digits:
                raise _broken(labels, f"line {reader.line_num} names {digit.name} a second time")
            digits[digit.name] = digit
            if len(digits) > MAX_DIGITS:
                raise _broken(labels, f"more than {MAX_DIGITS} digits")
    except csv.Error as error:
        raise _broken(labels, f"line {reader.line_num} is not CSV ({error})") from error
    if not digits:
        raise _broken(labels, "it names no digit")
    return list(digits.values())


def _broken(where: Path | str, what: str) -> UsageError:
    return UsageError(
        f"The digits can't be used: {where}: {what}.",
        fix=f"A folder of digits holds {SIDE}x{SIDE} grey PNG files and {LABELS_FILE} with the columns file,label.",
    )


def _bounded(path: Path, limit: int) -> bytes:
    """Return a file's bytes, or fail when it is no plain file or has more than `limit`."""
    try:
        if not path.is_file():
            raise _broken(path, "no such file")
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise _broken(path, error.strerror or type(error).__name__) from error
    if len(data) > limit:
        raise _broken(path, f"more than {limit} bytes")
    return data


def _text(path: Path) -> str:
    try:
        return _bounded(path, MAX_LABELS_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(path, "not UTF-8") from error


def _digit(folder: Path, name: str | None, label: str | None, where: str) -> Digit:
    if not name or name != Path(name).name or "\\" in name or name in (".", ".."):
        raise _broken(where, f"{name!r} is not the plain name of a file in the folder")
    if label is None or label.strip() not in set("0123456789"):
        raise _broken(where, f"the label of {name} is {label!r}, not one of 0 to 9")
    png = _bounded(folder / name, MAX_PNG_BYTES)
    return Digit(name=name, label=int(label), png=png, pixels=_pixels(folder / name, png))


def _pixels(path: Path, png: bytes) -> Pixels:
    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            if image.size != (SIDE, SIDE) or image.mode != "L":  # known from the header, before anything is decoded
                seen = f"{image.width}x{image.height}, mode {image.mode}"
                raise _broken(path, f"{seen}; it has to be {SIDE}x{SIDE}, mode L (8-bit grey)")
            return np.array(image, dtype=np.uint8)
    except _UNREADABLE as error:
        raise _broken(path, "not a readable PNG") from error
