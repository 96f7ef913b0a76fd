"""Between docker-py and this package: its errors as ours, its JSON as our dataclasses."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Iterator, Mapping
from typing import Any

import ijson
import requests
import urllib3
from docker.errors import APIError, DockerException, ImageNotFound

from pytest_dockerlab.engine.base import ImageConfig, Usage
from pytest_dockerlab.errors import DiskFull, EngineUnavailable, ImageUnavailable, InfraError

# A connection that ends in the middle of an answer shows as any of these.
BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ijson.JSONError, OSError)


@contextlib.contextmanager
def engine_errors(doing: str) -> Iterator[None]:
    """Turn whatever docker-py raises into an `InfraError` that says what was being done."""
    try:
        yield
    except ImageNotFound as error:
        raise ImageUnavailable(f"An image is missing while {doing}: {error.explanation}") from error
    except APIError as error:
        words = str(error.explanation or error)
        if "no space left on device" in words.lower():
            raise DiskFull(
                f"The engine's disk is full while {doing}.",
                fix="Free some space: `dockerlab clean`, `docker system df`.",
            ) from error
        raise InfraError(f"The engine refused while {doing}: {words}") from error
    except (*BROKEN, DockerException) as error:
        raise EngineUnavailable(
            f"The engine went away while {doing} ({type(error).__name__}: {str(error)[:200]}).",
            fix="See that it runs (`docker info`), then grade again: nothing was lost.",
        ) from error


def image_config(data: Mapping[str, Any]) -> ImageConfig:
    config = data.get("Config") or {}
    env = dict(item.partition("=")[::2] for item in config.get("Env") or [])
    return ImageConfig(
        image_id=str(data["Id"]),
        bytes=int(data.get("Size") or 0),
        workdir=config.get("WorkingDir") or "/",
        user=config.get("User") or "",
        env=env,
        entrypoint=tuple(config.get("Entrypoint") or ()),
        cmd=tuple(config.get("Cmd") or ()),
        labels=dict(config.get("Labels") or {}),
        volumes=tuple(config.get("Volumes") or ()),
        exposed=tuple(config.get("ExposedPorts") or ()),
        created=str(data.get("Created") or ""),
    )


def usage_of(data: Mapping[str, Any]) -> Usage:
    memory = data.get("memory_stats") or {}
    detail = memory.get("stats") or {}
    if not memory.get("usage"):
        return Usage()
    # Without the page cache, as `docker stats` shows it: cgroup v1 says total_inactive_file, v2 inactive_file.
    cache = int(detail.get("total_inactive_file") or detail.get("inactive_file") or 0)
    total = (data.get("cpu_stats") or {}).get("cpu_usage", {}).get("total_usage")
    pids = (data.get("pids_stats") or {}).get("current")
    return Usage(
        cpu_s=int(total) / 1e9 if total is not None else None,
        memory_bytes=max(0, int(memory["usage"]) - cache),
        pids=int(pids) if pids is not None else None,
    )
