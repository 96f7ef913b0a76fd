"""Reads PyTorch files without PyTorch: an unpickler that builds tensors from bytes, and for all else a placeholder.

`torch.load(weights_only=True)` was got around twice (CVE-2025-32434, CVE-2026-24747) and does not exist before 1.13;
here nothing that a pickle names is ever looked up, so a pickle can call nothing.
"""

from __future__ import annotations

import collections
import io
import pickle
import pickletools
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple

from .kinds import open_zip
from .weights import WIDTHS, Tally

MAX_PICKLE = 64 << 20
MAX_OPCODES = 3_000_000
MAX_GLOBALS = 200
MAX_OBJECTS = 300_000

STORAGES = {
    "Float": "float32",
    "Double": "float64",
    "Half": "float16",
    "BFloat16": "bfloat16",
    "Long": "int64",
    "Int": "int32",
    "Short": "int16",
    "Char": "int8",
    "Byte": "uint8",
    "Bool": "bool",
    "Untyped": "uint8",
    "ComplexFloat": "complex64",
    "ComplexDouble": "complex128",
    "QInt8": "qint8",
    "QUInt8": "quint8",
    "QInt32": "qint32",
}
# No part of a name, for people: how modules and their pickles are nested.
SILENT = ("_parameters", "_buffers", "_modules")


class Broken(Exception):
    """The file ends too early, or is not what it says."""


class Storage(NamedTuple):
    """Elements somewhere else in the file."""

    dtype: str
    key: str
    elements: int


class Tensor(NamedTuple):
    """A view into a storage."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Thing:
    """Stands for an object of any class, and keeps what the pickle says is in it."""

    def __new__(cls, *args: Any, **_kwargs: Any) -> Thing:
        """Take anything."""
        made = object.__new__(cls)
        made.__dict__.update(args=args, state=None, items=[])
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def __setstate__(self, state: Any) -> None:
        """Keep the state."""
        self.__dict__["state"] = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an item, as of a dict's subclass."""
        self.__dict__["items"].append(value)

    def append(self, value: Any) -> None:
        """Keep an item, as of a list's subclass."""
        self.__dict__["items"].append(value)

    def __hash__(self) -> int:
        """Be good for a key."""
        return id(self)


def _rebuild(storage: Any, offset: Any = 0, size: Any = (), stride: Any = (), *_rest: Any) -> Any:
    if not isinstance(storage, Storage) or not isinstance(offset, int):
        return Thing()
    shape = tuple(int(one) for one in size) if isinstance(size, (tuple, list)) else ()
    steps = tuple(int(one) for one in stride) if isinstance(stride, (tuple, list)) else ()
    if offset < 0 or len(shape) != len(steps) or any(one < 0 for one in shape + steps):
        return Thing()
    return Tensor(storage, offset, shape, steps)


def _rebuild_v3(storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Any:
    tensor = _rebuild(storage, offset, size, stride)
    dtype = rest[2] if len(rest) > 2 else None
    if isinstance(tensor, Tensor) and isinstance(dtype, _Dtype) and dtype.name in WIDTHS:
        old = tensor.storage
        elements = old.elements * WIDTHS.get(old.dtype, 1) // WIDTHS[dtype.name]
        return tensor._replace(storage=Storage(dtype.name, old.key, elements))
    return tensor


def _first(value: Any, *_rest: Any) -> Any:
    return value


def _encode(text: Any, *_rest: Any) -> Any:
    return text.encode("latin-1", "replace") if isinstance(text, str) else Thing()


class _Dtype:
    """`torch.float32` and the like."""

    def __init__(self, name: str) -> None:
        self.name = name


KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild,
    ("torch._utils", "_rebuild_tensor_v3"): _rebuild_v3,
    ("torch._utils", "_rebuild_qtensor"): _rebuild,
    ("torch._utils", "_rebuild_parameter"): _first,
    ("torch._utils", "_rebuild_parameter_with_state"): _first,
    ("_codecs", "encode"): _encode,
}


