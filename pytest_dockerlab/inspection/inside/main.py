"""`python main.py FILE KIND`: look into a model file and print one line of JSON."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path
from typing import Any

from .formats import NotRead, read_hdf5, read_keras, read_onnx, read_safetensors, read_savedmodel
from .kinds import kind_of, open_zip
from .pickles import Broken, read_legacy, read_plain, read_zip
from .weights import Tally

MAX_INNER = 1 << 30


def look_into(path: Path, kind: str) -> dict[str, Any]:
    """Return what is in a file of a known kind."""
    tally, names = Tally(), set()  # type: ignore[var-annotated]
    said: dict[str, Any] = {"read": True, "problem": None, "why": None}
    try:
        if kind == "mar":
            return _archive(path, said)
        if kind in ("pytorch-zip", "torchscript"):
            read_zip(path, tally, names)
        elif kind == "pytorch-legacy":
            read_legacy(path, tally, names)
        elif kind == "pickle":
            read_plain(path, tally, names)
            said.update(read=False, why="a bare pickle: only the names in it were read")
        elif kind == "safetensors":
            read_safetensors(path, tally)
        elif kind == "onnx":
            read_onnx(path, tally)
        elif kind == "hdf5":
            read_hdf5(str(path), tally)
        elif kind == "keras":
            read_keras(path, tally)
        elif kind == "savedmodel":
            read_savedmodel(path, tally)
        else:
            raise NotRead(f"no reader for {kind}")
    except NotRead as error:
        said.update(read=False, why=str(error)[:300])
    except Broken as error:
        said.update(read=False, problem="truncated", why=str(error)[:300])
    except (MemoryError, RecursionError) as error:
        said.update(read=False, why=f"too big to be read ({type(error).__name__})")
    said.update(tally.result(), globals=sorted(names))
    return said


def _archive(path: Path, said: dict[str, Any]) -> dict[str, Any]:
    """Look into a model archive: the manifest names the file with the weights."""
    try:
        with open_zip(path) as archive:
            manifest = json.loads(archive.read("MAR-INF/MANIFEST.json")[: 1 << 20])
            model = manifest.get("model") if isinstance(manifest, dict) else None
            name = model.get("serializedFile") if isinstance(model, dict) else None
            if not isinstance(name, str):
                said.update(read=False, why="the manifest names no file with weights")
                return said
            inner = path.with_name("inner")
            with archive.open(name) as file, inner.open("wb") as copy:
                left = MAX_INNER
                while left > 0:
                    data = file.read(1 << 20)
                    if not data:
                        break
                    copy.write(data)
                    left -= len(data)
    except KeyError:
        said.update(read=False, problem="truncated", why="the file that the manifest names is not in the archive")
        return said
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RecursionError, RuntimeError) as error:
        said.update(read=False, problem="truncated", why=str(error)[:300])
        return said
    kind, problem = kind_of(inner)
    if problem is not None or kind == "mar":
        said.update(read=False, problem=problem, why=f"the weights in it: {kind}")
    else:
        said = look_into(inner, kind)
    said.update(inner={"file": name[:200], "kind": kind})
    return said


def main() -> None:
    """Print the result."""
    print(json.dumps(look_into(Path(sys.argv[1]), sys.argv[2])))


if __name__ == "__main__":
    main()
