"""Digits that nobody could have prepared for: drawn from a pool, gently transformed, in an order of their own.

What is guaranteed: the same pool and seed give the same pixels, labels and order, on every platform and with every
version of Python, numpy and Pillow. So a regrade repeats, and another student's digits differ. Three things see to it:
the random numbers are HMAC-SHA256 in counter mode, and not a library's generator; the geometry is integer arithmetic,
with sines rounded to 16 bits; and Pillow only packs the pixels into PNG files. (The bytes of a file may differ with the
version of zlib; the pixels don't.)

No picture is one of the pool: each is shifted by an eighth of a pixel at least, so a table of known files or pixels
answers nothing. The changes are small because models that were trained without augmentation, as most are, do not
bear more: MNIST's digits are centred by their mass. Measured with the PyTorch example's network after two epochs on
4,900 digits, and with a perceptron (784-128-10), each right for 97 % of the pool:

| change | network | perceptron |
| --- | --- | --- |
| shift of one or two pixels, turn of 8 degrees | 70 % | 61 % |
| shift of one pixel at most, turn of 5 degrees | 87 % | 82 % |
| shift of half a pixel, turn of 5 degrees, half thicker or thinner | 94 % | 93 % |
| what is done here | 96 % | 94 % |
"""

from __future__ import annotations

import hashlib
import hmac
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from pytest_dockerlab.errors import UsageError

Pixels = NDArray[np.uint8]
T = TypeVar("T")

SIDE = 28
MAX_SHIFT = 2  # eighths of a pixel
MAX_DEGREES = 5
ONE = 1 << 16  # fixed point
AGAIN = 5  # how many are asked twice
PROBES = ("inverted", "transposed")


class Source(Protocol):
    """A digit of the pool: `data.digits.Digit`."""

    @property
    def name(self) -> str: ...
    @property
    def label(self) -> int: ...
    @property
    def pixels(self) -> Pixels: ...


@dataclass(frozen=True, eq=False)
class Question:
    """One picture to ask. Only `png` is sent; the label, and where the picture comes from, stay with the judge."""

    name: str  # `q07`: says nothing of what it shows
    label: int
    png: bytes = field(repr=False)
    pixels: Pixels = field(repr=False)
    source: str = ""  # the digit of the pool
    change: str = ""  # what was done to it, for the evidence: `shift +1/8,-2/8, turn 5°, thicker`


class Stream:
    """Random numbers that are the same everywhere and for ever: HMAC-SHA256 of a counter."""

    def __init__(self, seed: str) -> None:
        """Start at the beginning of the seed's numbers."""
        self._key = hashlib.sha256(seed.encode()).digest()
        self._count = 0

    def below(self, limit: int) -> int:
        """Return a number from 0 to `limit` - 1, each as likely."""
        span = (1 << 64) // limit * limit
        while True:
            self._count += 1
            digest = hmac.new(self._key, self._count.to_bytes(8, "big"), hashlib.sha256).digest()
            number = int.from_bytes(digest[:8], "big")
            if number < span:
                return number % limit

    def between(self, low: int, high: int) -> int:
        """Return a number from `low` to `high`, both included."""
        return low + self.below(high - low + 1)

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """Return the items in a random order (Fisher-Yates)."""
        out = list(items)
        for last in range(len(out) - 1, 0, -1):
            other = self.below(last + 1)
            out[last], out[other] = out[other], out[last]
        return out


def seed_of(secret: str, submission_sha256: str) -> str:
    """Return the seed of one submission: without the secret nobody can tell the digits beforehand."""
    return hmac.new(secret.encode(), submission_sha256.encode(), hashlib.sha256).hexdigest()


def draw(pool: Sequence[Source], seed: str, count: int = 50) -> list[Question]:
    """Return `count` questions, as many of each digit as can be, shuffled. Raises `UsageError` for a poor pool."""
    stream = Stream("draw:" + seed)
    by_label: dict[int, list[Source]] = {label: [] for label in range(10)}
    for digit in sorted(pool, key=lambda one: one.name):  # not the order of a folder
        by_label[digit.label].append(digit)
    missing = [str(label) for label, digits in by_label.items() if not digits]
    if missing:
        raise UsageError(f"The pool of digits has no {', '.join(missing)}.", fix="Give some pictures of every digit.")
    each, left = divmod(count, 10)
    extra = set(stream.shuffled(range(10))[:left])
    chosen: list[Source] = []
    for label in range(10):
        wanted = each + (label in extra)
        digits: list[Source] = []
        while len(digits) < wanted:  # a small pool's digits come again, transformed in another way
            digits += stream.shuffled(by_label[label])
        chosen += digits[:wanted]
    questions = []
    for number, digit in enumerate(stream.shuffled(chosen)):
        pixels, change = transform(digit.pixels, stream)
        questions.append(Question(f"q{number:02d}", digit.label, to_png(pixels), pixels, digit.name, change))
    return questions