class Reader(pickle.Unpickler):
    """The unpickler. `names` are the globals that the pickle asked for."""

    def __init__(self, file: IO[bytes], names: set[str]) -> None:
        """Read from a file."""
        super().__init__(file, encoding="latin-1")
        self._names = names

    def find_class(self, module: str, name: str, /) -> Any:
        """Import nothing: return what is known here, or the placeholder."""
        if len(self._names) < MAX_GLOBALS:
            self._names.add(f"{module}.{name}"[:200])
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        if module in ("torch", "torch.storage", "torch.cuda"):
            if name.endswith("Storage") and name[: -len("Storage")] in STORAGES:
                return _Dtype(STORAGES[name[: -len("Storage")]])
            if module == "torch" and name in WIDTHS:
                return _Dtype(name)
        return Thing

    def persistent_load(self, pid: Any, /) -> Any:
        """Return a storage, or the class of a module that was saved whole."""
        if isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage" and isinstance(pid[1], _Dtype):
            elements = pid[4] if isinstance(pid[4], int) and pid[4] >= 0 else 0
            return Storage(pid[1].name, str(pid[2]), elements)
        if isinstance(pid, tuple) and len(pid) >= 2 and pid[0] == "module":
            return pid[1]
        return Thing()


def _load(file: IO[bytes], names: set[str]) -> Any:
    try:
        return Reader(file, names).load()
    except MemoryError:
        raise
    except (EOFError, pickle.UnpicklingError) as error:
        raise Broken(str(error)) from error
    except Exception as error:  # a hostile pickle can have any method raise anything
        raise Broken(f"{type(error).__name__}: {error}") from error


def _walk(root: Any, tally: Tally, elements: Callable[[Tensor], bytes | None]) -> None:
    """Count every tensor that hangs on an object, each once; an optimizer's state is no part of the model."""
    stack: list[tuple[str, Any]] = [("", root)]
    seen: set[Any] = set()
    for _ in range(MAX_OBJECTS):
        if not stack:
            return
        name, thing = stack.pop()
        if isinstance(thing, Tensor):
            if thing not in seen:
                seen.add(thing)
                tally.add(name or "tensor", thing.shape, thing.storage.dtype, elements(thing))
            continue
        if not isinstance(thing, (dict, list, tuple, Thing)) or id(thing) in seen:
            continue
        seen.add(id(thing))
        children: list[tuple[str, Any]] = []
        if isinstance(thing, dict):
            for key, value in thing.items():
                word = str(key)[:100] if isinstance(key, (str, int, float)) else "?"
                if "optimizer" in word.lower():
                    continue
                children.append((name if word in SILENT else f"{name}.{word}".lstrip("."), value))
        elif isinstance(thing, Thing):
            parts = thing.__dict__
            children = [(name, parts.get("state")), (name, parts.get("args")), (name, parts.get("items"))]
        else:
            children = [(name, value) for value in thing]
        stack.extend(reversed(children[:MAX_OBJECTS]))


def _span(tensor: Tensor, storage: bytes) -> bytes:
    """Return the bytes of a storage that a tensor covers."""
    width = WIDTHS.get(tensor.storage.dtype, 1)
    if 0 in tensor.shape:
        return b""
    last = tensor.offset + sum((size - 1) * step for size, step in _pairs(tensor))
    end = (last + 1) * width
    if end > len(storage):
        raise Broken("a tensor lies beyond the end of its data")
    return storage[tensor.offset * width : end]


def _pairs(tensor: Tensor) -> list[tuple[int, int]]:
    return [(tensor.shape[at], tensor.stride[at]) for at in range(len(tensor.shape))]


