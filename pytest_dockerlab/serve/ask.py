"""Which digits are asked. Labels stay here, on the judge's side; names say nothing of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.data.digits import load_digits


@dataclass(frozen=True)
class Question:
    """One digit to ask."""

    name: str
    label: int
    png: bytes


def canary(folder: Path | None) -> bytes:
    """Return the PNG of the digit that tells whether a server is ready."""
    return load_digits(folder)[0].png


def questions(folder: Path | None, count: int, seed: str) -> list[Question]:
    """Return the digits to ask, in order."""
    digits = load_digits(folder)
    return [Question(digit.name, digit.label, digit.png) for digit in digits[:count]]
