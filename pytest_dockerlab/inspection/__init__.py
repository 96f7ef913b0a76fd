"""Looks into a model file: what goes into the container (`inside/`), and how its answer is taken back.

The reader runs in a container without a network, and its answer is hostile input all the same: it may come from a
student's own Python. So it is bounded, and only the fields that are known here are kept.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pytest_dockerlab.inspection.inside.kinds import kind_of, open_zip
from pytest_dockerlab.inspection.inside.pickles import MAX_PICKLE, names_in

__all__ = ["BOOT", "bundle", "kind_of", "parse", "runs_commands", "static_names", "unusual"]

INSIDE = Path(__file__).parent / "inside"
MAX_ANSWER = 1 << 20

# What the container's Python is told: standard input is 8 bytes of length, our reader as a zip file, then the model.
BOOT = (
    "import runpy,shutil,sys\n"
    "i=sys.stdin.buffer\n"
    "n=int.from_bytes(i.read(8),'little')\n"
    "open('/tmp/reader.zip','wb').write(i.read(n))\n"
    "shutil.copyfileobj(i,open('/tmp/model','wb'))\n"
    "sys.argv=['reader','/tmp/model',sys.argv[1]]\n"
    "sys.path.insert(0,'/tmp/reader.zip')\n"
    "runpy.run_path('/tmp/reader.zip',run_name='__main__')\n"
)


@cache
def bundle() -> bytes:
    """Return the reader as a zip file that Python runs."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("__main__.py", "from inside.main import main\nmain()\n")
        for path in sorted(INSIDE.glob("*.py")):
            archive.writestr(f"inside/{path.name}", path.read_text(encoding="utf-8"))
    return buffer.getvalue()


class _Tensor(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    name: str = Field(max_length=200)
    shape: list[int] = Field(max_length=16)
    dtype: str = Field(max_length=20)


class _Inner(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True)

    file: str = Field(max_length=200)
    kind: str = Field(max_length=30)


class _Answer(BaseModel):
    """What the reader prints; anything else is no answer."""

    model_config = ConfigDict(extra="ignore", strict=True)

    read: bool
    problem: str | None = Field(default=None, pattern=r"^[a-z_]{1,20}$")
    why: str | None = Field(default=None, max_length=300)
    tensor_count: int = Field(default=0, ge=0, lt=1 << 40)
    parameters: int = Field(default=0, ge=0, lt=1 << 60)
    unread_tensors: int = Field(default=0, ge=0, lt=1 << 40)
    tensors: list[_Tensor] = Field(default=[], max_length=200)
    nan_tensors: int = Field(default=0, ge=0, lt=1 << 40)
    inf_tensors: int = Field(default=0, ge=0, lt=1 << 40)
    nan: list[str] = Field(default=[], max_length=5)
    inf: list[str] = Field(default=[], max_length=5)
    float_tensors: int = Field(default=0, ge=0, lt=1 << 40)
    constant_tensors: int = Field(default=0, ge=0, lt=1 << 40)
    globals: list[str] = Field(default=[], max_length=200)
    inner: _Inner | None = None


def parse(output: bytes) -> dict[str, Any]:
    """Return the reader's answer as plain values; `{"read": False, "why": …}` for what is none."""
    lines = [line for line in output[: MAX_ANSWER + 1].splitlines() if line.strip()]
    try:
        if not lines or len(output) > MAX_ANSWER:
            raise ValueError("no answer")
        answer = _Answer.model_validate(json.loads(lines[-1]))
        plain: dict[str, Any] = _clean(answer.model_dump(exclude_none=True))
        return plain
    except (ValueError, RecursionError, ValidationError):
        return {"read": False, "why": "what the reader said can't be understood"}


def _clean(value: Any) -> Any:
    """Cut long texts and replace halves of surrogate pairs, which no JSON file can hold."""
    if isinstance(value, str):
        return value[:300].encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_clean(one) for one in value]
    if isinstance(value, dict):
        return {key: _clean(one) for key, one in value.items()}
    return value


def static_names(path: Path, kind: str) -> list[str]:
    """Return the globals that the pickles of a file name, read as opcodes; nothing is run and nothing is built."""
    names: set[str] = set()
    try:
        if kind in ("pytorch-zip", "torchscript"):
            with open_zip(path) as archive:
                for name in [name for name in archive.namelist() if name.endswith(".pkl")][:5]:
                    with archive.open(name) as file:
                        names |= names_in(file.read(MAX_PICKLE))
        elif kind in ("pytorch-legacy", "pickle"):
            with path.open("rb") as file:
                names = names_in(file.read(MAX_PICKLE))
    except Exception:  # noqa: BLE001  # zipfile and zlib raise many things for hostile bytes; this is only advice
        return _sorted(names)
    return _sorted(names)


def _sorted(names: Iterable[str]) -> list[str]:
    return [_clean(name) for name in sorted(names)]


# What weights are made of. `__torch__` is TorchScript's own code, which is no Python.
USUAL = ("torch", "collections", "numpy", "__torch__", "_codecs", "copyreg", "copy_reg", "pathlib", "argparse")
PLAIN = frozenset(
    [
        "set",
        "frozenset",
        "list",
        "dict",
        "tuple",
        "int",
        "float",
        "complex",
        "bool",
        "str",
        "bytes",
        "bytearray",
        "object",
        "slice",
        "range",
    ]
)
# What runs a command, opens a file or a connection, or makes code of text. No weights need any of it.
RUNS = frozenset(
    [
        "os",
        "posix",
        "nt",
        "subprocess",
        "sys",
        "socket",
        "shutil",
        "pty",
        "runpy",
        "importlib",
        "ctypes",
        "code",
        "codeop",
        "commands",
        "webbrowser",
        "multiprocessing",
        "asyncio",
        "signal",
        "platform",
        "pickle",
        "marshal",
    ]
)
CALLS = ("eval", "exec", "execfile", "compile", "__import__", "open", "input", "breakpoint")


def unusual(names: Iterable[str]) -> list[str]:
    """Return the names that are not PyTorch's, NumPy's or plain containers: classes of the student's own, mostly."""
    found = []
    for name in names:
        root, _, rest = name.partition(".")
        plain = root in ("builtins", "__builtin__") and rest in PLAIN
        if root not in USUAL and not plain:
            found.append(name)
    return found


def runs_commands(names: Iterable[str]) -> list[str]:
    """Return the names that run or open something when the file is loaded."""
    found = []
    for name in names:
        root, _, rest = name.partition(".")
        if root in RUNS or (root in ("builtins", "__builtin__") and rest in CALLS):
            found.append(name)
    return found
