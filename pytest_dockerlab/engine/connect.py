"""Find the engine's API: `DOCKER_HOST`, the docker CLI's current context, or a socket in one of the usual places."""

from __future__ import annotations

import os
from pathlib import Path

import docker
import requests
from docker.errors import DockerException

from pytest_dockerlab.errors import EngineUnavailable

# A request that moves no bytes for this long is dead. It is no deadline: those are kept by whoever waits.
READ_IDLE_S = 60


def _candidates() -> list[str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    home = Path.home()
    sockets = [
        Path("/var/run/docker.sock"),
        home / ".docker/run/docker.sock",  # Docker Desktop
        home / ".colima/default/docker.sock",
        Path(runtime) / "docker.sock",  # rootless Docker
        Path(runtime) / "podman/podman.sock",
        Path("/run/podman/podman.sock"),
    ]
    return [f"unix://{path}" for path in sockets if path.exists()]


def _from_context() -> str | None:
    """Return the endpoint of the docker CLI's current context, unless it is the default one."""
    from docker.context import ContextAPI

    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):  # a broken ~/.docker/config.json is no reason to give up
        return None
    host = context.Host if context is not None and context.Name != "default" else None
    return str(host) if host else None


def connect(read_idle_s: float = READ_IDLE_S) -> docker.DockerClient:
    """Return a client that has answered a ping; raises `EngineUnavailable`, which says what to start."""
    explicit = os.environ.get("DOCKER_HOST") or _from_context()
    tried: list[str] = []
    for url in [explicit] if explicit else _candidates():
        try:
            # The API version is negotiated, never pinned: Engine 29 refuses what Engine 20.10 needs.
            client = docker.DockerClient(base_url=url, timeout=int(read_idle_s), version="auto")
            client.ping()
        except (DockerException, requests.RequestException, OSError) as error:
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            tried.append(f"{url}: {'permission denied' if 'Permission denied' in str(error) else reason}")
            continue
        return client
    seen = "; ".join(tried) or "no socket in any of the usual places"
    raise EngineUnavailable(
        f"No container engine answers ({seen}).",
        fix="Start Docker or Podman, or run scripts/engine.sh; `dockerlab doctor` tells what is missing.",
    )
