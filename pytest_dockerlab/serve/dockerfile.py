"""What a serving Dockerfile takes from its context, and which server it starts. Pure, and never raises."""

from __future__ import annotations

import json
import posixpath
import re
from dataclasses import dataclass

SUFFIXES = (".pt", ".pth", ".safetensors", ".onnx", ".mar", ".keras", ".h5", ".ckpt", ".pkl", ".bin")
MAX_TEXT = 256 * 1024

_FILE = re.compile(r"[\w./*?$\{\}-]+\.(?:pt|pth|safetensors|onnx|mar|keras|h5|ckpt)\b")
_MODEL_FOLDER = re.compile(
    r"^(?:\./)?(?:.*/)?(?:model|models|checkpoint|checkpoints|weights|artifact|artifacts|output|outputs|trained_model)/?$",
    re.IGNORECASE,
)


def is_artifact(path: str) -> bool:
    """Whether a path names a model file, by its suffix."""
    return path.lower().endswith(SUFFIXES)


@dataclass(frozen=True)
class ServingDockerfile:
    """`sources` are what COPY and ADD take from the context; `mentioned` the model files named elsewhere in it."""

    sources: tuple[str, ...] = ()
    mentioned: tuple[str, ...] = ()
    server: str | None = None  # "torchserve", "triton", "http", or None: not to be told

    def artifact_places(self, name: str) -> list[str]:
        """Return where in the context the artifact is expected; `name` is its file name where only a folder is told."""
        places = []
        for source in self.sources:
            if is_artifact(source):
                folder, file = posixpath.split(source)
                places.append(posixpath.join(folder, name) if any(c in file for c in "*?[") else source)
        if places:
            return list(dict.fromkeys(places))
        for source in self.sources:
            if _MODEL_FOLDER.match(source):
                return [posixpath.join(source, name)]
        everything = any(posixpath.normpath(source) in (".", "*") for source in self.sources)
        if everything:  # COPY . . takes the file along; what uses it names it
            files = [file for file in self.mentioned if not file.startswith("/") and not file.endswith(".mar")]
            return list(dict.fromkeys(files))
        return []


MAX_VALUE, MAX_LINE, MAX_FILLED = 1024, 64 * 1024, 64  # so that a filled line has at most 128 KiB


def scan(text: str) -> ServingDockerfile:
    """Read a Dockerfile, ARG and ENV defaults filled in."""
    variables: dict[str, str] = {}
    sources: list[str] = []
    bases: list[str] = []
    rest: list[str] = []
    for line in _instructions(text):
        word, _, value = line.partition(" ")
        word, value = word.upper(), _fill(value.strip(), variables)
        if word in ("ARG", "ENV"):
            for key, given in re.findall(r"(\w+)=(\"[^\"]*\"|'[^']*'|\S*)", value):
                variables[key] = given.strip("\"'")[:MAX_VALUE]
        elif word == "FROM":
            bases.append(value)
        elif word in ("COPY", "ADD"):
            if re.search(r"--from=", value):
                continue  # out of another stage or image
            sources += _sources(value)
        else:
            rest.append(value)
    body = "\n".join(rest)
    mentioned = tuple(dict.fromkeys(one for one in _FILE.findall(body) if "$" not in one))
    return ServingDockerfile(tuple(sources), mentioned, _server(bases, body))


def _instructions(text: str) -> list[str]:
    """Return the instructions, continued lines joined, without comments and the bodies of heredocs."""
    joined: list[str] = []
    current = ""
    ends: str | None = None
    for raw in text[:MAX_TEXT].splitlines():
        line = raw.strip()
        if ends is not None:
            ends = None if line == ends else ends
            continue
        if not line or line.startswith("#"):
            continue
        current = f"{current} {line}".strip()
        if current.endswith("\\"):
            current = current[:-1].rstrip()
            continue
        heredoc = re.search(r"<<-?\s*[\"']?(\w+)", current)
        ends = heredoc.group(1) if heredoc and re.match(r"(?i)(RUN|COPY|ADD)\b", current) else None
        joined.append(current)
        current = ""
    return [*joined, current] if current else joined


def _fill(value: str, variables: dict[str, str]) -> str:
    def one(match: re.Match[str]) -> str:
        name, default = match.group(1) or match.group(3), match.group(2)
        return variables.get(name, default if default is not None else match.group(0))

    # `ENV b=$a$a`, `ENV c=$b$b`, …: each line doubles, so 40 lines would be a terabyte.
    return re.sub(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)", one, value[:MAX_LINE], count=MAX_FILLED)


def _sources(value: str) -> list[str]:
    value = re.sub(r"^(?:--\w[\w-]*(?:=\S+)?\s+)+", "", value)
    if value.startswith("["):
        try:
            words = [str(word) for word in json.loads(value)]
        except (ValueError, RecursionError, TypeError):
            words = []
    else:
        words = value.split()
    return [
        re.sub(r"^(?:\./)+(?=.)|^/+", "", word) or "."
        for word in words[:-1]
        if not word.startswith("<<") and "://" not in word
    ]


def _server(bases: list[str], body: str) -> str | None:
    last = bases[-1].lower() if bases else ""
    if "triton" in last or "tritonserver" in body:
        return "triton"
    if "torchserve" in last or re.search(r"\btorchserve\b|torch-model-archiver", body):
        return "torchserve"
    if re.search(
        r"uvicorn|gunicorn|fastapi|flask|http\.server|mlserver|bentoml|hypercorn|waitress", body, re.IGNORECASE
    ):
        return "http"
    return None
