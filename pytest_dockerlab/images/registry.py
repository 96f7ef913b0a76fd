"""Ask whether a container registry answers, and pull from it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Any

import docker
import requests
from docker.errors import APIError, DockerException

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import ImageUnavailable
from pytest_dockerlab.images.build import engine_errors
from pytest_dockerlab.images.names import mirrored
from pytest_dockerlab.images.progress import Progress, Say

PROBE = "alpine:latest"  # a few kilobytes of manifest, on every mirror there is
PROBE_S = 12.0  # a name server that is away takes 5 to 10 s to be given up
_answers: dict[tuple[str, str], bool] = {}


def registry_answers(client: docker.DockerClient, image: str | None = None) -> bool:
    """Whether the engine can reach a registry (the one of `image`); asked once, for at most `PROBE_S` seconds.

    The engine is asked and not this process: it may be remote, or have a mirror or a proxy of its own.
    """
    image = image or mirrored(PROBE)
    question = (str(client.api.base_url), image)
    if question not in _answers:
        verdict: list[bool] = []
        probe = threading.Thread(target=lambda: verdict.append(_probe(client, image)), daemon=True)
        probe.start()
        probe.join(timeout=PROBE_S)
        _answers[question] = verdict == [True]
    return _answers[question]


def _probe(client: docker.DockerClient, image: str) -> bool:
    try:
        client.images.get_registry_data(image)
    except APIError as error:
        # 429: it answered, that we ask too much. 404: an engine without this question (Podman); then search tells.
        return error.status_code == requests.codes.too_many_requests or (
            error.status_code == requests.codes.not_found and _search(client)
        )
    except (DockerException, requests.RequestException, OSError):
        return False
    return True


def _search(client: docker.DockerClient) -> bool:
    try:
        return bool(client.images.search("alpine", limit=1))
    except (DockerException, requests.RequestException, OSError):
        return False


def pull(client: docker.DockerClient, name: str, deadline: Deadline, say: Say) -> None:
    """Pull `repository:tag`, saying how far it is; raises `ImageUnavailable` with the registry's own words."""
    say(f"pulling {name}")
    progress = Progress(say, name)
    layers: dict[str, tuple[int, int]] = {}
    with engine_errors(f"pulling {name}", progress):
        for event in _events(client, name, deadline):
            if "error" in event:
                raise ImageUnavailable(
                    f"{name} could not be pulled: {event['error']}",
                    fix="Try again, or name another source for it under [images] in config.toml.",
                )
            detail = event.get("progressDetail") or {}
            if event.get("status") == "Downloading" and detail.get("total"):
                layers[str(event.get("id"))] = (int(detail.get("current", 0)), int(detail["total"]))
                done, total = (sum(column) for column in zip(*layers.values(), strict=True))
                progress.line(f"{done / 1e6:.0f} of at least {total / 1e6:.0f} MB")
    say(f"pulled {name} in {progress.seconds:.0f} s")


def _events(client: docker.DockerClient, name: str, deadline: Deadline) -> Iterator[dict[str, Any]]:
    """Yield a pull's events until the deadline.

    docker-py reads a pull without any timeout, so a thread reads and this side watches the clock.
    """
    repository, _, tag = name.rpartition(":")
    events: queue.SimpleQueue[dict[str, Any] | Exception | None] = queue.SimpleQueue()

    def read() -> None:
        try:
            for event in client.api.pull(repository, tag=tag, stream=True, decode=True):
                events.put(event)
            events.put(None)
        except (DockerException, requests.RequestException, OSError) as error:
            events.put(error)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            event = events.get(timeout=deadline.remaining_s)
        except queue.Empty:
            raise ImageUnavailable(f"{name} was not pulled within {deadline.budget_s:.0f} s.") from None
        if event is None:
            return
        if isinstance(event, Exception):
            raise event
        yield event
