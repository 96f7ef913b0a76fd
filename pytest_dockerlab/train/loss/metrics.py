"""Metrics files that a run left: more exact than a log, and written by the framework itself.

In order of trust: JSON lines (`metrics.jsonl`), CSV loggers (`lightning_logs/version_*/metrics.csv`), the
`trainer_state.json` of Transformers, TensorBoard's event files. The first kind that holds a training loss counts; of
several files of one kind the last, by the numbers in its path, is the last run.

A student wrote these files: they are data, read with bounds, and nothing in them makes this raise.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import PurePosixPath
from typing import Any

from pytest_dockerlab.facts import LossCurve, Series
from pytest_dockerlab.train.loss.choice import Key, Stores
from pytest_dockerlab.train.loss.store import Reading
from pytest_dockerlab.train.loss.words import column_meaning

MAX_FILE = 64 * 1024 * 1024  # bytes read of one file
_MAX_ROWS = 5_000_000
_MAX_CELL = 64
_FEW = 5  # a file with fewer training losses than this yields to a log that has more
_STEPS = ("step", "global_step", "iteration", "iter", "batch")
_EPOCHS = ("epoch", "epochs")
Row = Mapping[str, Any]


def is_metrics_file(path: str) -> bool:
    """Whether a file's name says that a logger wrote it."""
    return any(fits(path) for fits, _ in _KINDS)


def read_metrics(files: Mapping[str, bytes]) -> LossCurve | None:
    """Return the curve of the most trusted file that holds a training loss, else one that holds any loss."""
    spare: LossCurve | None = None
    for fits, read in _KINDS:
        for path in sorted(filter(fits, files), key=_natural, reverse=True):
            curve = read(path, files[path][:MAX_FILE])
            if curve is None:
                continue
            if curve.values(Series.TRAIN):
                return curve
            if spare is None or (curve.points and not spare.points):
                spare = curve
    return spare


def best_curve(files: Mapping[str, bytes], log_curve: LossCurve) -> LossCurve:
    """Return the files' curve where it tells the training loss, else the log's.

    Loggers write seldom: Lightning's default is every 50 steps, nothing at all in a short run. A file with fewer than
    five training losses therefore yields to a log with more. What the log claims is kept either way.
    """
    found = read_metrics(files)
    if found is None:
        return log_curve
    in_file, in_log = len(found.values(Series.TRAIN)), len(log_curve.values(Series.TRAIN))
    if (in_file < _FEW and in_log > in_file) or (not found.points and log_curve.points):
        return log_curve
    return replace(
        found,
        near_misses=(*log_curve.near_misses, *found.near_misses)[:5],
        claimed_accuracy=log_curve.claimed_accuracy,
        claimed_epochs=log_curve.claimed_epochs or found.claimed_epochs,
    )


def _jsonl(path: str, data: bytes) -> LossCurve | None:
    return _curve(_json_rows(data), path)


def _csv(path: str, data: bytes) -> LossCurve | None:
    return _curve(_csv_rows(data), path)


def _trainer_state(path: str, data: bytes) -> LossCurve | None:
    try:
        history = json.loads(data)["log_history"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(history, list):
        return None
    return _curve((row for row in history if isinstance(row, dict)), path)


def _events(path: str, data: bytes) -> LossCurve | None:
    try:
        from pytest_dockerlab.train.loss.tfevents import scalars
    except ImportError:
        note = f"{path} was not read: the package `tensorboard` is not installed (pytest-dockerlab[tensorboard])"
        return LossCurve(near_misses=(note,))
    return _curve(scalars(data), path)


def _named(*patterns: str) -> Callable[[str], bool]:
    return lambda path: any(PurePosixPath(path).match(pattern) for pattern in patterns)


_KINDS: tuple[tuple[Callable[[str], bool], Callable[[str, bytes], LossCurve | None]], ...] = (
    (_named("*.jsonl"), _jsonl),
    (_named("*.csv"), _csv),
    (_named("trainer_state.json"), _trainer_state),
    (_named("*.tfevents.*", "*tfevents*"), _events),
)


def _natural(path: str) -> tuple[tuple[int, str], ...]:
    """Order `version_10` behind `version_9`."""
    parts = re.split(r"(\d{1,18})", path)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def _json_rows(data: bytes) -> Iterator[Row]:
    for line in io.BytesIO(data):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(row, dict):
            yield row


def _csv_rows(data: bytes) -> Iterator[Row]:
    text = data.decode("utf-8-sig", "replace").replace("\0", "")
    try:
        for row in csv.DictReader(io.StringIO(text, newline="")):
            yield {key: value for key, value in row.items() if isinstance(key, str)}
    except csv.Error:
        return


def _curve(rows: Iterable[Row], path: str) -> LossCurve | None:
    stores = Stores()
    source = f"file:{PurePosixPath(path).name}"
    meanings: dict[str, Key | None] = {}
    sequence = 0
    last_epoch: float | None = None
    for row in islice(rows, _MAX_ROWS):
        step, epoch = _first(row, _STEPS), _first(row, _EPOCHS)
        last_epoch = epoch if epoch is not None else last_epoch
        for name, value in _flat(row):
            if name not in meanings:
                means = column_meaning(name.encode("utf-8", "replace")) if len(meanings) < 1000 else None
                meanings[name] = Key(source, means, name.encode("utf-8", "replace")) if means else None
            key = meanings[name]
            number = _number(value) if key else None
            if key is not None and number is not None:
                sequence += 1
                at = int(step) if step is not None and abs(step) < 2**53 else None
                stores.get(key).append(Reading(sequence, number, at, epoch, None))
    points, total, chosen = stores.curve_points()
    if chosen is None:
        return None
    epochs = int(last_epoch) + 1 if last_epoch is not None and 0 <= last_epoch < 1e7 else None
    return LossCurve(points, chosen.format, chosen.meaning.name, total, claimed_epochs=epochs)


def _flat(row: Row) -> Iterator[tuple[str, Any]]:
    """Yield the row's values, those of a nested `{"train": {"loss": 0.5}}` under `train/loss`."""
    for name, value in row.items():
        if isinstance(value, dict):
            for inner, deep in value.items():
                if not isinstance(deep, dict):
                    yield f"{name}/{inner}"[:200], deep
        else:
            yield str(name)[:200], value


def _number(value: Any) -> float | None:
    """Return a JSON number or the text of one; `None` for anything else (an empty cell, true)."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and len(value) > _MAX_CELL:
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _first(row: Row, names: tuple[str, ...]) -> float | None:
    """Return the first finite number under one of the names."""
    for name in names:
        number = _number(row.get(name))
        if number is not None and abs(number) < 2**53:
            return number
    return None
