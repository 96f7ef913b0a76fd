"""Just enough of a Dockerfile's builder: stages, files, settings, and RUN steps that were told what they do."""

from __future__ import annotations

import io
import json
import re
import shlex
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from dockerfile_parse import DockerfileParser

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import BuildOutcome, BuildRequest, ImageConfig
from pytest_dockerlab.engine.fake.containers import FakeImage
from pytest_dockerlab.engine.fake.files import FakeFile, Files, absolute, as_files, from_tar, under
from pytest_dockerlab.engine.fake.programs import NOT_FOUND, FakeProgram
from pytest_dockerlab.facts import BuildStep

NAME = "fake"


class BuildFailed(Exception):
    """The builder's words."""


class TimedOut(Exception):
    """The deadline came in the middle of a step."""


class Builder:
    """One build."""

    def __init__(
        self,
        request: BuildRequest,
        deadline: Deadline,
        on_output: Callable[[str], None],
        find_image: Callable[[str], FakeImage | None],
        find_program: Callable[[str], FakeProgram | None],
    ) -> None:
        """Read the context."""
        self._request = request
        self._deadline = deadline
        self._say = on_output
        self._find_image = find_image
        self._find_program = find_program
        self._context = from_tar(request.context.read_bytes())
        self._stages: dict[str, FakeImage] = {}
        self._image: FakeImage | None = None
        self._steps: list[BuildStep] = []
        self._arguments: dict[str, str] = {}
        self._froms = 0
        self._stage: list[str] = []  # the names of the stage that is being built: its number, and what AS says

    def run(self) -> tuple[BuildOutcome, FakeImage | None]:
        """Build; the image is `None` where the build did not end well."""
        started = time.monotonic()
        error, timed_out = None, False
        try:
            self._all()
        except BuildFailed as failure:
            error = str(failure)
            self._say(f"ERROR: {error}")
        except TimedOut:
            timed_out, error = True, "context canceled"
        image = None
        if error is None and self._image is not None:
            labels = {**self._image.config.labels, **self._request.labels}
            size = sum(entry.bytes for entry in self._image.files.values())
            image = FakeImage(replace(self._image.config, labels=labels, bytes=size), self._image.files)
        outcome = BuildOutcome(
            ok=image is not None,
            builder=NAME,
            seconds=round(time.monotonic() - started, 2),
            steps=tuple(self._steps),
            error=error,
            timed_out=timed_out,
        )
        return outcome, image

    def _all(self) -> None:
        entry = self._context.get(absolute(self._request.dockerfile))
        if entry is None:
            name = self._request.dockerfile
            raise BuildFailed(f"failed to solve: failed to read dockerfile: open {name}: no such file or directory")
        text = entry.data.decode("utf-8", "replace")
        parser = DockerfileParser(fileobj=io.BytesIO(text.encode()))
        instructions = [item for item in parser.structure if item["instruction"] != "COMMENT"]
        if not instructions:
            raise BuildFailed("failed to solve: the Dockerfile cannot be empty")
        for number, item in enumerate(instructions, 1):
            if self._deadline.passed:
                raise TimedOut
            name, value = str(item["instruction"]), str(item["value"])
            if self._image is None and name not in ("FROM", "ARG"):
                raise BuildFailed("failed to solve: no build stage in current context")
            label = f"[{number}/{len(instructions)}] {name} {value}"
            self._say(f"#{number} {label}")
            began = time.monotonic()
            try:
                self._one(name, value)
            except BuildFailed as failure:
                self._steps.append(BuildStep(label[:300], round(time.monotonic() - began, 2), error=str(failure)))
                raise
            self._steps.append(BuildStep(label[:300], round(time.monotonic() - began, 2)))
            if self._image is not None:
                self._stages |= dict.fromkeys(self._stage, self._image)
        if self._image is None:
            raise BuildFailed("failed to solve: no build stage in current context")

    def _one(self, name: str, value: str) -> None:
        if name == "ARG":
            key, _, default = value.partition("=")
            self._arguments.setdefault(key.strip(), default.strip())
            return
        value = self._filled(value) if name not in ("RUN", "CMD", "ENTRYPOINT") else value
        if name == "FROM":
            self._from(value)
            return
        assert self._image is not None
        config = self._image.config
        if name in ("COPY", "ADD"):
            self._copy(value)
        elif name == "RUN":
            self._run(value)
        elif name == "WORKDIR":
            self._config(workdir=absolute(value, config.workdir))
        elif name == "USER":
            self._config(user=value)
        elif name == "ENV":
            self._config(env={**config.env, **_pairs(value)})
        elif name == "LABEL":
            self._config(labels={**config.labels, **_pairs(value)})
        elif name == "EXPOSE":
            ports = tuple(port if "/" in port else f"{port}/tcp" for port in value.split())
            self._config(exposed=(*config.exposed, *ports))
        elif name == "VOLUME":
            self._config(volumes=(*config.volumes, *_command(value)))
        elif name == "CMD":
            self._config(cmd=_command(value))
        elif name == "ENTRYPOINT":
            self._config(entrypoint=_command(value), cmd=())
        elif name not in ("HEALTHCHECK", "SHELL", "STOPSIGNAL", "MAINTAINER", "ONBUILD"):
            raise BuildFailed(f"dockerfile parse error: unknown instruction: {name}")

    def _filled(self, value: str) -> str:
        def known(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            env = self._image.config.env if self._image else {}
            return env.get(name, self._arguments.get(name, ""))

        return re.sub(r"\$\{(\w+)\}|\$(\w+)", known, value)

    def _config(self, **changes: object) -> None:
        assert self._image is not None
        self._image = FakeImage(replace(self._image.config, **changes), self._image.files)  # type: ignore[arg-type]

    def _from(self, value: str) -> None:
        words = [word for word in value.split() if not word.startswith("--")]
        base = self._resolve(words[0])
        if base is None:
            raise BuildFailed(f"failed to solve: {words[0]}: docker.io/library/{words[0]}: not found")
        self._image = FakeImage(base.config, dict(base.files))
        self._froms += 1
        self._stage = [str(self._froms - 1), *(word.lower() for word in words[2:3])]

    def _resolve(self, name: str) -> FakeImage | None:
        if name.lower() in self._stages:
            return self._stages[name.lower()]
        if name == "scratch":
            return FakeImage(ImageConfig("", 0))
        return self._find_image(self._request.replaced.get(name, name))

    def _copy(self, value: str) -> None:
        assert self._image is not None
        words = list(_command(value)) if value.startswith("[") else shlex.split(value)
        source: Mapping[str, FakeFile] = self._context
        for option in [word for word in words if word.startswith("--")]:
            if option.startswith("--from="):
                image = self._resolve(option.removeprefix("--from="))
                if image is None:
                    raise BuildFailed(f"failed to solve: {option.removeprefix('--from=')}: not found")
                source = image.files
        *names, target = [word for word in words if not word.startswith("--")]
        into = target.endswith("/") or target in (".", "..") or len(names) > 1
        goal = absolute(target, self._image.config.workdir)
        for name in names:
            for path, entry in _chosen(source, name, goal, into):
                self._image.files[path] = entry

    def _run(self, value: str) -> None:
        assert self._image is not None
        command = " ".join(word for word in value.split(" ") if not word.startswith("--")) if "--" in value else value
        program = self._find_program(command.strip()) or self._find_program(value.strip())
        if program is None:
            self._say(f"/bin/sh: 1: {value.split()[0]}: not found")
            program = FakeProgram(exit_code=NOT_FOUND)
        for at, data in program.pieces:
            self._wait(at)
            for line in data.decode("utf-8", "replace").splitlines():
                self._say(line)
        self._wait(program.duration_s)
        if program.exit_code:
            raise BuildFailed(
                f'failed to solve: process "/bin/sh -c {value}" did not complete successfully: '
                f"exit code: {program.exit_code}"
            )
        self._image.files.update(as_files(program.files, self._image.config.workdir))

    def _wait(self, seconds: float) -> None:
        """Stand still as long as the step takes; a deadline stops it."""
        if seconds > self._deadline.remaining_s:
            time.sleep(self._deadline.remaining_s)
            raise TimedOut
        if seconds:
            time.sleep(seconds)


def _chosen(source: Mapping[str, FakeFile], name: str, goal: str, into: bool) -> list[tuple[str, FakeFile]]:
    """Return what a COPY copies: a file, a folder's content, or what a glob matches."""
    start = absolute(name)
    if any(sign in name for sign in "*?["):
        found = [path for path in source if PurePosixPath(path).match(start)]
        if found:
            return [(absolute(PurePosixPath(path).name, goal), source[path]) for path in sorted(found)]
    elif start in source and source[start].kind != "folder":
        return [(absolute(PurePosixPath(start).name, goal) if into else goal, source[start])]
    else:
        inside: Files = {path: source[path] for path in under(source, start)}
        if inside or start == "/" or start in source:
            return [
                (absolute(str(PurePosixPath(path).relative_to(start)), goal), entry) for path, entry in inside.items()
            ]
    raise BuildFailed(f'failed to solve: failed to compute cache key: "{start}": not found')


def _pairs(value: str) -> dict[str, str]:
    words = shlex.split(value)
    if words and "=" not in words[0]:
        return {words[0]: value.split(None, 1)[1] if len(words) > 1 else ""}
    return dict(word.partition("=")[::2] for word in words)


def _command(value: str) -> tuple[str, ...]:
    """Return the exec form as it is, the shell form behind `sh -c`."""
    if value.lstrip().startswith("["):
        try:
            return tuple(str(word) for word in json.loads(value))
        except ValueError:
            pass
    return ("/bin/sh", "-c", value)
