"""Reading losses from logs: every format, in any pieces, and nothing that makes it raise or grow."""

from __future__ import annotations

import io
import itertools
import math
import random
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dockerlab.facts import MAX_POINTS, LossCurve, Series
from pytest_dockerlab.train.loss import LossReader, read_log
from pytest_dockerlab.train.loss.lines import MAX_LINE, LineSplitter
from pytest_dockerlab.train.loss.store import Reading, Store, thin


def read(text: str | bytes) -> LossCurve:
    return read_log(io.BytesIO(text.encode() if isinstance(text, str) else text))


def values(text: str | bytes, series: Series = Series.TRAIN) -> list[float]:
    return read(text).values(series)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("loss=0.5", 0.5),
        ("loss: 0.5", 0.5),
        ("Loss 0.5", 0.5),
        ("LOSS : 0.5", 0.5),
        ("train_loss = 5e-1", 0.5),
        ("Training Loss: 5.0E-01", 0.5),
        ("trainLoss: .5", 0.5),
        ("train/loss -> 0.5", 0.5),
        ("loss/train: 0.5", 0.5),
        ("loss (train): 0.5", 0.5),
        ("avg loss is 0.5", 0.5),
        ("Loss after epoch 3: 0.5", 0.5),
        ("[1,  2000] loss: 0.5", 0.5),
        ("Epoch: [0][ 10/391]\tTime 0.1 (0.2)\tLoss 0.5 (0.7)\tAcc@1 10.0 (9.0)", 0.5),
        ("loss: tensor(0.5000, grad_fn=<NllLossBackward0>)", 0.5),
        ("损失: 0.5", 0.5),
        ("训练损失:0.5", 0.5),
        ("平均损失 = 0.5", 0.5),
        ("第 3 轮,损失值为 0.5", 0.5),
        ("loss\uff1a0.5", 0.5),
        ("训练loss\uff1a0.5", 0.5),
        ("2024-01-01 10:00:00,123 - INFO - loss: 0.5", 0.5),
        ("\x1b[32mloss\x1b[0m: \x1b[1m0.5\x1b[0m", 0.5),
        ("{'loss': '0.5', 'grad_norm': '3.1', 'epoch': '0.1'}", 0.5),
        ("{'loss': 0.5, 'epoch': 0.1}", 0.5),
        ('{"step": 3, "train": {"loss": 0.5}}', 0.5),
        ("loss: -0.5", -0.5),
        ("loss: inf", math.inf),
        ("loss: 1e999", math.inf),
        ("loss = -Infinity", -math.inf),
    ],
)
def test_one_line_gives_one_training_loss(line, value):
    assert values(line + "\n") == [value]


def test_nan_is_a_reading():
    assert math.isnan(values("loss: nan\n")[0])
    assert math.isnan(values("loss=NaN,")[0])


@pytest.mark.parametrize(
    "line",
    [
        "using CrossEntropyLoss",
        "loss_weight: 0.5",
        "loss scale: 65536.0",
        "loss_fn=3",
        "lossless 0.5",
        "glossary: 3",
        "best loss: 0.5",
        "best val loss so far 0.5",
        "loss: 12/100",
        "loss: 1.2.3",
        "loss at 10:20:30",
        "Cross entropy loss function 2",
        "saved to loss.png 300 dpi",
    ],
)
def test_numbers_that_are_no_readings(line):
    assert read(line + "\n").points == ()


def test_series_are_kept_apart():
    curve = read("Epoch 1 train_loss: 0.5 val_loss: 0.6 test loss: 0.7\nValidation: loss 0.8 acc 0.9\n")
    assert curve.values(Series.TRAIN) == [0.5]
    assert curve.values(Series.VALIDATION)[0] == 0.6
    assert curve.values(Series.TEST) == [0.7]


@pytest.mark.parametrize("prefix", ["val", "valid", "Validation ", "eval_", "dev ", "验证"])
def test_validation_in_many_words(prefix):
    assert values(f"{prefix}loss: 0.5\n", Series.VALIDATION) == [0.5]


