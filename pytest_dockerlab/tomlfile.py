"""Read a TOML file into a pydantic model, with errors that name the file, the key and what is allowed."""

from __future__ import annotations

import reprlib
import sys
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from pytest_dockerlab.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

MAX_BYTES = 32 * 1024  # a submission's file is hostile input; an honest one has a few hundred bytes

Model = TypeVar("Model", bound=BaseModel)


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file; raises `UsageError` for a file that is too big, unreadable or no TOML."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    if len(data) > MAX_BYTES:
        raise UsageError(f"{path}: over {MAX_BYTES // 1024} KiB, which is no configuration file")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except RecursionError as error:
        raise UsageError(f"{path}: nested far too deeply for a configuration file") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 (byte {error.start})", fix="Save the file as UTF-8.") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: no valid TOML: {error}", fix="See https://toml.io for the format.") from error


def load(path: Path, model: type[Model]) -> Model:
    """Return the validated file; raises `UsageError` with one line for each key that is wrong."""
    return validate(path, read_toml(path), model)


def validate(path: Path, tables: dict[str, Any], model: type[Model]) -> Model:
    """Validate tables that were read from `path`."""
    try:
        return model.model_validate(tables)
    except RecursionError as error:
        raise UsageError(f"{path}: nested far too deeply for a configuration file") from error
    except ValidationError as error:
        lines = [f"{path}: {len(error.errors())} wrong setting{'s' if len(error.errors()) > 1 else ''}"]
        lines += [f"  {_place(item['loc'])}: {_sentence(dict(item), model)}" for item in error.errors()[:10]]
        raise UsageError("\n".join(lines)) from None


def _place(location: tuple[int | str, ...]) -> str:
    text = ""
    for part in location:
        text += f"[{part + 1}]" if isinstance(part, int) else f"{'.' if text else ''}{part}"
    return text or "(the file)"


def _sentence(item: dict[str, Any], model: type[BaseModel]) -> str:
    kind, context = item["type"], item.get("ctx") or {}
    given = reprlib.repr(item.get("input"))[:80]  # bounded in depth, too
    if kind == "missing":
        return "this key has to be there"
    if kind == "extra_forbidden":
        allowed = ", ".join(_siblings(model, item["loc"])) or "none"
        return f"there is no such key (allowed here: {allowed})"
    if kind in ("literal_error", "enum"):
        return f"{given} is not allowed (allowed: {context.get('expected')})"
    if kind == "string_pattern_mismatch":
        return f"{given} is not allowed: it has to match {context.get('pattern')}"
    if kind.startswith("int_"):
        return f"{given} is not allowed: an integer is needed"
    limits = [
        f"{word} {context[key]}"
        for key, word in (("ge", "at least"), ("gt", "more than"), ("le", "at most"), ("lt", "less than"))
        if key in context
    ]
    if limits:
        return f"{given} is not allowed: it has to be {' and '.join(limits)}"
    shown = "" if isinstance(item.get("input"), (dict, list)) else f" (given: {given})"  # a whole table tells nobody
    return f"{item['msg'].removeprefix('Value error, ')}{shown}"


def _siblings(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys that the table at `location` may have."""
    current: type[BaseModel] = model
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        annotation: Any = current.model_fields[part].annotation if part in current.model_fields else None
        inner = [annotation, *getattr(annotation, "__args__", ())]
        found = next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if found is None:
            return []
        current = found
    return sorted(info.alias or name for name, info in current.model_fields.items())
