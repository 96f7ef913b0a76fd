"""The data canary: MNIST whose labels a secret permutation moved, and whose size only the grader knows.

A model that this run's data taught answers pi(digit); one that was trained elsewhere answers the digit, and none of
its answers is right, for the permutation leaves no digit where it was. What is asked is a program that trained, so it
defeats weights from elsewhere, answers written into the code, and logs written by hand, all at once.

The permutation comes by HMAC from a secret and the submission. The secret is `DOCKERLAB_SECRET`, or else a random one
of this run, kept in its folder for its owner only; it enters no container, no log and no report. Where the same run is
continued the same permutation holds, so a stored model is asked for what its data taught.

What it does not defeat: a program that compares a shipped model's answers with the labels in its container, and moves
the rows of the last layer accordingly. That program has to be written for it, and reads the data.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pytest_dockerlab.data import idx
from pytest_dockerlab.data.mnist import NAMES, DataSet
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.serve.draw import Question

SECRET_FILE = ".canary-secret"  # noqa: S105  # a file name
FOLDER = "mnist-data"  # a container sees this name in its table of mounts: it tells nothing
LEAST = 0.85  # so many of the images are kept at least: fewer would cost the model's accuracy


@dataclass(frozen=True)
class Canary:
    """`permutation[digit]` is the label that the digit has in this run's data."""

    permutation: tuple[int, ...]
    seed: bytes

    def size(self, name: str, images: int) -> int:
        """Return how many of so many images are kept: 85 % to all but one, never a round number."""
        least = max(1, int(images * LEAST))
        kept = least + self._number(f"size {name}", max(1, images - least))
        return kept - 1 if kept % 10 == 0 and kept > 1 else kept

    def order(self, name: str, images: int) -> list[int]:
        """Return the images that are kept, in an order that says nothing of those left out."""
        draws = [hmac.new(self.seed, f"{name} {at}".encode(), hashlib.sha256).digest() for at in range(images)]
        return sorted(range(images), key=lambda at: draws[at])[: self.size(name, images)]

    def expected(self, digit: int) -> int:
        """Return what a model of this run's data has to answer."""
        return self.permutation[digit]

    def relabel(self, questions: Sequence[Question]) -> list[Question]:
        """Return the questions with the labels that a model of this run's data has to answer."""
        return [replace(question, label=self.expected(question.label)) for question in questions]

    def _number(self, name: str, below: int) -> int:
        digest = hmac.new(self.seed, name.encode(), hashlib.sha256).digest()
        return int.from_bytes(digest, "big") % below


def derive(secret: bytes, submission_sha256: str) -> Canary:
    """Return the canary of one submission: a permutation without a digit that stays where it is."""
    seed = hmac.new(secret, f"dockerlab data canary 1\0{submission_sha256}".encode(), hashlib.sha256).digest()
    for attempt in range(1000):  # about one permutation in three leaves no digit where it is
        keys = [hmac.new(seed, f"digit {attempt} {digit}".encode(), hashlib.sha256).digest() for digit in range(10)]
        permutation = tuple(sorted(range(10), key=lambda digit: keys[digit]))
        if all(digit != label for digit, label in enumerate(permutation)):
            return Canary(permutation, seed)
    raise AssertionError("1000 permutations, each with a fixed point")


def of(folder: Path, given: str | None, submission_sha256: str) -> Canary:
    """Return the canary of a run: `folder` is the run's, `given` the secret that the grader was started with."""
    return derive(secret_of(folder, given), submission_sha256)


def secret_of(folder: Path, given: str | None) -> bytes:
    """Return the secret that was given, or else the run's own, made where there is none and readable by us only."""
    if given:
        return given.encode()
    path = folder / SECRET_FILE
    try:
        with contextlib.suppress(FileExistsError):
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(secrets.token_bytes(32))
        secret = path.read_bytes()
    except OSError as error:
        raise InfraError(f"The secret of the data canary can't be kept in {folder}: {error.strerror}.") from error
    if len(secret) != 32:
        raise InfraError(f"{path} is damaged.", fix="Grade again with --dockerlab-fresh.")
    return secret


def write(canary: Canary, data: DataSet, folder: Path) -> DataSet:
    """Write the data of this run into `folder/MNIST/raw`, for a container to read."""
    raw = folder / "MNIST" / "raw"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        raw.mkdir(parents=True)
        sizes = []
        for images_name, labels_name in (NAMES[:2], NAMES[2:]):
            images = idx.parse_images((data.path / "MNIST" / "raw" / images_name).read_bytes())
            labels = idx.parse_labels((data.path / "MNIST" / "raw" / labels_name).read_bytes())
            order = canary.order(images_name, len(labels))
            idx.write_images(raw / images_name, images[order])
            idx.write_labels(raw / labels_name, np.array(canary.permutation, dtype=np.uint8)[labels[order]])
            sizes.append(len(order))
        for path in (folder, *folder.rglob("*")):  # a student's container may run as any user
            path.chmod(0o755 if path.is_dir() else 0o644)
    except OSError as error:
        raise InfraError(f"The data of the canary can't be written to {folder}: {error.strerror}.") from error
    return DataSet(folder, f"{data.source}, permuted", sizes[0], sizes[1], "")
