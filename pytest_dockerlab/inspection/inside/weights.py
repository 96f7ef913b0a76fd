"""Counts what tensors hold: elements, NaN, infinities, and whether they hold one value only."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from typing import Any

MAX_LISTED = 200
MAX_NAMED = 5
MAX_NAME = 200

WIDTHS = {
    **dict.fromkeys(("bool", "int8", "uint8", "float8_e4m3fn", "float8_e5m2", "qint8", "quint8"), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32", "qint32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 8),
    "complex128": 16,
}
# All bits of the exponent, then those of the fraction: all exponent bits set is infinity, with a fraction it is NaN.
HALVES = {"float16": (0x7C00, 0x03FF), "bfloat16": (0x7F80, 0x007F)}
FLOATS = {"float32": "f", "float64": "d", "complex64": "f", "complex128": "d"}


def look(dtype: str, data: bytes) -> tuple[int, int, bool]:
    """Return how many elements are NaN, how many are infinite, and whether all elements are the same one."""
    width = WIDTHS.get(dtype, 1)
    count = len(data) // width
    constant = count > 1 and data == data[:width] * count
    if dtype in FLOATS:
        values = array(FLOATS[dtype])
        values.frombytes(data[: count * width])
        if sys.byteorder == "big":
            values.byteswap()
        total = sum(values)
        if total - total == 0:  # neither NaN nor infinite
            return 0, 0, constant
        nan = sum(1 for value in values if value != value)
        return nan, sum(1 for value in values if value in (float("inf"), float("-inf"))), constant
    if dtype in HALVES:
        exponent, fraction = HALVES[dtype]
        bits = array("H")
        bits.frombytes(data[: count * 2])
        if sys.byteorder == "big":
            bits.byteswap()
        if not any(value & exponent == exponent for value in set(bits)):
            return 0, 0, constant
        special = [value & fraction for value in bits if value & exponent == exponent]
        return sum(1 for value in special if value), sum(1 for value in special if not value), constant
    return 0, 0, constant


class Tally:
    """What all tensors of a file add up to."""

    def __init__(self) -> None:
        """Start at nothing."""
        self._listed: list[dict[str, Any]] = []
        self._tensors = 0
        self._parameters = 0
        self._unread = 0
        self._with: dict[str, int] = {"nan": 0, "inf": 0}
        self._named: dict[str, list[str]] = {"nan": [], "inf": []}
        self._several = 0  # float tensors with more than one element …
        self._constant = 0  # … that hold one value only

    def add(self, name: str, shape: Sequence[int], dtype: str, data: bytes | None) -> None:
        """Count a tensor; `data` is `None` where its elements can't be read."""
        elements = 1
        for size in shape:
            elements *= max(0, int(size))
        self._tensors += 1
        self._parameters += elements
        name = name[:MAX_NAME]
        if len(self._listed) < MAX_LISTED:
            self._listed.append({"name": name, "shape": [int(size) for size in shape][:16], "dtype": dtype})
        if data is None:
            self._unread += 1
            return
        nan, inf, constant = look(dtype, data)
        for what, count in (("nan", nan), ("inf", inf)):
            if count:
                self._with[what] += 1
                if len(self._named[what]) < MAX_NAMED:
                    self._named[what].append(f"{name}: {count} of {elements}")
        if elements > 1 and (dtype in FLOATS or dtype in HALVES):
            self._several += 1
            self._constant += constant

    def result(self) -> dict[str, Any]:
        """Return the numbers."""
        return {
            "tensor_count": self._tensors,
            "parameters": self._parameters,
            "unread_tensors": self._unread,
            "tensors": self._listed,
            "nan_tensors": self._with["nan"],
            "inf_tensors": self._with["inf"],
            "nan": self._named["nan"],
            "inf": self._named["inf"],
            "float_tensors": self._several,
            "constant_tensors": self._constant,
        }
