"""Reads a training log as it comes and tells its loss curve.

Made for what containers print: bytes in any pieces, frames of progress bars, terminal codes, several programs' output
interleaved, a gigabyte of it. Nothing that it is fed makes it raise, and what it keeps has a bound.

Most lines are no losses, so a batch of lines is first searched for the few byte strings that can make one interesting.
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
from typing import BinaryIO

from pytest_dockerlab.facts import LossCurve, LossPoint, Series
from pytest_dockerlab.train.loss.bars import KerasBars, KerasFrame
from pytest_dockerlab.train.loss.choice import FEW_EPOCHS, Key, Stores
from pytest_dockerlab.train.loss.claims import Claims
from pytest_dockerlab.train.loss.lines import LineSplitter, plain
from pytest_dockerlab.train.loss.near import NearMisses
from pytest_dockerlab.train.loss.plans import ACCURACY_WORDS, Plan, Plans
from pytest_dockerlab.train.loss.store import Reading
from pytest_dockerlab.train.loss.tables import Row, Table, fastai_row

LIVE_POINTS = 256  # the newest readings that one `feed` returns
_READ = 1024 * 1024

# loss in any case, 损失, 误差, 代价, 损失 in GBK
_LOSS = (b"oss", b"OSS", b"\xe6\x8d\x9f", b"\xe8\xaf\xaf\xe5\xb7\xae", b"\xe4\xbb\xa3\xe4\xbb\xb7", b"\xcb\xf0\xca\xa7")
_EPOCH = (b"poch", b"POCH", b"\xe8\xbd\xae")


class LossReader:
    """Feed it a container's output; it tells the readings at once and the whole curve at the end."""

    def __init__(self) -> None:
        """Start with an empty log."""
        self._lines = LineSplitter()
        self._plans = Plans()
        self._stores = Stores()
        self._claims = Claims()
        self._near = NearMisses()
        self._keras = KerasBars()
        self._table: Table | None = None
        self._seq = 0
        self._at_s: float | None = None
        self._live: deque[tuple[Key, Reading]] = deque(maxlen=LIVE_POINTS)

    def feed(self, data: bytes, at_s: float | None = None) -> list[LossPoint]:
        """Read a piece of the log that arrived `at_s` seconds after the start; return the newest readings in it."""
        self._at_s = at_s
        for batch in self._lines.feed(data):
            self._read(batch)
        return self._take_live()

    def finish(self) -> LossCurve:
        """Return the curve of everything that was fed."""
        self._read(self._lines.finish())
        self._live.clear()
        points, total, key = self._stores.curve_points()
        return LossCurve(
            points=points,
            source=f"log:{key.format}" if key else "none",
            name=key.meaning.name if key else None,
            total_points=total,
            near_misses=self._near.lines(),
            claimed_accuracy=self._claims.accuracy,
            claimed_epochs=self._claims.epochs,
        )

    def _take_live(self) -> list[LossPoint]:
        live = [reading.point(key.meaning.series) for key, reading in self._live]
        self._live.clear()
        return live

    def _read(self, batch: list[bytes]) -> None:
        whole = b"\n".join(batch)
        if b"\x1b" in whole:
            whole = plain(whole)
            batch = whole.split(b"\n")
        losses = [needle for needle in _LOSS if needle in whole]
        others = [needle for needle in (*ACCURACY_WORDS, *_EPOCH) if needle in whole]
        lists = b"']" in whole  # fastai prints its rows as lists where there is no terminal
        if not losses and not others and not lists and self._table is None:
            return
        for line in batch:
            for needle in losses:
                if needle in line:
                    self._loss_line(line)
                    break
            else:
                if self._table is not None and self._row(self._table.row(line)):
                    continue
                if lists and line.endswith(b"']") and self._row(fastai_row(line)):
                    continue
                if any(needle in line for needle in others):
                    self._other_line(line)

    def _add(self, key: Key, value: float, epoch: float | None, step: int | None, frame: object = None) -> None:
        self._seq += 1
        reading = Reading(self._seq, value, step, epoch, self._at_s)
        store = self._stores.get(key)
        if frame is None:
            store.append(reading)
        else:
            store.append_frame(reading, frame)
        self._live.append((key, reading))

    def _loss_line(self, line: bytes) -> None:
        plan = self._plans.get(line)
        if plan is None:
            plan = self._plans.make(line)
            if not plan.losses:
                self._no_reading(line)
        if plan.keras and plan.losses:
            self._keras_frame(line, plan, plan.keras)
            return
        if plan.accuracy:
            self._claims.line(line)
        if not plan.losses:
            return
        epoch = float(line[plan.epoch]) if plan.epoch else None
        step = int(line[plan.step]) if plan.step else None
        if epoch is not None:
            self._claims.epoch(epoch)
        frame = (epoch, line[plan.frame]) if plan.frame else None
        for key, span in plan.losses:
            self._add(key, float(line[span]), epoch, step, frame)

    def _no_reading(self, line: bytes) -> None:
        table = Table.header(line)
        if table is not None:
            self._table = table
        else:
            self._near.loss(line)

    def _keras_frame(self, line: bytes, plan: Plan, where: KerasFrame) -> None:
        """Read the losses beside one of Keras' bars."""
        series, frame = self._keras.frame(int(line[where.done]), line[where.total], where.flat)
        for key, span in plan.losses:
            value = float(line[span])
            if series is not None and key.meaning.name == "loss":
                key = key._replace(meaning=key.meaning._replace(series=series))
            self._add(key, value, None if series else self._keras.epoch, None, frame)
            if series is None and key.meaning.series is Series.TRAIN and (self._keras.epoch or 0) <= FEW_EPOCHS:
                self._within_epoch(key.meaning.name, value)
        if plan.accuracy and self._keras.complete:
            self._claims.line(line, series or Series.TRAIN)

    def _within_epoch(self, name: str, mean: float) -> None:
        store = self._stores.within_epochs(name)
        value = self._keras.since_last(name, mean) if store is not None else None
        if store is not None and value is not None:
            store.append(Reading(self._seq, value, None, self._keras.epoch, self._at_s))

    def _row(self, row: Row | None) -> bool:
        if row is None:
            return False
        if row.epoch is not None:
            self._claims.epoch(row.epoch)
        for means, value in row.losses:
            self._add(Key(row.format, means, b"table"), value, row.epoch, row.step)
        return True

    def _other_line(self, line: bytes) -> None:
        self._claims.line(line)
        if self._keras.epoch_line(line) and self._keras.epoch is not None:
            self._claims.epoch(self._keras.epoch)
        else:
            self._near.other(line)


def read_log(source: str | Path | BinaryIO) -> LossCurve:
    """Return the loss curve of a log file, or of a binary stream."""
    reader = LossReader()
    if isinstance(source, (str, Path)):
        with Path(source).open("rb") as stream:
            _pump(stream, reader)
    else:
        _pump(source, reader)
    return reader.finish()


def _pump(stream: BinaryIO, reader: LossReader) -> None:
    while data := stream.read(_READ):
        reader.feed(data)
