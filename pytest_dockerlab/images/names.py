"""Which image stands for the name after a student's `FROM`: pure, so every rule is one table of tests.

A map goes from a name or a glob to a replacement. `*` matches anything, also `/` and `:`; `?` one character. A `*` in
the replacement is what the pattern's `*` matched::

    "pytorch/*" = "mirror.example/pytorch/*"

Names are compared as Docker reads them: `python` is `docker.io/library/python:latest`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytest_dockerlab import paths
from pytest_dockerlab.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

CONFIG_FILE = "config.toml"
STANDINS_FILE = "standins.toml"
MAX_NAME = 1024  # Docker allows 255 for a repository, 128 for a tag, 71 for a digest
_HUB = ("docker.io/", "index.docker.io/")
_EXAMPLE = 'Write under [images] lines such as "python:3*" = "mirror.example/python:3*"; names need their quotes.'


def resolve(name: str, *maps: Mapping[str, str]) -> str | None:
    """Return what the maps put in the place of a base image's name, or `None` to leave it.

    An earlier map wins. In one map an exact name wins over a glob, and the glob with more literal characters wins.
    """
    if name == "scratch" or len(name) > MAX_NAME or not name.strip():
        return None
    candidates = _spellings(normalise(name))
    for images in maps:
        entries = {normalise(pattern): replacement for pattern, replacement in images.items()}
        for candidate in candidates:
            if candidate in entries and not _is_glob(candidate):
                return _checked(candidate, entries[candidate])
        globs = sorted(filter(_is_glob, entries), key=_specificity)
        for pattern in globs:
            for candidate in candidates:
                replaced = _replace(candidate, pattern, _checked(pattern, entries[pattern]))
                if replaced is not None:
                    return replaced
    return None


def normalise(name: str) -> str:
    """Return the shortest name that means the same: no `docker.io/library/`, but always a tag or a digest.

    A glob that can match a tag (`pytorch/*`, `python:3*`) gets none.
    """
    name = name.strip()
    for hub in _HUB:
        name = name.removeprefix(hub)
    name = name.removeprefix("library/")
    last = name.rpartition("/")[2]
    if ":" in last or "@" in last or last.endswith("*"):
        return name
    return f"{name}:latest"


def _spellings(name: str) -> list[str]:
    """Return the name, and without its digest where it has a tag too: `python:3.11@sha256:…` is also `python:3.11`."""
    tagged, at, _ = name.partition("@")
    return [name, tagged] if at and ":" in tagged.rpartition("/")[2] else [name]


def _is_glob(pattern: str) -> bool:
    return "*" in pattern or "?" in pattern


def _specificity(pattern: str) -> tuple[int, int, str]:
    wild = pattern.count("*") + pattern.count("?")
    return (wild - len(pattern), pattern.count("*"), pattern)


def _replace(name: str, pattern: str, replacement: str) -> str | None:
    """Return the replacement with its stars filled in, or `None` where the pattern does not match."""
    # A bare digest has no tag for `python:*` to match; `*` after the colon means any version, so any digest too.
    if "@" in name and ":" not in name.partition("@")[0].rpartition("/")[2] and pattern.endswith(":*"):
        pattern, replacement = f"{pattern[:-2]}@*", re.sub(r":\*$", "@*", replacement)
    stars = {"*": "(.*)", "?": "."}
    match = re.fullmatch("".join(stars.get(c) or re.escape(c) for c in pattern), name)
    if match is None:
        return None
    matched = iter(match.groups())
    return re.sub(r"\*", lambda _: next(matched), replacement)


def _checked(pattern: str, replacement: str, where: str = "[images]") -> str:
    """Return the replacement if it can be one; the `UsageError` says which entry is wrong and what is allowed."""
    problem = None
    if not isinstance(replacement, str):
        problem = f"is a {type(replacement).__name__}, not an image name in quotes"
    elif not replacement.strip():
        problem = "is empty"
    elif re.search(r"\s|[^\x21-\x7e]", replacement):
        problem = "has a character that no image name has"
    elif "*" in replacement and replacement.count("*") != pattern.count("*"):
        problem = "must have as many * as the name it replaces, or none"
    if problem:
        raise UsageError(f"{where}: the replacement for {pattern!r} {problem}.", fix=_EXAMPLE)
    return replacement


def load_map(path: Path) -> dict[str, str]:
    """Return the `[images]` table of a TOML file, checked; empty where the file has none."""
    try:
        content: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not valid TOML: {error}.", fix=_EXAMPLE) from error
    table = content.get("images", {})
    if not isinstance(table, dict):
        raise UsageError(f"{path}: images must be a table, not a {type(table).__name__}.", fix=_EXAMPLE)
    for pattern, replacement in table.items():
        if not pattern.strip():
            raise UsageError(f"{path} [images]: a name is empty.", fix=_EXAMPLE)
        _checked(pattern, replacement, f"{path} [images]")
    return dict(table)


def user_maps() -> list[dict[str, str]]:
    """Return the user's own map, then the stand-ins'; only those whose file exists."""
    return [load_map(file) for file in (_config(CONFIG_FILE), _config(STANDINS_FILE)) if file.is_file()]


def mirrored(name: str) -> str:
    """Return where the user's own map says that a real image comes from; the name itself where it says nothing."""
    file = _config(CONFIG_FILE)
    return (resolve(name, load_map(file)) if file.is_file() else None) or name


def _config(file: str) -> Path:
    return paths.config_dir() / file
