"""Where things are kept. Every folder can be moved by an environment variable, so that tests and graders stay apart.

| what | default | variable |
| --- | --- | --- |
| stored facts, data sets, locks | the user's cache folder | `DOCKERLAB_CACHE` |
| `config.toml`, `standins.toml` | the user's configuration folder | `DOCKERLAB_CONFIG_DIR` |
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import platformdirs

from pytest_dockerlab.errors import DiskFull, InfraError

PACKAGE = Path(__file__).resolve().parent


def cache_dir() -> Path:
    """Return the folder for stored facts, data sets and locks; it may not exist yet."""
    return Path(os.environ.get("DOCKERLAB_CACHE") or platformdirs.user_cache_path("dockerlab")).absolute()


def config_dir() -> Path:
    """Return the folder of the user's configuration; it may not exist."""
    return Path(os.environ.get("DOCKERLAB_CONFIG_DIR") or platformdirs.user_config_path("dockerlab")).absolute()


def bundled(*parts: str) -> Path:
    """Return a path under `assignments/` or `fixtures/`, in a wheel as in a checkout.

    In the repository these are top-level folders; in the wheel they lie inside the package.
    """
    in_wheel = PACKAGE / "_bundled"
    return (in_wheel if in_wheel.is_dir() else PACKAGE.parent).joinpath(*parts)


@contextlib.contextmanager
def our_file(path: Path, done: str = "written") -> Iterator[None]:
    """Turn what the system says of a file of ours into `DiskFull` or `InfraError`."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(f"No room left to write {path}.", fix="Free some space: `dockerlab clean`.") from error
        raise InfraError(f"{path} can't be {done}: {error.strerror}.") from error
