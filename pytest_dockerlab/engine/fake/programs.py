"""What the commands of a fake engine do."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_dockerlab.engine.fake.files import FakeFile

if TYPE_CHECKING:
    from pytest_dockerlab.engine.fake.containers import FakeContainer

SHELLS = ("sh", "/bin/sh", "bash", "/bin/bash", "ash", "/bin/ash")
NOT_FOUND = 127


@dataclass(frozen=True)
class Reply:
    """What a fake server answers to one request; `error` is a code of the HTTP client's, in the place of an answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str | None = None


# method, path, headers, body
Serves = Callable[[str, str, Mapping[str, str], bytes], Reply]


@dataclass(frozen=True)
class FakeProgram:
    """One command. Times are real seconds after the start, so they should be small.

    `files` are written when it ends, or at once where it runs for ever; `deleted` are taken away. `serves` maps
    `address:port` (or a port, on every address) to what answers there, from `ready_s` on.
    """

    output: bytes | Sequence[tuple[float, bytes]] = b""
    exit_code: int = 0
    seconds: float = 0.0
    runs_forever: bool = False
    oom: bool = False
    files: Mapping[str, bytes | FakeFile] = field(default_factory=dict)
    deleted: Sequence[str] = ()
    written_bytes: int | None = None  # None: the sizes of the files
    memory_bytes: int = 1 << 20
    cpu_s: float = 0.01
    start_error: str | None = None
    serves: Mapping[str, Serves] = field(default_factory=dict)
    ready_s: float = 0.0
    reply: Callable[[bytes], bytes] | None = None  # for an exec: stdin -> stdout

    @property
    def pieces(self) -> list[tuple[float, bytes]]:
        """The output with its times."""
        return [(0.0, self.output)] if isinstance(self.output, bytes) else list(self.output)

    @property
    def duration_s(self) -> float:
        """When it ends by itself."""
        if self.runs_forever:
            return float("inf")
        return max([self.seconds, *(at for at, _ in self.pieces)])


# A program that depends on its container: on the files that are there, on its environment.
Program = FakeProgram | Callable[["FakeContainer"], FakeProgram]


def shell_string(argv: Sequence[str]) -> str:
    """Return the name under which a command is registered: what a shell would be told, without `sh -c`."""
    argv = list(argv)
    if len(argv) == 3 and argv[0] in SHELLS and argv[1] in ("-c", "-ec"):
        return argv[2].strip()
    return shlex.join(argv)


def builtin(command: str) -> FakeProgram | None:
    """Return what every image has: `true`, `false`, `:`, `exit N`, `sleep N`, `echo WORDS`."""
    if command in ("true", ":", ""):
        return FakeProgram()
    if command == "false":
        return FakeProgram(exit_code=1)
    if found := re.fullmatch(r"exit (\d+)", command):
        return FakeProgram(exit_code=int(found[1]))
    if found := re.fullmatch(r"sleep (\d+(?:\.\d+)?|infinity)", command):
        return FakeProgram(seconds=float(found[1].replace("infinity", "inf")))
    if command.startswith("echo ") and not re.search(r"[$`|&;<>]", command):
        return FakeProgram(output=" ".join(shlex.split(command)[1:]).encode() + b"\n")
    return None