def read_zip(path: Path, tally: Tally, names: set[str]) -> None:
    """Read the zip form and TorchScript; raises `Broken`."""
    try:
        with open_zip(path) as archive:
            members = {info.filename: info for info in archive.infolist()}
            main = next(name for name in members if name == "data.pkl" or name.endswith("/data.pkl"))
            prefix = main[: -len("data.pkl")]

            def member(name: str, limit: int) -> bytes:
                if name not in members:
                    raise Broken(f"{name} is missing")
                info = members[name]
                info.CRC = None  # type: ignore[assignment]  # PyTorch itself can be told to write none
                with archive.open(info) as file:
                    return file.read(limit)

            def elements(folder: str) -> Callable[[Tensor], bytes | None]:
                kept: dict[str, bytes] = {}

                def of(tensor: Tensor) -> bytes | None:
                    key = tensor.storage.key
                    if key not in kept:
                        kept.clear()  # neighbours share a storage; all of them at once would take the memory
                        kept[key] = member(prefix + folder + "/" + key, 1 << 40)
                    return _span(tensor, kept[key])

                return of

            for pickled, folder in (("data.pkl", "data"), ("constants.pkl", "constants")):
                if prefix + pickled in members:
                    data = member(prefix + pickled, MAX_PICKLE)
                    _walk(_load(io.BytesIO(data), names), tally, elements(folder))
    except (zipfile.BadZipFile, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise Broken(str(error)) from error
    except Exception as error:
        if type(error).__module__ == "zlib":
            raise Broken(str(error)) from error
        raise


def read_legacy(path: Path, tally: Tally, names: set[str]) -> None:
    """Read the older form: a magic number, a version, the machine, the object, the keys, then the storages."""
    with path.open("rb") as file:
        for _ in range(3):
            _load(file, names)
        root = _load(file, names)
        keys = _load(file, names)
        wanted: dict[str, list[Tensor]] = {}
        found = Tally()

        def collect(tensor: Tensor) -> bytes | None:
            wanted.setdefault(tensor.storage.key, []).append(tensor)
            return None

        _walk(root, found, collect)
        if not isinstance(keys, list):
            raise Broken("there is no list of storages")
        storages: dict[str, bytes] = {}
        for key in keys[:MAX_OBJECTS]:
            count = int.from_bytes(file.read(8), "little")
            tensors = wanted.get(str(key), [])
            width = WIDTHS.get(tensors[0].storage.dtype, 1) if tensors else 4
            storages[str(key)] = data = file.read(min(count * width, 1 << 40))
            if len(data) < count * width:
                raise Broken("the last storage is cut off")
        _walk(root, tally, lambda tensor: _span(tensor, storages.get(tensor.storage.key, b"")))


def read_plain(path: Path, tally: Tally, names: set[str]) -> None:
    """Read a bare pickle: only its names, for its tensors would be in a form of its own."""
    with path.open("rb") as file:
        _walk(_load(file, names), tally, lambda _tensor: None)


def names_in(data: bytes, limit: int = MAX_OPCODES) -> set[str]:
    """Return the globals that a pickle names, by looking at its opcodes; nothing of it is run.

    This is advice, not a guard: a pickle can be written so that it hides a name from such a reader.
    """
    names: set[str] = set()
    strings: list[str] = ["", ""]
    memo: dict[int, str] = {}
    file = io.BytesIO(data)
    try:
        while file.tell() < len(data) and len(names) < MAX_GLOBALS:
            for opcode, arg, _ in pickletools.genops(file):
                limit -= 1
                if limit < 0:
                    return names
                kind = opcode.name
                if kind in ("GLOBAL", "INST"):
                    names.add(str(arg).replace(" ", ".", 1)[:200])
                elif kind == "STACK_GLOBAL":
                    names.add("{}.{}".format(*strings[-2:])[:200])
                elif kind == "MEMOIZE":
                    memo[len(memo)] = strings[-1]
                elif kind in ("PUT", "BINPUT", "LONG_BINPUT") and isinstance(arg, int):
                    memo[arg] = strings[-1]
                elif kind in ("GET", "BINGET", "LONG_BINGET") and isinstance(arg, int):
                    strings = [strings[-1], memo.get(arg, "")]
                elif isinstance(arg, str):
                    strings = [strings[-1], arg]
    except Exception:  # noqa: BLE001  # what can't be read as a pickle ends the reading
        return names
    return names
