"""IDX, the file format of MNIST: a magic number, the sizes, then bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]

SIDE = 28
_IMAGES, _LABELS = 0x00000803, 0x00000801  # unsigned bytes, in three dimensions and in one
_IMAGES_HEADER, _LABELS_HEADER = struct.Struct(">IIII"), struct.Struct(">II")


class IdxError(ValueError):
    """The bytes are not an IDX file of the kind that was expected."""


def write_images(path: Path, images: Pixels) -> None:
    """Write images of shape (n, 28, 28)."""
    path.write_bytes(_IMAGES_HEADER.pack(_IMAGES, *images.shape) + images.tobytes())


def write_labels(path: Path, labels: Pixels) -> None:
    """Write labels of shape (n,)."""
    path.write_bytes(_LABELS_HEADER.pack(_LABELS, *labels.shape) + labels.tobytes())


def parse_images(data: bytes) -> Pixels:
    """Return images of shape (n, 28, 28); the header has to agree with the number of bytes."""
    if len(data) < _IMAGES_HEADER.size:
        raise IdxError(f"only {len(data)} bytes, less than a header")
    magic, count, rows, columns = _IMAGES_HEADER.unpack_from(data)
    if magic != _IMAGES or (rows, columns) != (SIDE, SIDE):
        raise IdxError(f"not {SIDE}x{SIDE} images (magic {magic:#010x}, {rows}x{columns})")
    body = np.frombuffer(data, dtype=np.uint8, offset=_IMAGES_HEADER.size)
    if body.size != count * rows * columns:
        raise IdxError(f"{body.size} bytes of pixels for {count} images")
    return body.reshape(count, rows, columns)


def parse_labels(data: bytes) -> Pixels:
    """Return labels of shape (n,), each 0 to 9."""
    if len(data) < _LABELS_HEADER.size:
        raise IdxError(f"only {len(data)} bytes, less than a header")
    magic, count = _LABELS_HEADER.unpack_from(data)
    if magic != _LABELS:
        raise IdxError(f"not labels (magic {magic:#010x})")
    body = np.frombuffer(data, dtype=np.uint8, offset=_LABELS_HEADER.size)
    if body.size != count:
        raise IdxError(f"{body.size} bytes for {count} labels")
    if body.size and int(body.max()) > 9:
        raise IdxError(f"a label is {int(body.max())}")
    return body
