"""Docker's API through docker-py; Podman's Docker API answers to the same calls.

Low-level calls only: the high-level `containers.run()` leaks a created container when its start fails.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import PurePosixPath
from types import TracebackType
from typing import IO, Any

import docker
import ijson
import requests
import urllib3
from docker.errors import APIError, NotFound
from docker.types import DeviceRequest, LogConfig, Ulimit

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.api import engine_errors, usage_of
from pytest_dockerlab.engine.base import (
    ContainerSpec,
    ContainerState,
    ExecResult,
    Owned,
    Usage,
)
from pytest_dockerlab.engine.docker_images import DockerImages
from pytest_dockerlab.engine.exec import run_exec
from pytest_dockerlab.engine.labels import RUN
from pytest_dockerlab.errors import EngineUnavailable, InfraError, StudentError

# The log that the engine keeps is only a second copy (ours is pumped live), so it is small: a container that writes
# 2 MB of "y\n" makes a json log of 72 MB.
LOG_CONFIG = LogConfig(type="json-file", config={"max-size": "10m", "max-file": "1"})
# To a container with any limit of its own, Podman as root gives a million files and processes on top, whatever its
# configuration says; without CAP_SYS_RESOURCE that fails too ("error setting rlimit type 7").
PODMAN_ULIMITS = (("nofile", 4096, 4096), ("nproc", 4096, 4096))
SETTLE_S = 2.0  # how long Podman may take to say how a container ended


@contextlib.contextmanager
def _command_missing() -> Iterator[None]:
    """Tell an image without CMD and ENTRYPOINT from a fault of the engine's."""
    try:
        yield
    except InfraError as error:
        if "no command specified" in str(error).lower():
            raise StudentError("The image has no command to run.", fix="Add a CMD to the Dockerfile.") from error
        raise


