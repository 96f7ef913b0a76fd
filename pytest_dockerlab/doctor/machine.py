"""What the checks look at: the engine's own words, asked once, and never for longer than a few seconds."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import docker
import requests
from docker.errors import DockerException

from pytest_dockerlab.engine.connect import connect
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.errors import EngineUnavailable

Result = TypeVar("Result")

ENGINE_S = 10.0  # an engine answers in milliseconds, one behind ssh in seconds


class TookTooLong(Exception):
    """A question was not answered in time."""


class Asked(Generic[Result]):
    """A question that was asked in a thread of its own, so that nobody waits longer for the answer than they want."""

    def __init__(self, ask: Callable[[], Result]) -> None:
        """Ask."""
        self._result: list[Result] = []
        self._error: list[BaseException] = []
        self._thread = threading.Thread(target=self._run, args=(ask,), name="dockerlab-doctor", daemon=True)
        self._thread.start()

    def _run(self, ask: Callable[[], Result]) -> None:
        try:
            self._result.append(ask())
        except BaseException as error:  # noqa: BLE001  # raised again in the thread that waits
            self._error.append(error)

    def answer(self, seconds: float) -> Result:
        """Return the answer, or raise what was raised instead; raises `TookTooLong`."""
        self._thread.join(seconds)
        if self._error:
            raise self._error[0]
        if not self._result:
            raise TookTooLong(f"no answer within {seconds:.0f} s")
        return self._result[0]


@dataclass(frozen=True)
class Machine:
    """The engine, or why there is none, and where we are. Tests make their own."""

    client: docker.DockerClient | None = None
    problem: str = ""  # why there is no client
    host: str = ""  # as `DOCKER_HOST` names it
    info: Mapping[str, Any] = field(default_factory=dict)
    version: Mapping[str, Any] = field(default_factory=dict)
    environ: Mapping[str, str] = field(default_factory=dict)
    platform: str = sys.platform
    kernel: str = ""
    registry: Asked[bool] | None = None

    @property
    def engine(self) -> DockerEngine | None:
        """The engine behind our port."""
        return DockerEngine(self.client) if self.client is not None else None

    @property
    def podman(self) -> bool:
        """Whether Podman answers."""
        components = [str(item.get("Name", "")) for item in self.version.get("Components") or []]
        return any("podman" in name.lower() for name in components)

    @property
    def local(self) -> bool:
        """Whether the engine is reached by a socket of this machine, or there is none."""
        return not self.host or self.host.startswith(("unix://", "npipe://"))

    @property
    def same_kernel(self) -> bool:
        """Whether the engine runs on this very system, and not in a virtual machine on it (Docker Desktop, colima)."""
        return self.local and self.platform == "linux" and self.info.get("KernelVersion") == self.kernel

    def command(self, name: str) -> str | None:
        """Return where a command is on the PATH."""
        return shutil.which(name, path=self.environ.get("PATH", os.defpath))


def look_around() -> Machine:
    """Look at this machine; never raises because of what it lacks."""
    from pytest_dockerlab.images.registry import registry_answers

    environ = dict(os.environ)
    kernel = os.uname().release if hasattr(os, "uname") else ""
    try:
        client, host, info, version = Asked(_engine).answer(ENGINE_S)
    except EngineUnavailable as error:
        return Machine(problem=error.message, environ=environ, kernel=kernel)
    except (TookTooLong, DockerException, requests.RequestException, OSError) as error:
        return Machine(problem=f"The engine does not answer: {error}.", environ=environ, kernel=kernel)
    # Asked now, needed last: a name server that is away takes seconds to be given up.
    registry = Asked(lambda: registry_answers(client))
    return Machine(client, "", host, info, version, environ, kernel=kernel, registry=registry)


def _engine() -> tuple[docker.DockerClient, str, Mapping[str, Any], Mapping[str, Any]]:
    client = connect(read_idle_s=ENGINE_S)
    return client, DockerEngine(client).host, client.info(), client.version()
