"""The half of `DockerEngine` that is about the engine itself and its images."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from datetime import datetime, timezone

import docker
from docker.errors import ImageNotFound, NotFound

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine import buildx, classic
from pytest_dockerlab.engine.api import engine_errors, image_config
from pytest_dockerlab.engine.base import BuildOutcome, BuildRequest, EngineInfo, ImageConfig
from pytest_dockerlab.engine.connect import connect
from pytest_dockerlab.errors import EngineUnavailable, ImageUnavailable, InfraError

STOPPED_S = 5.0  # an engine takes about a second to end the step of a build that was stopped


class DockerImages:
    """The connection, what answers there, and images. `engine.docker.DockerEngine` adds containers."""

    def __init__(self, client: docker.DockerClient | None = None) -> None:
        """Connect, unless a connected client is given; raises `EngineUnavailable`."""
        self._client = client or connect()
        self._api = self._client.api
        self._info: EngineInfo | None = None

    @property
    def host(self) -> str:
        """The address for the docker CLI, e.g. `unix:///var/run/docker.sock`."""
        base = str(self._api.base_url)
        # docker-py writes a unix socket as http+docker://localhost; the adapter knows the path.
        if base.startswith("http+docker"):
            adapter = self._api.get_adapter(base)
            return f"unix://{getattr(adapter, 'socket_path', '/var/run/docker.sock')}"
        return base.replace("http://", "tcp://").replace("https://", "tcp://")

    def info(self) -> EngineInfo:
        """Describe the engine; asked once."""
        if self._info is None:
            with engine_errors("asking the engine what it is"):
                version, info = self._api.version(), self._api.info()
            components = [str(item.get("Name", "")) for item in version.get("Components") or []]
            podman = any("podman" in name.lower() for name in components)
            self._info = EngineInfo(
                name="Podman" if podman else "Docker",
                version=str(version.get("Version", "?")),
                api_version=str(version.get("ApiVersion", "?")),
                os=str(info.get("OperatingSystem", "?")),
                architecture=str(info.get("Architecture", "?")),
                cpus=int(info.get("NCPU") or 1),
                memory_bytes=int(info.get("MemTotal") or 0),
                runtimes=tuple(sorted(info.get("Runtimes") or {})),
                cdi_devices=tuple(str(item.get("ID")) for item in info.get("DiscoveredDevices") or []),
                storage_driver=str(info.get("Driver", "")),
                cgroup_version=str(info.get("CgroupVersion", "")),
                cgroup_driver=str(info.get("CgroupDriver", "")),
                builder=_builder(podman, str(version.get("ApiVersion", ""))),
                local=self.host.startswith("unix://"),
                raw=info,
            )
        return self._info

    def build(self, request: BuildRequest, deadline: Deadline, on_output: Callable[[str], None]) -> BuildOutcome:
        """Build with BuildKit, else with the classic builder."""
        if self.info().builder == buildx.NAME:
            return buildx.build(request, deadline, on_output, self.host)
        return self._build_classic(request, deadline, on_output)

    def _build_classic(
        self, request: BuildRequest, deadline: Deadline, on_output: Callable[[str], None]
    ) -> BuildOutcome:
        """Tag each replacement with the name it replaces while the build runs, and put back what the name meant."""
        syntax = classic.needs_buildkit(classic.dockerfile_of(request))
        podman = self.info().name == "Podman"
        # Podman's builder knows some of it, by version, and fails on the rest; Docker's classic one builds it wrongly.
        if syntax and not podman:
            raise InfraError(
                f"The Dockerfile uses {syntax}, which the classic builder would build wrongly.",
                fix=(
                    "Use Engine 23.0 or newer, with BuildKit's client on this machine: the package docker-buildx (or "
                    "docker-buildx-plugin)."
                ),
            )
        before = {name: self.image(name) for name in request.replaced}
        started = datetime.now(timezone.utc).replace(microsecond=0)
        try:
            for name, replacement in request.replaced.items():
                self.tag(replacement, name)
            outcome = classic.build(request, deadline, on_output, self.host)
            self._remove_layers(outcome, started)
            if podman and syntax and classic.podman_lacks(syntax, outcome.error or ""):
                raise InfraError(
                    f"The Dockerfile uses {syntax}, which {self.info()} can't build: {(outcome.error or '')[:200]}",
                    fix="Grade on Docker with its buildx plugin, or on a Podman that builds it.",
                )
            return outcome
        finally:
            for name, config in before.items():
                if config is not None:
                    self.tag(config.image_id, name)
                else:
                    with contextlib.suppress(InfraError):
                        self._untag(name)

    def _remove_layers(self, outcome: BuildOutcome, since: datetime) -> None:
        """Remove what a failed build or an earlier stage left, nameless and without our labels: nobody else would.

        The engine refuses what the built image rests on, and for a moment what a stopped step ran on.
        """
        left = list(outcome.layers)
        for _ in Deadline.after(STOPPED_S if outcome.timed_out else 0).poll(0.5):
            try:
                left = [layer for layer in left if not self._remove_layer(layer, since)]
            except EngineUnavailable:
                return
            if not left:
                return

    def _remove_layer(self, image: str, since: datetime) -> bool:
        """Whether there is nothing left to remove. A step can print any number: only what is new and nameless goes."""
        try:
            with engine_errors("removing a layer of a build"):
                data = self._api.inspect_image(image)  # type: ignore[no-untyped-call]
                created = datetime.fromisoformat(re.sub(r"\.\d+", "", str(data["Created"])).replace("Z", "+00:00"))
                if not data.get("RepoTags") and created >= since:
                    self._api.remove_image(data["Id"], noprune=True)  # older layers may be another's cache
        except ImageUnavailable:
            return True
        except EngineUnavailable:
            raise
        except (InfraError, ValueError):
            return False
        return True

    def _untag(self, name: str) -> None:
        with engine_errors(f"removing the name {name}"), contextlib.suppress(NotFound):
            self._api.remove_image(name, noprune=True)

    def image(self, name: str) -> ImageConfig | None:
        """Inspect an image."""
        with engine_errors(f"looking for the image {name}"):
            try:
                data = self._api.inspect_image(name)  # type: ignore[no-untyped-call]
            except (ImageNotFound, NotFound):
                return None
        return image_config(data)

    def tag(self, image: str, name: str) -> None:
        """`docker tag image name`."""
        repository, _, tag = name.rpartition(":") if ":" in name.rsplit("/", 1)[-1] else (name, "", "latest")
        with engine_errors(f"tagging {image} as {name}"):
            self._api.tag(image, repository, tag, force=True)

    def remove_image(self, name: str) -> None:
        """Remove an image and its untagged parents."""
        with engine_errors(f"removing the image {name}"), contextlib.suppress(NotFound):
            self._api.remove_image(name, force=True)


def _builder(podman: bool, api_version: str) -> str:
    """Return the builder to use. Before Engine 23.0 (API 1.42) BuildKit knows no named contexts, heredocs or --link."""
    major, _, minor = api_version.partition(".")
    old = major.isdigit() and minor.isdigit() and (int(major), int(minor)) < (1, 42)
    return classic.NAME if podman or old or not buildx.buildx_version() else buildx.NAME
