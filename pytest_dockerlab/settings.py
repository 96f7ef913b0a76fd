"""What one run was asked to do: options, environment and ini, merged once and frozen.

Precedence: command line > environment (`DOCKERLAB_GPU`) > ini (`dockerlab_gpu`) > assignment > default. The table
`OPTIONS` is the only place that names an option; pytest's plugin and the `dockerlab` command both read it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pytest_dockerlab.errors import UsageError

LANGUAGES = ("en", "zh")
RUNTIMES = ("auto", "runc", "runsc")
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off", "")


@dataclass(frozen=True)
class Option:
    """One option, under three names: `--dockerlab-NAME`, `DOCKERLAB_NAME`, ini `dockerlab_name`."""

    name: str  # with hyphens
    help: str
    metavar: str | None = None  # None: a flag
    choices: tuple[str, ...] = ()

    @property
    def flag(self) -> bool:
        """Whether the option takes no value."""
        return self.metavar is None

    @property
    def key(self) -> str:
        """The name in `Settings` and in the ini file (without its prefix)."""
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable."""
        return f"DOCKERLAB_{self.key.upper()}"

    @property
    def cli(self) -> str:
        """The option of pytest's command line."""
        return f"--dockerlab-{self.name}"


OPTIONS = (
    Option(
        "assignment",
        "the assignment's name or folder (default: what the submission's dockerlab.toml says)",
        "NAME|PATH",
    ),
    Option("submission", "the folder to grade (default: the nearest one with a dockerlab.toml, else rootdir)", "PATH"),
    Option(
        "gpu", "auto (a free GPU, else the CPU), none, required, or which GPUs", "auto|none|required|INDEX[,INDEX]|UUID"
    ),
    Option("results", "write results.json here too", "FILE"),
    Option("report", "write the evidence and the reports into this folder", "DIR"),
    Option("lang", "language of the messages", "en|zh", LANGUAGES),
    Option(
        "runtime", "container runtime for training (auto: the engine's own; runsc: gVisor)", "auto|runc|runsc", RUNTIMES
    ),
    Option("digits", "a folder of PNG digits with labels.csv to ask instead of the bundled ones", "DIR"),
    Option("max-disk", "how much disk images of ours may use; the oldest go first (default: no limit)", "SIZE"),
    Option("fresh", "ignore what earlier runs stored: build, train and serve again"),
    Option("keep", "leave containers and images behind, for a look inside"),
)


@dataclass(frozen=True)
class Settings:
    """The effective options. Paths are absolute."""

    submission: Path = field(default_factory=Path.cwd)
    assignment: str | None = None
    gpu: str = "auto"
    results: Path | None = None
    report: Path | None = None
    lang: str = "en"
    runtime: str = "auto"
    digits: Path | None = None
    fresh: bool = False
    keep: bool = False
    max_disk: int | None = None
    secret: str = field(default="", repr=False)  # DOCKERLAB_SECRET: nobody without it can tell the digits beforehand
    given: frozenset[str] = frozenset()  # what did not come from a default, so that an assignment may set the rest
    # What no option says, because whoever calls us hands it over (`dockerlab grade`, `regrade`, `batch`):
    exclude: frozenset[Path] = frozenset()  # files of ours inside the submission
    commit: str | None = None  # of the submission
    replay: Path | None = None  # a run's folder: judge its facts again, run nothing


def resolve(
    cli: Mapping[str, Any],
    ini: Callable[[str], Any] = lambda _key: None,
    environ: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    default_submission: Path | None = None,
) -> Settings:
    """Merge the sources; raises `UsageError` that names the option, its value and the valid ones.

    `cli` and `ini` map `Option.key` to a value, `None` where it was not given there.
    """
    environ = os.environ if environ is None else environ
    cwd = cwd or Path.cwd()
    values: dict[str, Any] = {}
    for option in OPTIONS:
        for source, raw in (
            (option.cli, cli.get(option.key)),
            (f"the environment variable {option.variable}", environ.get(option.variable)),
            (f"the ini setting dockerlab_{option.key}", ini(option.key)),
        ):
            if raw is None or raw == "":
                continue
            values[option.key] = _value(option, raw, source, cwd)
            break
    submission = values.pop("submission", None) or default_submission or cwd
    secret = environ.get("DOCKERLAB_SECRET", "")
    return Settings(submission=Path(submission).absolute(), secret=secret, given=frozenset(values), **values)


def _value(option: Option, raw: object, source: str, cwd: Path) -> object:
    if option.flag:
        if isinstance(raw, bool):
            return raw
        word = str(raw).strip().lower()
        if word not in TRUE + FALSE:
            raise UsageError(f"{source}: {raw!r} is neither yes nor no (valid: {', '.join(TRUE + FALSE[:-1])})")
        return word in TRUE
    text = str(raw).strip()
    if option.choices and text not in option.choices:
        raise UsageError(f"{source}: {text!r} is not valid (choose from {', '.join(option.choices)})")
    if option.key == "gpu":
        from pytest_dockerlab.gpu.select import parse

        try:
            parse(text)
        except UsageError as error:
            raise UsageError(f"{source}: {error.message}", fix=error.fix) from None
    if option.metavar == "SIZE":
        from pydantic import ByteSize, TypeAdapter, ValidationError

        try:
            return int(TypeAdapter(ByteSize).validate_python(text))
        except ValidationError:
            raise UsageError(f"{source}: {text!r} is no size (valid: bytes, or e.g. 20GB, 500MiB)") from None
    if option.metavar in ("PATH", "FILE", "DIR"):
        path = (cwd / Path(text).expanduser()).absolute()
        try:
            is_folder, is_there = path.is_dir(), path.exists()
        except OSError as error:  # a name of 300 letters, a folder that may not be looked into
            raise UsageError(f"{source}: {path}: {error.strerror}") from error
        # Said now: a run of half an hour must not end with results that can't be written.
        if option.metavar == "FILE" and is_folder:
            raise UsageError(f"{source}: {path} is a folder", fix="Name a file in it.")
        if option.metavar == "DIR" and is_there and not is_folder:
            raise UsageError(f"{source}: {path} is a file", fix="Name a folder.")
        return path
    return text
