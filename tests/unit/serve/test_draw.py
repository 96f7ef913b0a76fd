"""Digits that cannot be prepared for: the same everywhere for a seed, different for another, and still digits."""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.serve import draw

SEED = draw.seed_of("a secret", "0" * 64)
GOLDEN_LABELS = [7, 6, 5, 1, 0, 7, 9, 8, 8, 2, 9, 0, 2, 3, 6, 4, 5, 3, 1, 4]
GOLDEN_PIXELS = "841a64e6fd9e1910312a74b5225bd82bc14206d0c3262decefa08d69ac354ab0"


@pytest.fixture(scope="module")
def pool():
    return load_digits()


def same(one, other) -> bool:
    return all(
        (a.name, a.label, a.source) == (b.name, b.label, b.source) and np.array_equal(a.pixels, b.pixels)
        for a, b in zip(one, other, strict=True)
    )


def test_five_of_each_digit_in_a_shuffled_order_with_names_that_say_nothing(pool) -> None:
    questions = draw.draw(pool, SEED)
    assert Counter(one.label for one in questions) == dict.fromkeys(range(10), 5)
    labels = [one.label for one in questions]
    assert labels != sorted(labels)
    assert [one.name for one in questions] == [f"q{n:02d}" for n in range(50)]
    assert len({one.source for one in questions}) == 50


def test_the_same_seed_gives_the_same_digits_in_any_order_of_the_pool(pool) -> None:
    assert same(draw.draw(pool, SEED), draw.draw(list(reversed(pool)), SEED))
    assert same(draw.again(draw.draw(pool, SEED), SEED), draw.again(draw.draw(pool, SEED), SEED))


def test_another_secret_or_submission_gives_other_digits(pool) -> None:
    for other in (draw.seed_of("another", "0" * 64), draw.seed_of("a secret", "1" * 64)):
        assert not same(draw.draw(pool, SEED), draw.draw(pool, other))


def test_the_pixels_are_those_that_every_platform_and_version_gives() -> None:
    """Golden: a change of this value is a change of every grade."""

    @dataclass(frozen=True)
    class One:
        name: str
        label: int
        pixels: np.ndarray

    ramp = np.add.outer(np.arange(28), np.arange(28)).astype(np.uint8) * 4
    pool = [One(f"{n}", n % 10, np.roll(ramp, n, axis=0)) for n in range(30)]
    questions = draw.draw(pool, "golden", 20)
    digest = hashlib.sha256(b"".join(one.pixels.tobytes() for one in questions)).hexdigest()
    assert [one.label for one in questions] == GOLDEN_LABELS
    assert digest == GOLDEN_PIXELS


def test_no_picture_is_one_of_the_pool_and_each_file_holds_its_pixels(pool) -> None:
    known = {digit.pixels.tobytes() for digit in pool}
    for one in draw.draw(pool, SEED):
        assert one.pixels.tobytes() not in known
        with Image.open(io.BytesIO(one.png)) as image:
            assert (image.mode, image.size, image.format) == ("L", (28, 28), "PNG")
            assert np.array_equal(np.asarray(image), one.pixels)


def test_a_changed_digit_is_near_to_its_source(pool) -> None:
    sources = {digit.name: digit.pixels.astype(int) for digit in pool}
    for one in draw.draw(pool, SEED):
        source = sources[one.source]
        assert 0.7 < one.pixels.sum() / source.sum() < 1.4
        assert np.corrcoef(one.pixels.ravel(), source.ravel())[0, 1] > 0.85


def test_asked_again_are_the_same_pixels_in_other_bytes(pool) -> None:
    questions = {one.name: one for one in draw.draw(pool, SEED)}
    repeated = draw.again(list(questions.values()), SEED)
    assert len(repeated) == draw.AGAIN
    for one in repeated:
        first = questions[one.name.removeprefix("again:")]
        assert one.png != first.png
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(one.png))), first.pixels)
        assert one.label == first.label


def test_probes_are_inverted_and_transposed(pool) -> None:
    questions = draw.draw(pool, SEED)
    by_name = {one.name: one for one in questions}
    for kind, change in (("inverted", lambda a: 255 - a), ("transposed", lambda a: a.T)):
        asked = draw.probes(questions, kind)
        assert Counter(one.label for one in asked) == dict.fromkeys(range(10), 2)
        for one in asked:
            assert np.array_equal(one.pixels, change(by_name[one.name.partition(":")[2]].pixels))
    with pytest.raises(ValueError, match="sideways"):
        draw.probes(questions, "sideways")


def test_a_small_pool_is_used_more_than_once_and_a_poor_one_is_refused(pool) -> None:
    small = [next(digit for digit in pool if digit.label == label) for label in range(10)]
    questions = draw.draw(small, SEED)
    assert Counter(one.label for one in questions) == dict.fromkeys(range(10), 5)
    with pytest.raises(UsageError, match="no 9"):
        draw.draw([digit for digit in pool if digit.label != 9], SEED)


@pytest.mark.parametrize("count", [10, 13, 100, 137])
def test_any_count_is_spread_over_the_digits(pool, count) -> None:
    spread = Counter(one.label for one in draw.draw(pool, SEED, count))
    assert sum(spread.values()) == count
    assert max(spread.values()) - min(spread.values()) <= 1


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 1000), st.text(max_size=10))
def test_the_stream_stays_within_its_limit(limit, seed) -> None:
    stream = draw.Stream(seed)
    assert all(0 <= stream.below(limit) < limit for _ in range(20))
    assert sorted(stream.shuffled(range(30))) == list(range(30))


def test_nothing_moves_without_a_turn_or_a_shift_and_whole_shifts_are_exact() -> None:
    pixels = np.arange(784, dtype=np.int64).reshape(28, 28).astype(np.uint8)
    assert np.array_equal(draw.turn_and_shift(pixels, 0, 0, 0), pixels)
    moved = draw.turn_and_shift(pixels, 0, 8, -16)  # eighths: one to the right, two up
    assert np.array_equal(moved[:-2, 1:], pixels[2:, :-1])
    assert not moved[-2:].any()
    assert not moved[:, 0].any()
