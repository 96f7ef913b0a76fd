"""`dockerlab images`: what labs build on, made to exist, shown and removed."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import click

from pytest_dockerlab.engine.connect import connect
from pytest_dockerlab.images import standins
from pytest_dockerlab.images.standins import ImageState, Source

PIPE_WIDTH = 200  # a pipe has no width to keep to, and names must not be broken


@click.group(epilog="Example: dockerlab images ensure")
def images() -> None:
    """Make the images exist that labs build on: pulled from a registry or, where none answers, built as stand-ins."""


@images.command("list", epilog="Example: dockerlab images list --json")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def list_(as_json: bool) -> None:
    """Show our images and the stand-ins, and whether each exists."""
    found = standins.states(connect())
    if as_json:
        click.echo(json.dumps({"images": [asdict(state) for state in found]}, indent=1))
    else:
        _table(found)


def _table(found: list[ImageState]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("image", "stands in for", "size", "state", box=None, pad_edge=False)
    table.add_column("tag", overflow="fold")
    for state in found:
        size = f"{state.bytes / 1e6:,.0f} MB" if state.bytes is not None else ""
        table.add_row(state.name, "\n".join(state.stands_in_for) or "", size, state.state, state.tag)
    Console(width=None if sys.stdout.isatty() else PIPE_WIDTH).print(table)


@images.command(epilog="Example: dockerlab images ensure --standins torch torchserve client")
@click.option(
    "--standins", "source", flag_value=Source.STANDINS.value, help="Build stand-ins, whatever a registry says."
)
@click.option("--pull", "source", flag_value=Source.PULL.value, help="Pull the real images, never build a stand-in.")
@click.argument("names", nargs=-1)
def ensure(source: str | None, names: tuple[str, ...]) -> None:
    """Make the images NAMES exist (default: all that labs need). What is up to date is left as it is.

    Where a registry answers the real images are pulled. Where none does, stand-ins are built from Debian packages
    (once, about three minutes and 2 GB), and base images in Dockerfiles are replaced by them until `dockerlab images
    remove`.
    """
    tags = standins.ensure(names, connect(), _say, Source(source or Source.AUTO.value))
    click.echo(f"images: {', '.join(tags)} ready")


@images.command(epilog="Example: dockerlab images remove")
def remove() -> None:
    """Remove our images and stand-ins, and use no stand-in any more. Pulled images stay."""
    removed = standins.remove(connect(), _say)
    click.echo(f"images: {len(removed)} removed")


def _say(line: str) -> None:
    click.echo(line, err=True)
