"""`dockerlab clean`: remove what ended runs left on the engine, or stored runs out of the cache, and show what went."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pytest_dockerlab import paths
from pytest_dockerlab.errors import InfraError

BUDGET_S = 600.0  # a hundred images of gigabytes each take minutes
DAYS = 30
PIPE_WIDTH = 200  # a pipe has no width to keep to, and names must not be broken
EXIT_INFRA = 10


@dataclass(frozen=True)
class Row:
    """One thing that goes, or went."""

    kind: str
    name: str
    bytes: int
    run: str
    age_s: float | None
    why: str
    error: str | None = None


@click.command(epilog="Examples: dockerlab clean --dry-run; dockerlab clean --cache 7")
@click.option("--all", "everything", is_flag=True, help="Everything with our labels: also runs that go on, anywhere.")
@click.option(
    "--cache",
    "days",
    type=click.IntRange(min=0),
    is_flag=False,
    flag_value=DAYS,
    metavar="[DAYS]",
    help=f"Instead: stored runs (facts, logs, artifacts) that nobody used for DAYS days ({DAYS} where not given).",
)
@click.option("--dry-run", is_flag=True, help="Only show what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
def clean(everything: bool, days: int | None, dry_run: bool, as_json: bool) -> int:
    """Remove the containers, networks, volumes and images that ended runs left on the engine.

    What --dockerlab-keep left goes too. A run that goes on keeps what it has, and so does one of another machine on a
    shared engine, unless --all is given. What is not of this tool is never touched, nor are the images of `dockerlab
    images`. Exit status 10: something could not be removed.
    """
    if days is None:
        rows = _engine_rows(everything, dry_run)
    elif everything:
        raise click.UsageError("--cache is about stored runs, --all about the engine: give one of them.")
    else:
        rows = _cache_rows(days, dry_run)
    if as_json:
        click.echo(json.dumps({"dry_run": dry_run, "things": [_plain(row, dry_run) for row in rows]}, indent=1))
    else:
        _show(rows, dry_run)
    return EXIT_INFRA if any(row.error for row in rows) else 0


# -- on the engine


def _engine_rows(everything: bool, dry_run: bool) -> list[Row]:
    from pytest_dockerlab.deadline import Deadline
    from pytest_dockerlab.engine import reaper
    from pytest_dockerlab.engine.docker import DockerEngine

    with DockerEngine() as engine:
        removals = reaper.leftovers(engine, kept=True, everything=everything)
        if not dry_run:
            removals = reaper.remove(engine, removals, Deadline.after(BUDGET_S))
    return [
        Row(one.thing.kind, one.thing.name, one.thing.bytes, one.run, one.age_s, one.why, one.error) for one in removals
    ]


# -- in the cache


def _cache_rows(days: int, dry_run: bool) -> list[Row]:
    rows = []
    for folder in _folders(paths.cache_dir() / "runs"):
        age_s = max(0.0, time.time() - _last_used(folder))
        if age_s < days * 86_400:
            continue
        row = Row("stored run", str(folder), _bytes(folder), folder.name, age_s, f"not used for {days} days")
        rows.append(row if dry_run else _remove_folder(folder, row))
    return rows


def _folders(parent: Path) -> list[Path]:
    try:
        entries = list(os.scandir(parent))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InfraError(f"{parent} can't be read: {error.strerror}.") from error
    return sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))


def _last_used(folder: Path) -> float:
    """Return when a run last wrote or locked something here."""
    times = [folder.lstat().st_mtime]
    times += [entry.stat(follow_symlinks=False).st_mtime for entry in os.scandir(folder)]
    return max(times)


def _bytes(folder: Path) -> int:
    total = 0
    for parent, _, names in os.walk(folder):
        total += sum(Path(parent, name).lstat().st_size for name in names)
    return total


def _remove_folder(folder: Path, row: Row) -> Row:
    """Remove a stored run that nobody is working on."""
    import filelock

    lock = filelock.FileLock(folder / ".lock")
    try:
        with lock.acquire(timeout=0):
            shutil.rmtree(folder)
    except filelock.Timeout:
        return Row(**{**vars(row), "error": "a run is at work on it"})
    except OSError as error:
        return Row(**{**vars(row), "error": error.strerror or str(error)})
    return row


# -- shown


def _plain(row: Row, dry_run: bool) -> dict[str, Any]:
    age_s = round(row.age_s) if row.age_s is not None else None
    return {**vars(row), "age_s": age_s, "removed": row.error is None and not dry_run}


def _show(rows: Iterable[Row], dry_run: bool) -> None:
    from rich.console import Console
    from rich.filesize import decimal
    from rich.table import Table
    from rich.text import Text

    from pytest_dockerlab.report.escape import one_line

    rows = list(rows)
    if not rows:
        click.echo("clean: nothing to remove")
        return
    table = Table("kind", box=None, pad_edge=False)
    for name in ("name", "size", "run", "age", "why"):
        table.add_column(name, overflow="fold", justify="right" if name in ("size", "age") else "left")
    for row in rows:
        size = decimal(row.bytes) if row.bytes else ""
        why = f"{row.why}; NOT REMOVED: {row.error}" if row.error else row.why
        cells = (row.kind, row.name, size, row.run, _age(row.age_s), why)
        # `Text` reads no markup, and names and labels may be anybody's.
        table.add_row(*(Text(one_line(cell), style="red" if row.error else "") for cell in cells))
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)
    gone = [row for row in rows if not row.error]
    verb = "would be removed" if dry_run else "removed"
    failed = f", {len(rows) - len(gone)} not" if len(gone) < len(rows) else ""
    click.echo(f"clean: {len(gone)} {verb} ({decimal(sum(row.bytes for row in gone))}){failed}")


def _age(seconds: float | None) -> str:
    if seconds is None:
        return ""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"
