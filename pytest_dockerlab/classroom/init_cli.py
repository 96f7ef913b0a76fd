"""`dockerlab init`."""

from __future__ import annotations

from pathlib import Path

import click

from pytest_dockerlab.errors import UsageError

CLASSROOMS = ("plain", "classroom50", "classroom")

_EXAMPLES = """\b
Examples:
  dockerlab init lab5                          a student's starter of the bundled assignment mnist
  dockerlab init lab5 --github                 and a workflow that grades each push
  dockerlab init lab5 --classroom classroom50  and one for Classroom 50 (classroom: the legacy GitHub Classroom)
  dockerlab init --assignment tomatoes         a new assignment in ./tomatoes, for authors (or in DIR)
"""


@click.command("init", epilog=_EXAMPLES)
@click.argument("folder", metavar="DIR", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--from",
    "--assignment-name",
    "source",
    metavar="NAME|PATH|git+URL",
    default="mnist",
    show_default=True,
    help="Whose starter.",
)
@click.option("--github", is_flag=True, help="Add a workflow for GitHub Actions.")
@click.option(
    "--classroom",
    "classrooms",
    multiple=True,
    type=click.Choice([*CLASSROOMS, "all"]),
    help="Which workflow (default: plain). Can be repeated; implies --github.",
)
@click.option("--assignment", metavar="NAME", help="Write a new assignment of this name instead, for authors.")
@click.option("--force", is_flag=True, help="Overwrite files.")
def init(
    folder: Path | None, source: str, github: bool, classrooms: tuple[str, ...], assignment: str | None, force: bool
) -> None:
    """Make a student's starter in DIR, or a new assignment (in DIR, else in a folder of its name)."""
    from pytest_dockerlab.classroom import init as make

    if assignment is not None:
        if github or classrooms:
            raise UsageError("--assignment writes an assignment; --github is for a student's starter.")
        files = make.assignment_files(assignment)
        folder = folder or Path(assignment)
        make.write(folder, files, force)
        click.echo(f"{folder}: a new assignment. Try it: dockerlab grade {folder}/solution --assignment {folder}")
        return
    if folder is None:
        raise click.UsageError("Missing argument 'DIR'.")
    found, files = make.starter_files(source)
    chosen = CLASSROOMS if "all" in classrooms else tuple(dict.fromkeys(classrooms)) or ("plain",)
    if github or classrooms:
        files |= make.workflow_files(found, source, files, chosen)
        if not make.is_reachable(found, source):
            click.echo(
                "note: a runner can't find this assignment by its name; in the workflow, set DOCKERLAB_ASSIGNMENT to "
                "git+https://HOST/REPOSITORY.git//FOLDER@COMMIT",
                err=True,
            )
    make.write(folder, files, force)
    click.echo(
        f"{folder}: {len(files)} files of the assignment {found.name}. Next: cd {folder}, then pytest --dockerlab"
    )
