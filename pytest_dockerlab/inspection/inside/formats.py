"""Reads safetensors, ONNX, HDF5, Keras and TensorFlow's SavedModel: as bytes, and HDF5 with `h5py` where it is."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .kinds import open_zip, safetensors_header
from .pickles import Broken
from .weights import Tally

SAFETENSORS = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "C64": "complex64",
}
# The numbers of ONNX's TensorProto.DataType, and of TensorFlow's DataType.
ONNX = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    16: "bfloat16",
}
TENSORFLOW = {
    1: "float32",
    2: "float64",
    3: "int32",
    4: "uint8",
    5: "int16",
    6: "int8",
    9: "int64",
    10: "bool",
    14: "bfloat16",
    19: "float16",
}
MAX_FIELDS = 2_000_000


class NotRead(Exception):
    """The file may be sound, but what would read it is not here."""


def read_safetensors(path: Path, tally: Tally) -> None:
    """Read each tensor by its offsets."""
    try:
        header = safetensors_header(path)
    except ValueError as error:
        raise Broken(str(error)) from error
    with path.open("rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        for name, item in header.items():
            if name == "__metadata__" or not isinstance(item, dict):
                continue
            try:
                first, end = (int(one) for one in item["data_offsets"])
                shape = [int(one) for one in item["shape"]]
                dtype = SAFETENSORS.get(str(item["dtype"]), str(item["dtype"])[:20])
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise Broken("the entry of a tensor is not whole") from error
            if not 0 <= first <= end:
                raise Broken("a tensor ends before it begins")
            file.seek(start + first)
            data = file.read(end - first)
            if len(data) < end - first:
                raise Broken("a tensor is cut off")
            tally.add(str(name), shape, dtype, data)


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """Yield `(field, wire type, value)` of a protobuf message; raises `Broken` at what is none."""
    at, end = 0, len(data)
    for _ in range(MAX_FIELDS):
        if at >= end:
            return
        tag, at = _varint(data, at)
        field, wire = tag >> 3, tag & 7
        value: Any
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            value, at = data[at : at + width], at + width
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        else:
            raise Broken("not a protobuf message")
        if at > end or not field:
            raise Broken("a protobuf message is cut off")
        yield field, wire, value


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
    raise Broken("a protobuf message is cut off")


def _numbers(wire: int, value: Any) -> list[int]:
    if wire == 0:
        return [value]
    found: list[int] = []
    at = 0
    while wire == 2 and at < len(value) and len(found) < 64:
        number, at = _varint(value, at)
        found.append(number)
    return found


def read_onnx(path: Path, tally: Tally) -> None:
    """Read the initializers of the graph: ModelProto.graph is field 7, GraphProto.initializer field 5."""
    graphs = [value for field, wire, value in _fields(memoryview(path.read_bytes())) if (field, wire) == (7, 2)]
    if not graphs:
        raise Broken("there is no graph")
    for field, wire, value in _fields(graphs[0]):
        if (field, wire) == (5, 2):
            _onnx_tensor(value, tally)


def _onnx_tensor(message: memoryview, tally: Tally) -> None:
    shape: list[int] = []
    name, dtype, data = "", "", None
    for field, wire, value in _fields(message):
        if field == 1:
            shape += _numbers(wire, value)
        elif (field, wire) == (2, 0):
            dtype = ONNX.get(value, f"type {value}")
        elif (field, wire) == (8, 2):
            name = bytes(value[:200]).decode("utf-8", "replace")
        elif field in (4, 9) and wire == 2:  # float_data, packed; raw_data
            data = bytes(value)
    tally.add(name, shape, dtype, data)


def read_hdf5(file: Any, tally: Tally) -> None:
    """Read every data set of an HDF5 file."""
    try:
        import h5py  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise NotRead("h5py is not in this image") from error

    def visit(name: str, thing: Any) -> None:
        if isinstance(thing, h5py.Dataset) and thing.dtype.kind in "fiubc" and "optimizer" not in name.lower():
            data = thing[()]
            tally.add(name, list(thing.shape), str(thing.dtype), data.astype(data.dtype.newbyteorder("<")).tobytes())

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(visit)
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise Broken(str(error)[:200]) from error


def read_keras(path: Path, tally: Tally) -> None:
    """Read the weights in a Keras 3 file."""
    try:
        with open_zip(path) as archive:
            data = archive.read("model.weights.h5")
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, RuntimeError) as error:
        raise Broken(str(error)) from error
    read_hdf5(io.BytesIO(data), tally)


def read_savedmodel(path: Path, tally: Tally) -> None:
    """Read the tar archive of a SavedModel folder: its tensors are listed in `variables/variables.index`."""
    members: dict[str, bytes] = {}
    try:
        with tarfile.open(str(path), "r:") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.isreg() else None
                if file is not None:
                    members[member.name.partition("/")[2]] = file.read()
    except (tarfile.TarError, OSError) as error:
        raise Broken(str(error)) from error
    if not members.get("saved_model.pb"):
        raise Broken("saved_model.pb is empty or missing")
    index = members.get("variables/variables.index")
    if index is None:
        return
    shards = [members[name] for name in sorted(members) if name.startswith("variables/variables.data-")]
    for key, value in _table(memoryview(index)):
        if not key or key.startswith(b"_CHECKPOINTABLE") or b"OPTIMIZER" in key.upper():
            continue
        _bundle_entry(key, value, shards, tally)


def _bundle_entry(key: bytes, value: memoryview, shards: list[bytes], tally: Tally) -> None:
    """Read one BundleEntryProto: dtype 1, shape 2, shard 3, offset 4, size 5."""
    numbers = {3: 0, 4: 0, 5: 0}
    dtype, shape = "", []
    for field, wire, one in _fields(value):
        if (field, wire) == (1, 0):
            dtype = TENSORFLOW.get(one, "")
        elif (field, wire) == (2, 2):
            for _, dim_wire, dim in _fields(one):
                if dim_wire == 2:
                    sizes = [size for at, size_wire, size in _fields(dim) if (at, size_wire) == (1, 0)]
                    shape.append(sizes[0] if sizes else 0)
        elif field in numbers and wire == 0:
            numbers[field] = one
    if not dtype:  # a string: the object graph, no weights
        return
    if numbers[3] >= len(shards) or numbers[4] + numbers[5] > len(shards[numbers[3]]):
        raise Broken("the file of variables is cut off")
    data = shards[numbers[3]][numbers[4] : numbers[4] + numbers[5]]
    tally.add(key.decode("utf-8", "replace").replace("/.ATTRIBUTES/VARIABLE_VALUE", ""), shape, dtype, data)


def _table(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Yield the entries of a table in LevelDB's format, uncompressed, as TensorFlow writes its index."""
    if len(data) < 48 or bytes(data[-8:]) != b"\x57\xfb\x80\x8b\x24\x75\x47\xdb":
        raise Broken("variables.index is cut off")
    footer = data[-48:]
    _, at = _varint(footer, 0)
    _, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, at = _varint(footer, at)
    for _, handle in _block(data[offset : offset + size]):
        first, at = _varint(handle, 0)
        length, at = _varint(handle, at)
        yield from _block(data[first : first + length])


def _block(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    if len(data) < 4:
        raise Broken("variables.index is cut off")
    end = len(data) - 4 - 4 * int.from_bytes(data[-4:], "little")
    at, key = 0, b""
    while at < end:
        shared, at = _varint(data, at)
        own, at = _varint(data, at)
        length, at = _varint(data, at)
        key = key[:shared] + bytes(data[at : at + own])
        at += own
        yield key, data[at : at + length]
        at += length
