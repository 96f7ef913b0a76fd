"""Permute the rows of a model's last layer, as bytes: runs inside a container of ours, with the standard library only.

Nothing of the file is executed: the pickles are read by the harness's own reader (`inspection.inside`), which looks up
nothing. So no code of a student's ever sees the permutation. It is handed in by `bundle`, like that reader.

    python3 -I -c BOOT KIND 3019485762   <- 8 bytes of length, the bundle, the model
    {"layer": "fc2.weight"}              -> one line, then the new file; or {"why": "…"} alone
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import IO, Any, NamedTuple

try:
    from inside import kinds, pickles, weights  # type: ignore[import-not-found]  # in the container
except ImportError:
    from pytest_dockerlab.inspection.inside import kinds, pickles, weights

CLASSES = 10
KINDS = ("pytorch-zip", "torchscript", "pytorch-legacy", "safetensors", "mar")
BOOT = (
    "import runpy,shutil,sys\n"
    "i=sys.stdin.buffer\n"
    "n=int.from_bytes(i.read(8),'little')\n"
    "open('/tmp/permute.zip','wb').write(i.read(n))\n"
    "shutil.copyfileobj(i,open('/tmp/model','wb'))\n"
    "sys.argv=['permute','/tmp/model',*sys.argv[1:]]\n"
    "sys.path.insert(0,'/tmp/permute.zip')\n"
    "runpy.run_path('/tmp/permute.zip',run_name='__main__')\n"
)


class NotPermuted(Exception):
    """A file can't be permuted; the message says why."""


class Rows(NamedTuple):
    """Where the rows of one tensor lie in its storage."""

    key: str
    start: int
    size: int  # of one row, in bytes

    def permuted(self, data: bytes, order: list[int]) -> bytes:
        """Return the storage with new row i = old row order[i]."""
        end = self.start + self.size * CLASSES
        if end > len(data):
            raise NotPermuted("the last layer lies beyond the end of its data")
        rows = [data[self.start + at * self.size : self.start + (at + 1) * self.size] for at in order]
        return data[: self.start] + b"".join(rows) + data[end:]


class Collector:
    """Takes the tensors that the reader finds, in their order."""

    def __init__(self) -> None:
        """Start empty."""
        self.found: list[tuple[str, Any]] = []
        self._last: Any = None

    def elements(self, tensor: Any) -> None:
        """Remember the tensor that is about to be counted."""
        self._last = tensor

    def add(self, name: str, _shape: Any, _dtype: str, _data: Any) -> None:
        """Count it."""
        self.found.append((name, self._last))


def last_layer(found: list[tuple[str, tuple[int, ...]]]) -> tuple[str, list[str]]:
    """Return the weight of the last layer with ten outputs, and all tensors to permute: its bias and its copies too."""
    weights_ = [name for name, shape in found if len(shape) >= 2 and shape[0] == CLASSES]
    if not weights_:
        raise NotPermuted("no layer with ten outputs was found")
    layer = weights_[-1]
    chosen = {layer}
    stem, _, word = layer.rpartition(".")
    bias = f"{stem}.bias".lstrip(".") if word == "weight" else ""
    at = [name for name, _ in found].index(layer)
    after = found[at + 1] if at + 1 < len(found) else None
    if any(name == bias and shape == (CLASSES,) for name, shape in found):
        chosen.add(bias)
    elif after is not None and after[1] == (CLASSES,):
        chosen.add(after[0])
    # Averaged copies and the like have the same end of their names.
    for name, shape in found:
        if shape[:1] == (CLASSES,) and any(
            name.endswith(f".{one}") or one.endswith(f".{name}") for one in tuple(chosen)
        ):
            chosen.add(name)
    return layer, [name for name, _ in found if name in chosen]


def _places(found: list[tuple[str, Any]]) -> tuple[str, list[Rows]]:
    layer, names = last_layer([(name, tensor.shape) for name, tensor in found])
    places = []
    for name, tensor in found:
        if name not in names:
            continue
        size, step = 1, 1
        for length, stride in reversed(list(zip(tensor.shape[1:], tensor.stride[1:], strict=True))):
            if stride != step and length != 1:
                raise NotPermuted(f"the rows of {name} do not lie one after another")
            step *= length
            size *= length
        if tensor.stride[0] != size:
            raise NotPermuted(f"the rows of {name} do not lie one after another")
        width = weights.WIDTHS.get(tensor.storage.dtype, 0)
        if not width:
            raise NotPermuted(f"{name} has elements of an unknown type")
        places.append(Rows(tensor.storage.key, tensor.offset * width, size * width))
    return layer, places


