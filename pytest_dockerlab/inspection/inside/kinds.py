"""What a file is, by its content and never by its name, without loading anything. The host uses this too."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path
from typing import Any

LEGACY_PYTORCH = bytes.fromhex("80028a0a6cfc9c46f920")
HDF5 = b"\x89HDF\r\n\x1a\n"
MAX_DIRECTORY = 8 << 20  # of a zip file, some 80,000 members: Python holds all of it in memory
MAX_HEADER = 8 << 20  # of safetensors, some 80,000 tensors


class _Careful(io.BufferedReader):
    """A file that refuses to hand out a zip directory of gigabytes at once."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Read, at most `MAX_DIRECTORY` at a time."""
        if size is not None and size > MAX_DIRECTORY:
            raise zipfile.BadZipFile("the directory is too big")
        return super().read(size)


def open_zip(path: Path) -> zipfile.ZipFile:
    """Open a zip file whose directory is of a sane size; raises `BadZipFile`."""
    try:
        return zipfile.ZipFile(_Careful(io.FileIO(str(path))))
    except (OSError, ValueError, NotImplementedError, struct.error, UnicodeError) as error:
        raise zipfile.BadZipFile(str(error)) from error


def kind_of(path: Path) -> tuple[str, str | None]:
    """Return `(kind, problem)`; the problem is `None`, or "empty", "html", "text", "truncated", "unknown".

    PyTorch's zip has a member `*/data.pkl` (TorchScript also `*/code/`), its older form begins with a pickled magic
    number; safetensors begins with an 8-byte little-endian header length and `{`; HDF5 with `\\x89HDF`; Keras 3 and
    `.mar` are zip files.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(4096)
    if size == 0:
        return "empty", "empty"
    if head.startswith(b"PK\x03\x04"):
        return _zip_kind(path)
    if head.startswith(b"PK"):
        return "zip", "truncated" if size < 22 else "unknown"
    if head.startswith(LEGACY_PYTORCH):
        return "pytorch-legacy", None
    if head.startswith(HDF5):
        return "hdf5", _hdf5_problem(head, size)
    if len(head) > 9 and head[8:9] == b"{":
        length = int.from_bytes(head[:8], "little")
        if length < 1 << 40:
            return "safetensors", _safetensors_problem(path, length, size)
    if _is_html(head):
        return "html", "html"
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "pickle", None
    if head[:1] == b"\x08" and any(name in head.lower() for name in (b"pytorch", b"onnx", b"keras", b"tf2")):
        return "onnx", None
    if not head.strip(b"\0"):
        return "unknown", "zeros"
    try:
        text = head[: 4096 - 4].decode("utf-8")
    except UnicodeDecodeError:
        return "unknown", "unknown"
    return ("text", "text") if all(sign.isprintable() or sign in "\t\r\n" for sign in text) else ("unknown", "unknown")


def _is_html(head: bytes) -> bool:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return start.startswith((b"<!doctype html", b"<html", b"<head")) or (
        start.startswith(b"<?xml") and b"<html" in start
    )


def _zip_kind(path: Path) -> tuple[str, str | None]:
    try:
        with open_zip(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        return "zip", "truncated"  # the directory of a zip file is at its end
    if "MAR-INF/MANIFEST.json" in names:
        return "mar", None
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in names):
        return ("torchscript" if any("/code/" in name for name in names) else "pytorch-zip"), None
    if "config.json" in names and "model.weights.h5" in names:
        return "keras", None
    if any(name.endswith(".npy") for name in names):
        return "npz", None
    return "zip", "unknown"


def _hdf5_problem(head: bytes, size: int) -> str | None:
    """Compare the size with the end of file that the superblock tells (8-byte offsets, as everybody writes them)."""
    version = head[8] if len(head) > 8 else 255
    at = {0: 40, 1: 44, 2: 28, 3: 28}.get(version)
    width = head[13 if version < 2 else 9] if len(head) > 60 else 0
    if at is None or width != 8:
        return "truncated" if len(head) <= 60 else None
    return "truncated" if int.from_bytes(head[at : at + 8], "little") > size else None


def safetensors_header(path: Path) -> dict[str, Any]:
    """Return the header; raises `ValueError` where it is not whole."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError("the header is too big")
        data = file.read(length)
    if len(data) < length:
        raise ValueError("the header is cut off")
    try:
        header = json.loads(data)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    if not isinstance(header, dict):
        raise ValueError("the header is no table")
    return header


def _safetensors_problem(path: Path, length: int, size: int) -> str | None:
    if size < 8 + length:
        return "truncated"
    try:
        header = safetensors_header(path)
    except ValueError:
        return "unknown"
    end = 0
    for item in header.values():
        offsets = item.get("data_offsets") if isinstance(item, dict) else None
        if isinstance(offsets, list) and len(offsets) == 2 and isinstance(offsets[1], int):
            end = max(end, offsets[1])
    return "truncated" if size < 8 + length + end else None
