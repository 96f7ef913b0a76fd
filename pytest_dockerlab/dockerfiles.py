"""What can be told of a Dockerfile without building it, through the `dockerfile-parse` library."""

from __future__ import annotations

import io
import re
from dataclasses import dataclass

from dockerfile_parse import DockerfileParser

HEREDOC = re.compile(r"<<-?\s*([\"']?)(\w+)\1")


@dataclass(frozen=True)
class Parsed:
    """`bases` are the names after FROM that are no earlier stage, ARGs filled in, each once, in order."""

    bases: tuple[str, ...]
    instructions: int
    has_from: bool


def parse(text: str) -> Parsed:
    """Read a Dockerfile; never raises for a malformed one: the builder's own words are better than ours."""
    parser = DockerfileParser(fileobj=io.BytesIO(_without_heredocs(text).encode()))
    try:
        structure = parser.structure
        names = [str(name) for name in parser.parent_images]
    except (ValueError, IndexError, KeyError, TypeError):
        return Parsed((), 0, has_from=bool(re.search(r"^[ \t]*FROM[ \t]+\S", text, re.I | re.M)))
    real = [item for item in structure if item["instruction"] != "COMMENT"]
    froms = [item["value"] for item in real if item["instruction"] == "FROM"]
    words = [value.split() for value in froms]
    stages = {parts[-1].lower() for parts in words if len(parts) >= 3 and parts[-2].upper() == "AS"}
    bases = [name for name in dict.fromkeys(names) if name.lower() not in stages and name != "scratch"]
    return Parsed(tuple(bases), len(real), bool(froms))


def _without_heredocs(text: str) -> str:
    """Drop the bodies of heredocs: the library does not know them, and `from torch import nn` is no FROM."""
    kept: list[str] = []
    ends: list[str] = []
    for line in text.splitlines():
        if ends:
            if line.strip() == ends[0]:
                ends.pop(0)
            continue
        kept.append(line)
        if re.match(r"\s*(RUN|COPY|ADD)\b", line, re.I):
            ends = [match[1] for match in HEREDOC.findall(line)]
    return "\n".join(kept) + "\n"
