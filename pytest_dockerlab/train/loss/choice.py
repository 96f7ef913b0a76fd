"""Which of the series that a log holds is *the* loss curve.

A log often tells the training loss several times: per batch, as the mean of an epoch, in parts (`cls_loss`,
`box_loss`), and once more at the end. They must not be mixed: the jump from one kind to the next would read as a fall
or a rise. So readings are kept apart by the print statement they come from, and one statement is chosen:

1. the loss itself before its parts (a part only where nothing else is printed);
2. then the one with the most readings, for a test needs points: per batch before per epoch;
3. the earlier one, where both have the same number.

Where the text around the number differs in every line (a file's name, say) one statement looks like many; readings of
one name are then taken together, in the order in which they came.

Keras' bars show the running mean of an epoch, and the last frame of each epoch is its reading. Where that makes fewer
than `FEW_EPOCHS` readings the means between the frames, worked out from the running means, are taken instead.

Validation and test losses are chosen in the same way, each for itself.
"""

from __future__ import annotations

from typing import NamedTuple

from pytest_dockerlab.facts import MAX_POINTS, LossPoint, Series
from pytest_dockerlab.train.loss.store import Reading, Store, thin
from pytest_dockerlab.train.loss.words import Meaning

MAX_SERIES = 48  # print statements told apart; more are taken together by name
FEW_EPOCHS = 5
_OTHERS = 300  # points kept of validation and of test, each


class Key(NamedTuple):
    """One print statement's loss. `shape` is `None` in the store that takes what is beyond `MAX_SERIES`."""

    format: str
    meaning: Meaning
    shape: bytes | None


class Chosen(NamedTuple):
    """The readings of one series."""

    key: Key
    readings: list[Reading]
    total: int


class Stores:
    """All series of a log, in bounded memory."""

    def __init__(self) -> None:
        """Start empty."""
        self._stores: dict[Key, Store] = {}
        self._within: dict[str, Store] = {}

    def within_epochs(self, name: str) -> Store | None:
        """Return the store for the readings between an epoch's frames of one name."""
        store = self._within.get(name)
        if store is None and len(self._within) < MAX_SERIES:
            store = self._within[name] = Store()
        return store

    def get(self, key: Key) -> Store:
        """Return the store for a key, a shared one when there are too many."""
        store = self._stores.get(key)
        if store is not None:
            return store
        if len(self._stores) >= MAX_SERIES and key.shape is not None:
            return self.get(key._replace(shape=None, meaning=key.meaning._replace(name="loss")))
        store = self._stores[key] = Store()
        return store

    def choose(self, series: Series) -> Chosen | None:
        """Return the series' readings, by the rule above."""
        found = {key: store for key, store in self._stores.items() if key.meaning.series is series and store.total}
        whole = {key: store for key, store in found.items() if key.meaning.rank == 0}
        found = whole or found
        if not found:
            return None
        best = max(found, key=lambda key: found[key].total)  # `max` keeps the first of equals
        within = self._within.get(best.meaning.name)
        if (
            series is Series.TRAIN
            and best.format == "keras"
            and within
            and found[best].total < FEW_EPOCHS <= within.total
        ):
            return Chosen(best, list(within), within.total)
        alike = [store for key, store in found.items() if key.meaning.name == best.meaning.name or key.shape is None]
        total = sum(store.total for store in alike)
        if len(alike) < 4 or found[best].total * 4 > total:
            return Chosen(best, list(found[best]), found[best].total)
        return Chosen(best, sorted(reading for store in alike for reading in store), total)

    def curve_points(self) -> tuple[tuple[LossPoint, ...], int, Key | None]:
        """Return the points of all series in the order they came, how many there were, and the first series' key."""
        chosen = [(series, picked) for series in Series if (picked := self.choose(series)) is not None]
        if not chosen:
            return (), 0, None
        room = MAX_POINTS
        points: list[tuple[int, int, LossPoint]] = []
        for series, picked in reversed(chosen):
            most = room if (series, picked) == chosen[0] else min(_OTHERS, room)
            kept = thin(picked.readings, most)
            room -= len(kept)
            points.extend((item.seq, len(points), item.point(series)) for item in kept)
        points.sort(key=lambda entry: entry[:2])
        return tuple(entry[2] for entry in points), sum(picked.total for _, picked in chosen), chosen[0][1].key