def again(questions: Sequence[Question], seed: str, count: int = AGAIN) -> list[Question]:
    """Return some of the questions once more, in other bytes and another order: same pixels, so the same answer."""
    stream = Stream("again:" + seed)
    return [
        Question(f"again:{one.name}", one.label, to_png(one.pixels, stream.below(1 << 60)), one.pixels, one.source)
        for one in stream.shuffled(questions)[:count]
    ]


def probes(questions: Sequence[Question], kind: str, count: int = 20) -> list[Question]:
    """Return questions whose pictures are inverted or transposed: asked only where too few answers were right.

    A server that is right for these was written for pictures of another kind; the verdict then says so.
    """
    if kind not in PROBES:
        raise ValueError(f"{kind!r} is not one of {PROBES}")
    picked: list[Question] = []
    for label in range(10):
        picked += [one for one in questions if one.label == label][: max(1, count // 10)]
    out = []
    for one in picked[:count]:
        pixels = 255 - one.pixels if kind == "inverted" else np.ascontiguousarray(one.pixels.T)
        out.append(Question(f"{kind}:{one.name}", one.label, to_png(pixels), pixels, one.source, kind))
    return out


def transform(pixels: Pixels, stream: Stream) -> tuple[Pixels, str]:
    """Return a gently changed picture, and what was done."""
    degrees = stream.between(-MAX_DEGREES, MAX_DEGREES)
    shifts = [
        (dx, dy) for dx in range(-MAX_SHIFT, MAX_SHIFT + 1) for dy in range(-MAX_SHIFT, MAX_SHIFT + 1) if dx or dy
    ]
    dx, dy = shifts[stream.below(len(shifts))]
    weight = stream.between(-1, 1)
    out = thicken(turn_and_shift(pixels, degrees, dx, dy), weight)
    return out, f"shift {dx:+d}/8,{dy:+d}/8, turn {degrees}°{('', ', thicker', ', thinner')[weight]}"


def turn_and_shift(pixels: Pixels, degrees: int, dx: int, dy: int) -> Pixels:
    """Turn around the middle and shift by `dx`, `dy` eighths of a pixel: bilinear, in fixed point, black around it."""
    sine, cosine = (round(f(math.radians(degrees)) * ONE) for f in (math.sin, math.cos))
    middle = (SIDE - 1) * ONE // 2
    padded = np.zeros((SIDE + 2, SIDE + 2), dtype=np.int64)
    padded[1:-1, 1:-1] = pixels
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.int64)
    y, x = rows * ONE - middle - dy * (ONE // 8), columns * ONE - middle - dx * (ONE // 8)
    from_y = ((cosine * y - sine * x) >> 16) + middle
    from_x = ((sine * y + cosine * x) >> 16) + middle
    top, left = from_y >> 16, from_x >> 16
    low, right = from_y & (ONE - 1), from_x & (ONE - 1)

    def at(row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.int64]:
        # Clipped into the black frame of one pixel.
        return padded[np.clip(row + 1, 0, SIDE + 1), np.clip(column + 1, 0, SIDE + 1)]

    upper = at(top, left) * (ONE - right) + at(top, left + 1) * right
    lower = at(top + 1, left) * (ONE - right) + at(top + 1, left + 1) * right
    total: NDArray[np.int64] = upper * (ONE - low) + lower * low
    return ((total + (1 << 31)) >> 32).astype(np.uint8)


def thicken(pixels: Pixels, weight: int) -> Pixels:
    """Return the strokes a little thicker (1) or thinner (-1), by a quarter of a pixel; 0 leaves them as they are."""
    if weight == 0:
        return pixels
    wide = np.pad(pixels.astype(np.int64), 1)
    around = np.stack([wide[1:-1, 1:-1], wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]])
    edge: NDArray[np.int64] = around.max(axis=0) if weight > 0 else around.min(axis=0)
    changed: NDArray[np.int64] = (3 * around[0] + edge) // 4
    return changed.astype(np.uint8)


def to_png(pixels: Pixels, nonce: int | None = None) -> bytes:
    """Return a PNG file; a nonce makes a file of other bytes with the same pixels."""
    notes = PngImagePlugin.PngInfo()
    if nonce is not None:
        notes.add_text("Comment", f"{nonce:015x}")
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG", pnginfo=notes, compress_level=9 if nonce is None else 1)
    return out.getvalue()
