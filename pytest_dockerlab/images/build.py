"""Build one recipe through the engine's own API. Our Dockerfiles need no BuildKit, so any engine will do."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import docker
import requests
from docker.errors import APIError, BuildError, DockerException

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import DiskFull, EngineUnavailable, ImageUnavailable, InfraError
from pytest_dockerlab.images import host, recipes
from pytest_dockerlab.images.progress import Progress, Say
from pytest_dockerlab.images.recipes import Recipe

# The engine is silent while a step unpacks packages; without a byte for this long it is gone.
BUILD_IDLE_S = 600
_COMMAND = re.compile(r"(The command '[^']{1,60})(?s:.*)(?=' returned)")  # a whole RUN can be a page long
_STEP = re.compile(r"Step (\d+)/(\d+) : (.*)")


def exists(client: docker.DockerClient, tag: str) -> bool:
    """Whether the engine has an image of this name."""
    with engine_errors(f"looking for the image {tag}"):
        try:
            client.images.get(tag)
        except docker.errors.ImageNotFound:
            return False
        return True


def build(
    client: docker.DockerClient,
    recipe: Recipe,
    tag: str,
    base: str,
    host_files: Mapping[str, bytes],
    deadline: Deadline,
    say: Say,
) -> None:
    """Build `recipe` on the image `base` as `tag`, or raise with the last lines of the log.

    Step containers are removed in every case; closing the stream ends a step that still runs.
    """
    progress = Progress(say, tag)
    say(f"building {tag} (about {recipe.roughly_s} s)")
    with engine_errors(f"building {tag}", progress):
        stream = client.api.build(
            fileobj=_context({**recipe.files(), **host_files}),
            custom_context=True,
            tag=tag,
            buildargs={"BASE": base, **host.proxies()},
            labels=recipes.labels(recipe),
            rm=True,
            forcerm=True,
            decode=True,
            timeout=BUILD_IDLE_S,
        )
        try:
            for event in stream:
                _follow(event, progress)
                if deadline.passed:
                    raise ImageUnavailable(
                        f"Building {tag} did not end within {deadline.budget_s:.0f} s.{progress.last_lines()}"
                    )
        finally:
            stream.close()
        with suppress(APIError):  # of no consequence, and not every engine knows the filter
            client.images.prune({"dangling": True, "label": recipes.SCRAP})
    say(f"built {tag} in {progress.seconds:.0f} s")


def tag_latest(client: docker.DockerClient, recipe: Recipe, tag: str) -> None:
    """Let `:latest` name the image of `tag`."""
    with engine_errors(f"tagging {tag}"):
        client.api.tag(tag, recipe.repository, "latest")


def _context(files: Mapping[str, bytes]) -> io.BytesIO:
    """Return a build context that is the same for the same files, whoever checked them out with whatever modes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            member.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(member, io.BytesIO(content))
    buffer.seek(0)
    return buffer


def _follow(event: dict[str, Any], progress: Progress) -> None:
    if "error" in event:
        raise BuildError(str(event["error"]).strip(), iter(()))
    for text in str(event.get("stream", "")).splitlines():
        step = _STEP.match(text)
        if step and step[3].startswith("RUN"):
            progress.announce(f"step {step[1]} of {step[2]}")
        progress.line(text)


@contextmanager
def engine_errors(doing: str, progress: Progress | None = None) -> Iterator[None]:
    """Turn what the engine and its connection raise into our errors, with the log's last lines where there is a log."""
    try:
        yield
    except (BuildError, APIError) as error:
        reason = error.msg if isinstance(error, BuildError) else (error.explanation or error)
        short = _COMMAND.sub(r"\1…", str(reason))
        text = f"{doing.capitalize()} failed: {short}{progress.last_lines() if progress else ''}"
        raise _kind(text)(text) from error
    except (requests.RequestException, DockerException, OSError) as error:
        raise EngineUnavailable(f"The engine went away while {doing}: {error}") from error


def _kind(text: str) -> type[InfraError]:
    return DiskFull if "no space left" in text.lower() else ImageUnavailable
