"""The `dockerlab` command: sub-commands imported when they are called, and errors that end as one clear message."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import click

from pytest_dockerlab import __version__
from pytest_dockerlab.engine.signals import orderly_termination
from pytest_dockerlab.errors import DockerLabError, InfraError
from pytest_dockerlab.report.escape import workflow_text

# As pytest's own: 2 interrupted, 4 used wrongly; 10 is ours: infrastructure, no grade.
EXIT_INTERRUPTED, EXIT_USAGE, EXIT_INFRA = 2, 4, 10

# Name → module and attribute. A module is imported when its command is called: `dockerlab loss` needs no engine.
COMMANDS = {
    "clean": ("pytest_dockerlab.clean_cli", "clean"),
    "data": ("pytest_dockerlab.data.cli", "data"),
    "doctor": ("pytest_dockerlab.doctor.cli", "doctor"),
    "grade": ("pytest_dockerlab.classroom.cli", "grade"),
    "images": ("pytest_dockerlab.images.cli", "images"),
    "init": ("pytest_dockerlab.classroom.init_cli", "init"),
    "loss": ("pytest_dockerlab.train.cli", "loss"),
    "regrade": ("pytest_dockerlab.classroom.cli", "regrade"),
    "report": ("pytest_dockerlab.report.cli", "report"),
}


class DockerLabGroup(click.Group):
    """A group whose commands are imported on demand and whose errors never end in a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, imported or not."""
        return sorted({*super().list_commands(ctx), *COMMANDS})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command; `None` where there is none of this name."""
        if cmd_name not in COMMANDS:
            return super().get_command(ctx, cmd_name)
        module, attribute = COMMANDS[cmd_name]
        try:
            command = getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name != module:  # the module is there, and something that it needs is not: that is a fault
                raise
            return None
        assert isinstance(command, click.Command)
        return command

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run, and end with an exit status that says whose fault it is."""
        try:
            with orderly_termination():
                status = super().main(args, prog_name, complete_var, False, **extra)
            if not standalone_mode:
                return status
        except (click.ClickException, click.Abort, DockerLabError) as error:
            if not standalone_mode:
                raise
            sys.exit(_told(error))
        sys.exit(status if isinstance(status, int) else 0)


def _told(error: Exception) -> int:
    """Print what is wrong on stderr; return the exit status."""
    if isinstance(error, click.ClickException):
        error.show()
        return EXIT_USAGE
    if isinstance(error, click.Abort):
        click.echo("interrupted", err=True)
        return EXIT_INTERRUPTED
    click.echo(workflow_text(f"error: {error}"), err=True)
    return EXIT_INFRA if isinstance(error, InfraError) else EXIT_USAGE


@click.group(cls=DockerLabGroup, epilog="Example: dockerlab grade . (each command's --help has its own)")
@click.version_option(__version__, prog_name="dockerlab")
def main() -> None:
    """Grade container and deep-learning labs on a real container engine."""
