"""What a run tells whoever is looking while it goes on."""

from __future__ import annotations

from typing import Protocol

from pytest_dockerlab.facts import LossPoint

STAGES = ("dockerfile", "build", "train", "loss", "artifact", "serve", "predict")


class Observer(Protocol):
    """Gets told. Called from the thread that grades, but `loss` and `output` also from a log's reader."""

    def begin(self, stage: str, detail: str) -> None:
        """Say that a stage starts."""

    def output(self, stage: str, line: str) -> None:
        """Hand on a line of a build's or a container's output, as the student wrote it: not escaped."""

    def loss(self, point: LossPoint) -> None:
        """Hand on a loss as it is seen."""

    def end(self, stage: str, sentence: str, *, ok: bool, seconds: float, reused: bool) -> None:
        """Say how a stage ended."""

    def note(self, text: str) -> None:
        """Say something that is worth a line."""


class Silent:
    """Says nothing."""

    def begin(self, stage: str, detail: str) -> None:
        """Keep quiet."""

    def output(self, stage: str, line: str) -> None:
        """Keep quiet."""

    def loss(self, point: LossPoint) -> None:
        """Keep quiet."""

    def end(self, stage: str, sentence: str, *, ok: bool, seconds: float, reused: bool) -> None:
        """Keep quiet."""

    def note(self, text: str) -> None:
        """Keep quiet."""