class DockerEngine(DockerImages):
    """`Engine` over Docker's API. Safe to use from several threads."""

    def __init__(self, client: docker.DockerClient | None = None) -> None:
        """Connect, unless a connected client is given; raises `EngineUnavailable`."""
        super().__init__(client)
        self._memlock: bool | None = None

    def create(self, spec: ContainerSpec, name: str | None = None) -> str:
        """Create from a spec, with nothing added to it."""
        with _command_missing(), engine_errors(f"creating a container of {spec.image}"):
            made = self._api.create_container(
                image=spec.image,
                name=name,
                command=list(spec.command) if spec.command is not None else None,
                entrypoint=list(spec.entrypoint) if spec.entrypoint is not None else None,
                environment=dict(spec.env) | dict(spec.grant.env),
                labels=dict(spec.labels),
                user=spec.user,
                hostname=spec.hostname,
                healthcheck={"test": ["NONE"]},
                stop_signal="SIGTERM",
                host_config=self._host_config(spec),
            )
        return str(made["Id"])

    def _host_config(self, spec: ContainerSpec) -> dict[str, Any]:
        grant = spec.grant
        binds = [f"{mount.source}:{mount.target}:{'ro' if mount.read_only else 'rw'}" for mount in spec.mounts]
        config: dict[str, Any] = self._api.create_host_config(
            network_mode=spec.network,
            binds=binds,
            mem_limit=spec.memory_bytes,
            memswap_limit=spec.memory_bytes,  # equal to the memory: no swap on top
            nano_cpus=int(spec.cpus * 1e9),
            pids_limit=spec.pids,
            shm_size=spec.shm_bytes,
            ulimits=[Ulimit(name=kind, soft=soft, hard=hard) for kind, soft, hard in self._granted_ulimits(spec)],
            cap_drop=list(spec.cap_drop),
            cap_add=list(spec.cap_add),
            security_opt=list(spec.security_opt),
            read_only=spec.read_only,
            init=spec.init,
            runtime=spec.runtime,  # here: `create_container(runtime=)` puts it where engines ignore it
            tmpfs=dict(spec.tmpfs),
            extra_hosts=dict(spec.extra_hosts) or None,
            log_config=LOG_CONFIG,
            device_requests=[DeviceRequest(**request) for request in grant.device_requests] or None,
            devices=list(grant.devices) or None,
            group_add=list(grant.group_add) or None,
        )
        return config

    def _granted_ulimits(self, spec: ContainerSpec) -> tuple[tuple[str, int, int], ...]:
        """Leave out an unlimited memlock where the engine itself is limited: every start would fail.

        Seen on a dockerd without CAP_SYS_RESOURCE: "error setting rlimit type 8: operation not permitted". Only a start
        tells, so a container that does nothing is started once for each connection.
        """
        wanted = [limit for limit in spec.ulimits if limit[0] == "memlock"]
        if not wanted:
            return spec.ulimits
        if self._memlock is None:
            self._memlock = True  # for the container that tries it
            trial = self.create(replace(spec, network="none", entrypoint=("true",), command=(), mounts=()))
            try:
                self._api.start(trial)
            except APIError as error:
                self._memlock = "rlimit" not in str(error.explanation)
            finally:
                self.remove(trial)
        if self._memlock:
            return spec.ulimits
        lower = PODMAN_ULIMITS if self.info().name == "Podman" else ()
        return (*(limit for limit in spec.ulimits if limit not in wanted), *lower)

    def start(self, container: str) -> str | None:
        """Start; the engine's words where the image's own command is at fault."""
        try:
            with engine_errors("starting a container"):
                self._api.start(container)
        except EngineUnavailable:
            raise
        except InfraError as error:
            words = str(error.__cause__.explanation) if isinstance(error.__cause__, APIError) else str(error)
            # runc's words for a command that is not there, or is no program: the image's fault, not the engine's.
            # A limit that this machine can't set is "permission denied" too, and is ours.
            if "rlimit" not in words and any(
                clue in words
                for clue in (
                    "executable file not found",
                    "no such file",
                    "permission denied",
                    "exec format error",
                    "is a directory",
                    "unable to find user",
                    "unable to find group",
                    "not a directory",
                    "argument list too long",
                    "too many levels of symbolic links",
                )
            ):
                return words
            raise
        return None

    def state(self, container: str) -> ContainerState:
        """Inspect."""
        for _ in Deadline.after(SETTLE_S).poll(0.1):
            with engine_errors("looking at a container"):
                state = self._api.inspect_container(container)["State"]
            # Podman's own word for a container that ended and whose exit it has not looked into yet.
            if state.get("Status") != "stopped":
                break
        running = bool(state.get("Running"))
        return ContainerState(
            running=running,
            exit_code=None if running else int(state.get("ExitCode") or 0),
            oom_killed=bool(state.get("OOMKilled")),
            error=str(state.get("Error") or ""),
            status="exited" if state.get("Status") == "stopped" else str(state.get("Status") or ""),
            pid=int(state.get("Pid") or 0),
        )

    def output(self, container: str) -> Iterator[bytes]:
        """Attach where it is still to be started: the connection is open when this returns, so nothing is lost.

        Attaching to a container that has ended waits for a next start, for ever: there, the engine's own log is read,
        which is capped and ends.
        """
        created = self.state(container).status == "created"
        with engine_errors("attaching to a container"):
            if created:
                stream = self._api.attach(container, stdout=True, stderr=True, stream=True, logs=True)
            else:
                stream = self._api.logs(container, stdout=True, stderr=True, stream=True, follow=True)

        def chunks() -> Iterator[bytes]:
            # A connection that breaks ends the output; whether the container ended is `state`'s to say.
            with contextlib.suppress(requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
                yield from stream

        return chunks()

    def usage(self, container: str) -> Usage:
        """Ask for one sample of the engine's statistics."""
        with engine_errors("measuring a container"):
            try:
                data = self._api.stats(container, stream=False, one_shot=True)
            except (NotFound, requests.exceptions.JSONDecodeError):  # Podman answers nothing where it can't measure
                return Usage()
        return usage_of(data)

    def pids(self, container: str) -> list[int]:
        """`docker top`."""
        try:
            with engine_errors("listing a container's processes"):
                top = self._api.top(container)
        except EngineUnavailable:
            raise
        except InfraError:  # it ended meanwhile
            return []
        column = [title.upper() for title in top["Titles"]].index("PID")
        return [int(row[column]) for row in top["Processes"] or []]

    def written_bytes(self, container: str) -> int | None:
        """Ask the engine to measure the writable layer and the volumes; it walks their files, so ask seldom."""
        with engine_errors("measuring what a container wrote"):
            rows = self._api.containers(all=True, size=True, filters={"id": container})
            if not rows:
                return None
            volumes = {row.get("Name") for row in rows[0].get("Mounts") or [] if row.get("Type") == "volume"}
            return int(rows[0].get("SizeRw") or 0) + (self._volume_bytes(volumes) if volumes else 0)

    def _volume_bytes(self, names: set[str]) -> int:
        """Return the size of volumes, as `docker system df` tells it: nothing else counts them, and they have no quota.

        Engines before API 1.42 ignore `type` and measure everything; `Watch` then asks less often.
        """
        api: Any = self._api  # its own `df` has no such parameter
        data = api._result(api._get(api._url("/system/df"), params={"type": "volume"}), True)
        rows = [row for row in data.get("Volumes") or [] if row.get("Name") in names]
        # -1: the engine can't tell.
        return sum(max(0, int((row.get("UsageData") or {}).get("Size") or 0)) for row in rows)

    def kill(self, container: str) -> None:
        """SIGKILL."""
        try:
            with engine_errors("ending a container"):
                self._api.kill(container)
        except EngineUnavailable:
            raise
        except InfraError as error:
            if not isinstance(error.__cause__, APIError) or error.__cause__.status_code not in (404, 409, 500):
                raise

    def changes(self, container: str) -> Iterator[tuple[str, str]]:
        """`docker diff`, row by row: docker-py's own would hold all of them, several hundred bytes each."""
        doing = "listing what a container changed"
        api: Any = self._api
        with engine_errors(doing):
            response = api._get(api._url("/containers/{0}/changes", container), stream=True)
            api._raise_for_status(response)

        def rows() -> Iterator[tuple[str, str]]:
            kinds = {0: "modified", 1: "added", 2: "deleted"}
            with contextlib.closing(response), engine_errors(doing):
                for row in ijson.items(response.raw, "item"):
                    yield str(row["Path"]), kinds[int(row["Kind"])]

        return rows()

    def mounts(self, container: str) -> list[str]:
        """Inspect, for its volumes: those that the image declares."""
        with engine_errors("looking for a container's volumes"):
            rows = self._api.inspect_container(container).get("Mounts") or []
        return sorted(str(row["Destination"]) for row in rows if row.get("Type") == "volume")

    def read(self, container: str, path: str) -> Iterator[bytes] | None:
        """`docker cp`, as a stream."""
        doing = f"reading {PurePosixPath(path).name!r} from a container"
        with engine_errors(doing):
            try:
                stream, _ = self._api.get_archive(container, path, chunk_size=1 << 18)
            except NotFound:
                return None

        def chunks() -> Iterator[bytes]:
            with engine_errors(doing):
                yield from stream

        return chunks()

    def put(self, container: str, folder: str, archive: bytes | IO[bytes]) -> None:
        """`docker cp` the other way."""
        with engine_errors("writing into a container"):
            self._api.put_archive(container, folder, archive)

    def exec(
        self,
        container: str,
        argv: tuple[str, ...],
        stdin: bytes | Iterable[bytes],
        deadline: Deadline,
        max_output: int,
    ) -> ExecResult:
        """`docker exec -i`."""
        with engine_errors("running a command of ours in a container"):
            return run_exec(self._api, container, argv, stdin, deadline, max_output)

    def remove(self, container: str) -> None:
        """`docker rm -f -v`."""
        with engine_errors("removing a container"), contextlib.suppress(NotFound):
            try:
                self._api.remove_container(container, v=True, force=True)
            except APIError as error:
                if error.status_code != 409:  # 409: a removal is already under way
                    raise

    # -- what is ours

    def owned(self, run_id: str | None = None) -> list[Owned]:
        """List by label."""
        label = f"{RUN}={run_id}" if run_id else RUN
        query: dict[str, Any] = {"filters": {"label": label}}
        with engine_errors("listing what is ours"):
            found = [
                Owned(
                    "container",
                    row["Id"],
                    (row.get("Names") or ["?"])[0].lstrip("/"),
                    row.get("Labels") or {},
                    created=float(row.get("Created") or 0),
                )
                for row in self._api.containers(all=True, **query)
            ]
            found += [
                Owned(
                    "image",
                    row["Id"],
                    # Podman writes the registry's name, which Docker leaves out.
                    (row.get("RepoTags") or ["<none>"])[0].removeprefix("docker.io/"),
                    row.get("Labels") or {},
                    bytes=int(row.get("Size") or 0),
                    created=float(row.get("Created") or 0),
                )
                for row in self._api.images(all=False, **query)
            ]
            found += [
                Owned("network", row["Id"], row["Name"], row.get("Labels") or {}) for row in self._api.networks(**query)
            ]
            volumes = self._api.volumes(**query).get("Volumes") or []
            found += [Owned("volume", row["Name"], row["Name"], row.get("Labels") or {}) for row in volumes]
        return found

    def remove_owned(self, thing: Owned) -> None:
        """Remove by kind."""
        if thing.kind == "container":
            self.remove(thing.id)
            return
        if thing.kind == "image":
            self.remove_image(thing.id)
            return
        with engine_errors(f"removing the {thing.kind} {thing.name}"), contextlib.suppress(NotFound):
            if thing.kind == "network":
                self._api.remove_network(thing.id)
            else:
                self._api.remove_volume(thing.id, force=True)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> DockerEngine:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()