def test_pytorch_example_with_steps_and_epochs():
    curve = read(
        "Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.3\nTrain Epoch: 2 [640/60000 (1%)]\tLoss: 1.422901\n\n"
        "Test set: Average loss: 0.0490, Accuracy: 9837/10000 (98%)\n"
    )
    assert curve.source == "log:pytorch-example"
    train = [point for point in curve.points if point.series is Series.TRAIN]
    assert [(point.value, point.epoch, point.step) for point in train] == [(2.3, 1, 0), (1.422901, 2, 640)]
    assert curve.values(Series.TEST) == [0.049]
    assert curve.claimed_accuracy == pytest.approx(0.9837)
    assert curve.claimed_epochs == 2


def test_the_batches_are_chosen_before_the_mean_of_an_epoch():
    log = ""
    for epoch in range(3):
        log += "".join(f"Epoch {epoch} batch {at} loss: {2 - epoch / 2 - at / 50}\n" for at in range(10))
        log += f"Epoch {epoch} done, average loss: 99\n"
    curve = read(log)
    assert len(curve.values()) == 30
    assert 99 not in curve.values()


def test_the_whole_loss_is_chosen_before_its_parts():
    curve = read("".join(f"cls_loss: {at} box_loss: {at} total_loss: {100 + at}\n" for at in range(10)))
    assert curve.values() == [100 + at for at in range(10)]
    assert curve.name == "total_loss"


def test_lines_that_differ_in_their_text_are_still_one_series():
    names = ["cat", "dog", "cow", "hen", "pig", "ant", "bee", "elk"]
    assert values("".join(f"{name}.jpg loss: {at}.5\n" for at, name in enumerate(names))) == [
        at + 0.5 for at in range(8)
    ]


def test_a_tqdm_bar_is_read_once_a_frame():
    frames = "".join(
        f"\r 50%|#####     | {at}/9 [00:01<00:01, 50.0it/s, loss={2 - at / 10:.2f}]" * 3 for at in range(1, 10)
    )
    curve = read(frames)
    assert curve.source == "log:tqdm"
    assert curve.values() == pytest.approx([2 - at / 10 for at in range(1, 10)])


def test_a_bar_whose_value_never_changes_is_a_constant_loss():
    frames = "".join(f"\r 50%|#####     | {at}/99 [00:01<00:01, 50.0it/s, loss=2.3]" for at in range(99))
    assert set(values(frames)) == {2.3}
    assert len(values(frames)) >= 20


def keras_log(epochs: int) -> str:
    """Return what `fit` prints: the mean of an epoch's batches so far, in three frames an epoch, and `evaluate`."""
    log = ""
    for epoch in range(1, epochs + 1):
        log += f"Epoch {epoch}/{epochs}\n"
        for done in (1, 5, 10):
            log += f"\r{done}/10 ━━━━ 0s 3ms/step - accuracy: 0.5 - loss: {9 - epoch - done / 10:.4f}"
        log += f" - val_loss: {epoch}\n"
    return log + "1/4 ━━━ 0s 3ms/step - accuracy: 0.9 - loss: 7.0\r4/4 ━━━ 0s 3ms/step - accuracy: 0.91 - loss: 7.5\n"


def test_keras_takes_the_last_frame_of_an_epoch_and_evaluate_is_no_training():
    curve = read(keras_log(6))
    assert curve.source == "log:keras"
    assert curve.values() == pytest.approx([7, 6, 5, 4, 3, 2])
    assert curve.values(Series.VALIDATION) == [1, 2, 3, 4, 5, 6]
    assert curve.values(Series.TEST) == [7.5]
    assert curve.claimed_epochs == 6
    assert curve.claimed_accuracy == 0.91


def test_keras_with_few_epochs_is_read_between_the_frames():
    curve = read(keras_log(2))
    # means 7.9, 7.5, 7.0 after 1, 5 and 10 batches: 7.9, then (37.5 - 7.9) / 4, then (70 - 37.5) / 5
    assert curve.values() == pytest.approx([7.9, 7.4, 6.5, 6.9, 6.4, 5.5])
    assert curve.values(Series.TEST) == [7.5]


def test_what_only_resembles_keras_is_read_as_text():
    assert values("1/10 - loss: 0.5 - acc: 0.9\n2/10 - loss: 0.4 - acc: 0.9\n") == [0.5, 0.4]


