"""Build through BuildKit: `docker buildx build --progress=rawjson`.

docker-py's own `images.build()` speaks the classic builder only, which *reports success and runs nothing* for
`RUN <<EOF` (docker-py#2230, #3344). The client's `rawjson` progress is BuildKit's `SolveStatus` messages; buildx 0.13
prints each over many lines, newer ones on one line.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import BuildOutcome, BuildRequest
from pytest_dockerlab.engine.process import run_process
from pytest_dockerlab.facts import BuildStep

NAME = "buildx"
MAX_STEPS = 200
MAX_MESSAGE = 4 << 20  # a single progress message is far below this; more is a fault and is dropped


def buildx_version() -> str | None:
    """Return buildx's version, or `None` where the `docker` on the PATH has no buildx (a bare client).

    Old buildx without `rawjson` (before 0.13) counts as none.
    """
    if shutil.which("docker") is None:
        return None
    try:
        shown = subprocess.run(
            ["docker", "buildx", "version"], capture_output=True, text=True, timeout=20, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return None
    found = re.search(r"v?(\d+)\.(\d+)\.(\d+)", shown)
    if not found or (int(found[1]), int(found[2])) < (0, 13):
        return None
    return ".".join(found.groups())


def build(request: BuildRequest, deadline: Deadline, on_output: Callable[[str], None], host: str) -> BuildOutcome:
    """Build `request.context` on the engine at `host`. The caller has made sure that buildx is there."""
    started = time.monotonic()
    progress = RawJson(on_output)
    with tempfile.TemporaryDirectory(prefix="dockerlab-build-") as folder:
        iidfile = Path(folder, "iid")
        # `--builder default` is the engine's own BuildKit: only that one sees local images as build contexts.
        argv = ["docker", "--host", host, "buildx", "build", "--builder", "default", "--progress=rawjson", "--load"]
        argv += ["--provenance=false", "--iidfile", str(iidfile), "--tag", request.tag, "--file", request.dockerfile]
        for name, value in request.labels.items():
            argv += ["--label", f"{name}={value}"]
        for name, replacement in request.replaced.items():
            argv += ["--build-context", f"{name}=docker-image://{replacement}"]
        if request.cgroup_parent:
            argv += ["--cgroup-parent", request.cgroup_parent]
        env = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "BUILDX_"))}
        if "DOCKER_CONFIG" in os.environ:
            env["DOCKER_CONFIG"] = os.environ["DOCKER_CONFIG"]
        end = run_process([*argv, "-"], deadline, progress.feed_line, stdin=request.context, env=env)
        image_id = iidfile.read_text().strip() if iidfile.exists() else None
    ok = end.exit_code == 0 and not end.timed_out
    return BuildOutcome(
        ok=ok,
        builder=NAME,
        seconds=round(time.monotonic() - started, 2),
        image_id=image_id if ok else None,
        steps=progress.steps(),
        error=None if ok else progress.error(),
        timed_out=end.timed_out,
    )


@dataclass
class _Vertex:
    name: str = ""
    started: float | None = None
    completed: float | None = None
    cached: bool = False
    error: str | None = None


@dataclass
class RawJson:
    """Reads the progress stream: a readable log goes to `on_output`, what became of each step is kept."""

    on_output: Callable[[str], None]
    _vertices: dict[str, _Vertex] = field(default_factory=dict)
    _numbers: dict[str, int] = field(default_factory=dict)
    _pending: list[str] = field(default_factory=list)
    _pending_size: int = 0
    _plain: list[str] = field(default_factory=list)
    _partial: dict[str, str] = field(default_factory=dict)

    def feed_line(self, line: bytes) -> None:
        """Take one line of the client's output."""
        text = line.decode("utf-8", "replace").rstrip("\n")
        if self._pending or text.startswith("{"):
            self._pending.append(text)
            self._pending_size += len(text)
            # An indented message ends with a lone brace in the first column, a compact one on its own line.
            if text == "}" or (len(self._pending) == 1 and text.endswith("}")):
                self._message("\n".join(self._pending))
            elif self._pending_size < MAX_MESSAGE:
                return
            self._pending, self._pending_size = [], 0
        elif text.strip():
            self._plain = [*self._plain[-30:], text]
            self.on_output(text)

    def _message(self, text: str) -> None:
        with contextlib.suppress(ValueError, TypeError, AttributeError):  # no message, or of another shape
            self._take(json.loads(text))

    def _take(self, message: dict[str, Any]) -> None:
        for vertex in message.get("vertexes") or []:
            self._vertex(vertex)
        for log in message.get("logs") or []:
            self._log(log.get("vertex", ""), log.get("data", ""))
        for warning in message.get("warnings") or []:
            short = base64.b64decode(warning.get("short") or "").decode("utf-8", "replace")
            self.on_output(f"WARNING: {short}")

    def _vertex(self, data: dict[str, Any]) -> None:
        digest = str(data.get("digest"))
        vertex = self._vertices.setdefault(digest, _Vertex())
        vertex.name = str(data.get("name", vertex.name))
        first_start = vertex.started is None and data.get("started")
        vertex.started = _time(data.get("started")) or vertex.started
        vertex.completed = _time(data.get("completed")) or vertex.completed
        vertex.cached = bool(data.get("cached", vertex.cached))
        vertex.error = data.get("error") or vertex.error
        if first_start:
            self.on_output(f"#{self._number(digest)} {vertex.name}")
        if data.get("completed"):
            self._flush(digest)
            if vertex.error:
                self.on_output(f"#{self._number(digest)} ERROR: {vertex.error}")
            elif vertex.cached:
                self.on_output(f"#{self._number(digest)} CACHED")

    def _number(self, digest: str) -> int:
        return self._numbers.setdefault(digest, len(self._numbers) + 1)

    def _log(self, digest: str, data: str) -> None:
        text = self._partial.pop(digest, "") + base64.b64decode(data).decode("utf-8", "replace")
        *lines, rest = text.split("\n")
        for line in lines:
            self.on_output(f"#{self._number(digest)} {line}")
        if rest:
            self._partial[digest] = rest[-65536:]

    def _flush(self, digest: str) -> None:
        if rest := self._partial.pop(digest, ""):
            self.on_output(f"#{self._number(digest)} {rest}")

    def steps(self) -> tuple[BuildStep, ...]:
        """Return what became of each step, BuildKit's internal ones left out unless they failed."""
        return tuple(
            BuildStep(
                name=vertex.name[:300],
                seconds=round(max(0.0, (vertex.completed or vertex.started or 0.0) - (vertex.started or 0.0)), 2),
                cached=vertex.cached,
                error=vertex.error[:1000] if vertex.error else None,
            )
            for vertex in list(self._vertices.values())[:MAX_STEPS]
            if vertex.error or not vertex.name.startswith(("[internal]", "copy /context", "exporting", "sending"))
        )

    def error(self) -> str:
        """Return the builder's own last word."""
        errors = [line for line in self._plain if line.startswith("ERROR:")]
        if errors:
            return errors[-1].removeprefix("ERROR:").strip()
        failed = [vertex.error for vertex in self._vertices.values() if vertex.error]
        return failed[-1] if failed else (self._plain[-1] if self._plain else "the builder ended without a word")


def _time(value: str | None) -> float | None:
    if not value:
        return None
    # BuildKit writes nanoseconds, fromisoformat of Python 3.10 takes at most microseconds and no "Z".
    whole, _, fraction = value.rstrip("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{fraction or 0}")
    except ValueError:
        return None