def permute_zip(source: Path, target: IO[bytes], order: list[int]) -> str:
    """PyTorch's zip form and TorchScript: only the members with the last layer's numbers change."""
    with kinds.open_zip(source) as archive:
        names = archive.namelist()
        main = next((name for name in names if name == "data.pkl" or name.endswith("/data.pkl")), None)
        if main is None:
            raise NotPermuted("there is no data.pkl")
        collector = Collector()
        with archive.open(main) as file:
            root = pickles._load(io.BytesIO(file.read(pickles.MAX_PICKLE)), set())
        pickles._walk(root, collector, collector.elements)
        layer, places = _places(collector.found)
        prefix = main[: -len("data.pkl")] + "data/"
        with zipfile.ZipFile(target, "w") as out:
            for info in archive.infolist():
                info_out = zipfile.ZipInfo(info.filename, info.date_time)
                info_out.compress_type = info.compress_type
                info.CRC = None  # PyTorch itself can be told to write none
                with archive.open(info) as member:
                    data = member.read()
                for place in places:
                    if info.filename == prefix + place.key:
                        data = place.permuted(data, order)
                out.writestr(info_out, data)
    return layer


def permute_legacy(source: Path, target: IO[bytes], order: list[int]) -> str:
    """PyTorch's older form: the storages lie at the end, in the order of a list of keys."""
    with source.open("rb") as file:
        for _ in range(3):
            pickles._load(file, set())
        root = pickles._load(file, set())
        keys = pickles._load(file, set())
        collector = Collector()
        pickles._walk(root, collector, collector.elements)
        layer, places = _places(collector.found)
        widths = {tensor.storage.key: weights.WIDTHS.get(tensor.storage.dtype, 1) for _, tensor in collector.found}
        head = file.tell()
        file.seek(0)
        target.write(file.read(head))
        for key in [str(key) for key in keys]:
            count = file.read(8)
            data = file.read(int.from_bytes(count, "little") * widths.get(key, 4))
            for place in places:
                if place.key == key:
                    data = place.permuted(data, order)
            target.write(count + data)
        target.write(file.read())
    return layer


def permute_safetensors(source: Path, target: IO[bytes], order: list[int]) -> str:
    """Safetensors: the header says where each tensor lies."""
    header = kinds.safetensors_header(source)
    found = [(name, tuple(item["shape"])) for name, item in header.items() if name != "__metadata__"]
    layer, names = last_layer(found)
    data = source.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    for name in names:
        first, end = header[name]["data_offsets"]
        data = Rows(name, start + first, (end - first) // CLASSES).permuted(data, order)
    target.write(data)
    return layer


def permute_mar(source: Path, target: IO[bytes], order: list[int]) -> str:
    """An archive of TorchServe: the model in it is permuted, all else is kept."""
    with kinds.open_zip(source) as archive:
        manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
        inner = str(manifest["model"].get("serializedFile"))
        if inner not in archive.namelist():
            raise NotPermuted("the archive's manifest names no model file")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "model")
            path.write_bytes(archive.read(inner))
            made = io.BytesIO()
            layer = permute(path, kinds.kind_of(path)[0], made, order)
        with zipfile.ZipFile(target, "w") as out:
            for info in archive.infolist():
                data = made.getvalue() if info.filename == inner else archive.read(info)
                out.writestr(zipfile.ZipInfo(info.filename, info.date_time), data)
    return layer


def permute(source: Path, kind: str, target: IO[bytes], order: list[int]) -> str:
    """Write the permuted file; the name of the layer. Raises `NotPermuted`."""
    how = {
        "pytorch-zip": permute_zip,
        "torchscript": permute_zip,
        "pytorch-legacy": permute_legacy,
        "safetensors": permute_safetensors,
        "mar": permute_mar,
    }.get(kind)
    if how is None:
        raise NotPermuted(f"a file of the kind {kind} can't be permuted")
    try:
        return how(source, target, order)
    except (pickles.Broken, zipfile.BadZipFile, KeyError, ValueError, TypeError, AttributeError, OSError) as error:
        raise NotPermuted(f"the file could not be read ({type(error).__name__}: {error})"[:200]) from error


def main() -> int:
    """Do it in the container."""
    source, kind, digits = sys.argv[1:4]
    made = io.BytesIO()
    try:
        told = {"layer": permute(Path(source), kind, made, [int(digit) for digit in digits])[:200]}
    except NotPermuted as error:
        told, made = {"why": str(error)}, io.BytesIO()
    sys.stdout.buffer.write(json.dumps(told).encode("ascii") + b"\n" + made.getvalue())
    sys.stdout.buffer.flush()
    return 0


def bundle() -> bytes:
    """Return this module and the reader that it needs, as a zip file that Python runs."""
    from pytest_dockerlab import inspection

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("__main__.py", "from permute import main\nmain()\n")
        archive.writestr("permute.py", Path(__file__).read_text(encoding="utf-8"))
        for path in sorted(inspection.INSIDE.glob("*.py")):
            archive.writestr(f"inside/{path.name}", path.read_text(encoding="utf-8"))
    return buffer.getvalue()