def test_numbers_padded_to_one_width_are_one_series():
    assert values("".join(f"[1, {at:5d}] loss: {at}.0\n" for at in (5, 10, 1000))) == [5, 10, 1000]


def test_tables():
    assert values("epoch  train_loss  valid_loss  time\n0  2.3  2.2  00:03\n1  1.9  2.0  00:03\n") == [2.3, 1.9]
    assert values("epoch,loss,acc\n1,0.5,0.9\n2,0.4,0.9\n") == [0.5, 0.4]
    assert values("| epoch | train loss |\n|---|---|\n| 1 | 0.5 |\n| 2 | 0.4 |\n") == [0.5, 0.4]


def test_near_misses_are_kept():
    curve = read("Starting\nthe loss was really small, about 0,5\nEpoch 1: 2.3\n")
    assert curve.near_misses[0].startswith("the loss was really small")
    assert "Epoch 1: 2.3" in curve.near_misses


def test_near_misses_hold_no_control_codes():
    curve = read("loss \x1b]0;title\x07 \x9b31m unknown 5\n")
    assert all(char.isprintable() for line in curve.near_misses for char in line)


@pytest.mark.parametrize(
    ("line", "accuracy"),
    [
        ("Accuracy: 9837/10000 (98%)", 0.9837),
        ("acc: 98.3%", 0.983),
        ("val_accuracy: 0.91", 0.91),
        ("准确率:97.5%", 0.975),
        ("accuracy = 97.5", 0.975),
        ("accuracy: 0/0", None),
        ("access: 5", None),
    ],
)
def test_claimed_accuracy(line, accuracy):
    assert read(line + "\n").claimed_accuracy == (None if accuracy is None else pytest.approx(accuracy))


def test_the_test_accuracy_counts_before_the_training_accuracy():
    assert read("test acc: 0.8\ntrain acc: 0.99\n").claimed_accuracy == 0.8


def test_epochs_count_from_zero_or_from_one():
    assert read("Epoch 0 loss 1.5\nEpoch 1 loss 1.4\n").claimed_epochs == 2
    assert read("Epoch 1 loss 1.5\nEpoch 2 loss 1.4\n").claimed_epochs == 2


def test_points_arrive_as_they_are_fed():
    reader = LossReader()
    assert reader.feed(b"loss: 2.", at_s=1.0) == []
    assert [point.value for point in reader.feed(b"5\nloss: 2", at_s=2.0)] == [2.5]
    curve = reader.finish()
    assert [(point.value, point.at_s) for point in curve.points] == [(2.5, 2.0), (2.0, 2.0)]


def test_gbk_is_read():
    assert values("第1轮 训练损失: 0.5\n".encode("gbk")) == [0.5]


LOG = (
    "Train Epoch: 1 [0/60000 (0%)]\tLoss: 2.3\n第 1 轮 损失:0.5\r\n\rEpoch 1/3\n1/2 - 1s - loss: 3.5 - val_loss: 2.5\n"
    "\x1b[1m 3%|█▍  | 3/10 [00:01<00:03, 1.0it/s, loss=0.25]\r{'loss': '1.5', 'epoch': '0.1'}\n"
).encode() + b"\xff\xfe loss: 0.75\n"


@given(st.lists(st.integers(0, len(LOG)), max_size=20))
def test_the_pieces_do_not_matter(cuts):
    whole = read(LOG)
    reader = LossReader()
    edges = [0, *sorted(cuts), len(LOG)]
    for start, end in itertools.pairwise(edges):
        reader.feed(LOG[start:end])
    assert reader.finish() == whole


FRAGMENTS = st.sampled_from(
    [
        *(b"loss", b"Loss: ", b"=", b"0.5", b"nan", b"1e400", b"\r", b"\n", b"\x08", b"\x1b[", b"|", b"%|", b"it/s"),
        *(b"Epoch ", b"1/2", b" - ", b"[", b"{'loss': '", b"{", b'"', b"acc", b"epoch,loss\n", b"1,2\n", b"9" * 400),
        *("损失".encode(), "损失".encode("gbk"), b"\xe6\x8d\x9f", b"\x00", b"Train Epoch: 1 [", b" "),
        b"[1, 2.0, 3.0, '00:00']\n",
    ]
)


