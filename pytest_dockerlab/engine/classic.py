"""The classic builder: an announced fallback where there is no buildx. It refuses what it would build wrongly.

It runs in a child process, because docker-py offers no way to stop a build: its timeout is for a read that moves no
bytes. Ending the child closes the connection, and the engine then stops the step's container.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tarfile
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import BuildOutcome, BuildRequest
from pytest_dockerlab.engine.process import run_process
from pytest_dockerlab.errors import EngineUnavailable
from pytest_dockerlab.facts import BuildStep

NAME = "classic"
MAX_DOCKERFILE = 1 << 20
MAX_LAYERS = 300
MAX_STEPS = 1000
LAYER = re.compile(r" ---> ([0-9a-f]{12})")
STEP = re.compile(r"step \d+/\d+ ?:", re.I)  # Docker writes `Step 1/3 : RUN x`, Podman `STEP 1/3: RUN x`

# What the classic builder does not refuse, or refuses with words that mislead: a heredoc "succeeds" and runs nothing.
BUILDKIT_ONLY = (
    ("a heredoc (`<<EOF`)", re.compile(r"^[ \t]*(RUN|COPY|ADD)\b[^\n]*\s\d*<<-?[\"']?\w", re.I | re.M)),
    ("`RUN --mount`", re.compile(r"^[ \t]*RUN\s[^\n]*--mount=", re.I | re.M)),
    ("`RUN --network` or `--security`", re.compile(r"^[ \t]*RUN\s+--(network|security)=", re.I | re.M)),
    ("`COPY --link`", re.compile(r"^[ \t]*(COPY|ADD)\s[^\n]*--link\b", re.I | re.M)),
    ("`COPY --parents` or `--exclude`", re.compile(r"^[ \t]*(COPY|ADD)\s[^\n]*--(parents|exclude)\b", re.I | re.M)),
)
QUOTED = re.compile(r"\"[^\"\n]*\"|'[^'\n]*'")


def needs_buildkit(dockerfile: str) -> str | None:
    """Return what in a Dockerfile only BuildKit can build, or `None`."""
    joined = re.sub(r"\\[ \t]*\n", " ", dockerfile)
    # What stands in quotes is one word of the shell's: `python -c "1 << 20"` has no heredoc.
    joined = QUOTED.sub(lambda found: "''" if " " in found[0] else found[0], joined)
    for name, pattern in BUILDKIT_ONLY:
        if pattern.search(joined):
            return name
    return None


def podman_lacks(syntax: str, error: str) -> bool:
    """Whether Podman's builder failed for want of that syntax (4.3.1; for heredocs also Ubuntu's 4.9.3, podman#25421).

    It takes the lines of a heredoc for instructions, or its name for a file.
    """
    if "heredoc" in syntax:
        return re.search(r"unknown instruction|stat: \"/<<", error, re.I) is not None
    return "only supports the" in error.lower()


def build(request: BuildRequest, deadline: Deadline, on_output: Callable[[str], None], host: str) -> BuildOutcome:
    """Build with the classic builder of the engine at `host`. Names after `FROM` must be tagged already."""
    started = time.monotonic()
    on_output("This engine has no BuildKit in reach (`docker buildx`): building with the classic builder.")
    job = {
        "host": host,
        "context": str(request.context),
        "dockerfile": request.dockerfile,
        "tag": request.tag,
        "labels": dict(request.labels),
        # Equal numbers: no swap on top.
        "limits": {"memory": request.memory_bytes, "memswap": request.memory_bytes} if request.memory_bytes else {},
    }
    steps: list[BuildStep] = []
    error: list[str] = []
    gone: list[str] = []
    image: list[str] = []
    layers: deque[str] = deque(maxlen=MAX_LAYERS)  # a step prints what it likes
    last = time.monotonic()

    def on_line(line: bytes) -> None:
        nonlocal last
        try:
            message = json.loads(line)
        except ValueError:
            on_output(line.decode("utf-8", "replace").rstrip())
            return
        if "gone" in message:
            gone.append(str(message["gone"]))
        if "error" in message:
            error.append(str(message["error"]))
            on_output(f"ERROR: {message['error']}")
        if "aux" in message and isinstance(message["aux"], dict):
            image.append(str(message["aux"].get("ID", "")))
        for part in str(message.get("stream", "")).splitlines():
            on_output(part)
            if made := LAYER.fullmatch(part):
                layers.append(made[1])
            if STEP.match(part) and len(steps) < MAX_STEPS:
                now = time.monotonic()
                if steps:
                    steps[-1] = BuildStep(steps[-1].name, round(now - last, 2))
                last = now
                steps.append(BuildStep(part[:300], 0.0))

    # -P and a clean start: nothing of the working folder may be imported.
    env = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    package_root = str(Path(__file__).resolve().parents[2])
    program = f"import sys; sys.path.insert(0, {package_root!r}); from {__name__} import _child; _child()"
    argv = [sys.executable, "-I", "-c", program, json.dumps(job)]
    end = run_process(argv, deadline, on_line, env=env)
    if gone and not end.timed_out:
        raise EngineUnavailable(
            f"The engine went away while building ({gone[-1][:200]}).",
            fix="See that it runs (`docker info`), then grade again: nothing was lost.",
        )
    ok = end.exit_code == 0 and not end.timed_out and not error
    return BuildOutcome(
        ok=ok,
        builder=NAME,
        seconds=round(time.monotonic() - started, 2),
        image_id=image[-1] if ok and image else None,
        steps=tuple(steps),
        error=None if ok else (error[-1] if error else "the builder ended without a word"),
        timed_out=end.timed_out,
        layers=tuple(dict.fromkeys(reversed(layers))),
    )


def dockerfile_of(request: BuildRequest) -> str:
    """Return the Dockerfile in the context, for `needs_buildkit`; empty where there is none."""
    with tarfile.open(request.context) as archive:
        try:
            source = archive.extractfile(request.dockerfile)
        except KeyError:
            return ""
        return source.read(MAX_DOCKERFILE).decode("utf-8", "replace") if source else ""


def _child() -> None:
    """Build, in the child process: the engine's JSON lines go to stdout."""
    import docker
    import requests
    from docker.errors import APIError, DockerException

    job = json.loads(sys.argv[1])
    try:
        failed = _build_in_child(docker.DockerClient(base_url=job["host"], version="auto", timeout=3600), job)
    except APIError as refused:  # what is wrong with the Dockerfile as a whole is an error status, not a message
        failed = True
        print(json.dumps({"error": str(refused.explanation)}), flush=True)
    except (DockerException, requests.RequestException, OSError) as lost:
        failed = True
        print(json.dumps({"gone": f"{type(lost).__name__}: {lost}"}), flush=True)
    sys.exit(1 if failed else 0)


def _build_in_child(client: Any, job: Mapping[str, Any]) -> bool:
    """Return whether the build failed."""
    failed = False
    with Path(job["context"]).open("rb") as context:
        for message in client.api.build(
            fileobj=context,
            custom_context=True,
            dockerfile=job["dockerfile"],
            tag=job["tag"],
            labels=job["labels"],
            container_limits=job["limits"],
            rm=True,
            forcerm=True,  # else the container of a failed step stays behind
            decode=True,
        ):
            failed = failed or "error" in message
            print(json.dumps(message), flush=True)
    return failed