@given(st.lists(st.one_of(st.binary(max_size=20), FRAGMENTS), max_size=60))
def test_nothing_makes_it_raise(pieces):
    reader = LossReader()
    for piece in pieces:
        reader.feed(piece)
    curve = reader.finish()
    assert len(curve.points) <= MAX_POINTS
    assert len(curve.near_misses) <= 5
    assert curve.claimed_accuracy is None or 0 <= curve.claimed_accuracy <= 1


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=300))
def test_the_order_and_the_values_are_kept(numbers):
    assert values("".join(f"step {at} loss: {number!r}\n" for at, number in enumerate(numbers))) == numbers


@given(st.integers(0, 20_000), st.integers(0, 3000))
def test_thinning_keeps_order_and_ends(count, most):
    kept = thin(range(count), most)
    assert len(kept) == min(count, most)
    assert kept == sorted(set(kept))
    if most >= 4 and count:
        assert kept[0] == 0
    if most and count:
        assert kept[-1] == count - 1


@given(st.integers(0, 12_000))
def test_a_store_is_bounded_and_even(count):
    store = Store()
    for at in range(count):
        store.append(Reading(at, float(at), None, None, None))
    kept = [reading.seq for reading in store]
    assert store.total == count
    assert len(kept) <= MAX_POINTS
    assert kept == sorted(set(kept))
    if count:
        assert (kept[0], kept[-1]) == (0, count - 1)
        gaps = [later - earlier for earlier, later in itertools.pairwise(kept)]
        assert max(gaps, default=0) <= 2 * max(1, count // 900)


def test_many_points_are_thinned_evenly_over_series():
    rng = random.Random(0)
    reader = LossReader()
    for block in range(20):
        reader.feed(
            b"".join(b"step %d loss: %f val_loss: %f\n" % (block * 1000 + at, rng.random(), 2) for at in range(1000))
        )
    curve = reader.finish()
    assert len(curve.points) <= MAX_POINTS
    assert curve.total_points == 40_000
    assert len(curve.values()) > 1000
    steps = [point.step for point in curve.points]
    assert steps == sorted(steps)


def _held(reader: LossReader) -> int:
    """Return roughly how many bytes an object and everything below it hold."""
    seen: set[int] = set()
    stack: list[object] = [reader]
    total = 0
    while stack:
        item = stack.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        total += sys.getsizeof(item)
        if isinstance(item, dict):
            stack += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple, set)) or type(item).__name__ == "deque":
            stack += list(item)
        elif type(item).__module__.startswith("pytest_dockerlab"):
            stack += [
                getattr(item, name)
                for name in (*getattr(item, "__dict__", {}), *getattr(type(item), "__slots__", ()))
                if hasattr(item, name)
            ]
    return total


@pytest.mark.parametrize(
    "piece",
    [
        pytest.param(b"x" * 65536, id="an endless line"),
        pytest.param(b"loss " * 13000, id="an endless line of losses"),
        pytest.param(b"\r" * 65536, id="carriage returns"),
        pytest.param(b"loss: 0.5 " * 6500, id="an endless line of readings"),
    ],
)
def test_memory_is_bounded(piece):
    reader = LossReader()
    for _ in range(4):
        reader.feed(piece)
    early = _held(reader)
    for _ in range(12):
        reader.feed(piece)
    assert _held(reader) < early + 2_000_000


def test_memory_is_bounded_when_every_line_is_new():
    rng = random.Random(1)
    reader = LossReader()
    for _ in range(10):
        reader.feed(
            b"".join(
                b"%s loss%s: 0.5 acc %s 3\n"
                % (bytes(rng.choices(b"abcdefgh", k=12)), bytes(rng.choices(b"_xyz", k=6)), b"q" * rng.randrange(40))
                for _ in range(2000)
            )
        )
    assert _held(reader) < 20_000_000
    assert reader.finish().total_points <= 20_000


def test_long_lines_come_in_pieces_of_bounded_size():
    splitter = LineSplitter()
    lines = [line for batch in splitter.feed(b"ab " * 20_000 + b"\nend") for line in batch] + splitter.finish()
    assert max(map(len, lines)) <= MAX_LINE
    assert b"".join(lines).replace(b" ", b"") == b"ab" * 20_000 + b"end"
