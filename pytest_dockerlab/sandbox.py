"""The security profile, as data: limits + image + accelerator → a container. Pure, and golden-tested.

Nothing else in this package decides what a container may do. Measured reasons:

- `/dev/shm` is 64 MiB by default, and a PyTorch DataLoader with workers dies there with a bus error: `shm` is 1 GiB.
- PID 1 ignores SIGTERM unless it asks for it, so every container has an init.
- The image is the student's: what it sets in ENV, LABEL, HEALTHCHECK and ENTRYPOINT that could reach us is overridden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pytest_dockerlab.assignment import Limits, MiB
from pytest_dockerlab.engine.base import ContainerSpec, DeviceGrant, EngineInfo, ImageConfig, Mount
from pytest_dockerlab.errors import InfraError

# memlock and stack as NVIDIA's and PyTorch's images ask for them; core: a crash must not write gigabytes.
ULIMITS = (("memlock", -1, -1), ("stack", 67_108_864, 67_108_864), ("core", 0, 0))

# What an image's ENV could do to the loader, to our init or to NVIDIA's hook (CVE-2025-23266). Empty switches it off.
HARMFUL_ENV = ("LD_PRELOAD", "LD_AUDIT", "NVIDIA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES")

# Capabilities that images need which switch to another user or fix the owners of files at their start, as real ones do.
# All of them only matter inside the container's own files; none opens the host or its network.
START_CAPS = ("CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID", "KILL")


def _env(image: ImageConfig, cpus: float) -> dict[str, str]:
    env = {name: "" for name in HARMFUL_ENV if name in image.env}
    # Without a GPU grant, NVIDIA's runtime (where it is the default one) must give none.
    env["NVIDIA_VISIBLE_DEVICES"] = "void"
    # Python holds its output back when it is no terminal: the losses would all arrive at the end.
    env["PYTHONUNBUFFERED"] = "1"
    if "OMP_NUM_THREADS" not in image.env:
        # OpenMP counts the machine's cores, not the container's share: 64 threads on 2 cpus crawl.
        env["OMP_NUM_THREADS"] = str(max(1, math.floor(cpus)))
    if "OMP_WAIT_POLICY" not in image.env:
        # A share of a busy machine: OpenMP's threads spin while they wait for each other, and use up the quota. An
        # epoch of the reference solution on 2 loaded cores under a quota of 2: 42 s spinning, 11 s with passive waits.
        env["OMP_WAIT_POLICY"] = "passive"
    return env


def runtime_for(choice: str, info: EngineInfo) -> str | None:
    """Return the runtime to ask for; `None` is the engine's default. Raises `InfraError` where the engine lacks it.

    `auto` never picks gVisor by itself: it is slower (16.5 s against 13 s for an MNIST epoch), and its use of GPUs has
    to be set up. Who wants it for all makes it the engine's default, or says `runsc`, which is then required.
    """
    if choice == "auto":
        return None
    if choice in info.runtimes:
        return choice
    fix = "Use --dockerlab-runtime auto."
    if choice == "runsc":
        fix = (
            "Install gVisor (https://gvisor.dev/docs/user_guide/install/; Debian 13 has a package runsc), name it in "
            'the engine\'s daemon.json: {"runtimes": {"runsc": {"path": "/usr/bin/runsc", "runtimeArgs": '
            '["--platform=systrap", "--network=none"]}}}, restart the engine; or use --dockerlab-runtime auto.'
        )
    known = ", ".join(info.runtimes) or "none"
    raise InfraError(f"The runtime {choice} was asked for, which {info} does not have (it has {known}).", fix=fix)


def training(
    image_name: str,
    image: ImageConfig,
    limits: Limits,
    labels: Mapping[str, str],
    mounts: tuple[Mount, ...] = (),
    grant: DeviceGrant | None = None,
    network: str = "none",
    runtime: str | None = None,
) -> ContainerSpec:
    """Return the container that trains: the image's own command, no network, the assignment's limits."""
    grant = grant or DeviceGrant()
    return ContainerSpec(
        image=image_name,
        labels=labels,
        network=network,
        memory_bytes=limits.memory,
        cpus=limits.cpus,
        pids=limits.pids,
        shm_bytes=limits.shm,
        env=_env(image, limits.cpus) | dict(grant.env),
        mounts=mounts,
        ulimits=ULIMITS,
        cap_add=START_CAPS,
        grant=grant,
        runtime=runtime,
    )


def server(
    image_name: str,
    image: ImageConfig,
    limits: Limits,
    labels: Mapping[str, str],
    client: str,
    grant: DeviceGrant | None = None,
    command: tuple[str, ...] | None = None,
    entrypoint: tuple[str, ...] | None = None,
    mounts: tuple[Mount, ...] = (),
    env: Mapping[str, str] | None = None,
) -> ContainerSpec:
    """Return the container that serves: joined to the network of our client container, which has no way out."""
    grant = grant or DeviceGrant()
    return ContainerSpec(
        image=image_name,
        labels=labels,
        network=f"container:{client}",
        memory_bytes=limits.memory,
        cpus=limits.cpus,
        pids=limits.pids,
        shm_bytes=limits.shm,
        entrypoint=entrypoint,
        command=command,
        env=_env(image, limits.cpus) | dict(grant.env) | dict(env or {}),
        mounts=mounts,
        ulimits=ULIMITS,
        cap_add=START_CAPS,
        grant=grant,
    )


def client(image_name: str, labels: Mapping[str, str], max_s: float) -> ContainerSpec:
    """Return our own container that holds the network and the client: it sleeps, and ends by itself after `max_s`."""
    return ContainerSpec(
        image=image_name,
        labels=labels,
        network="none",
        memory_bytes=256 * MiB,
        cpus=1.0,
        pids=64,
        shm_bytes=MiB,
        entrypoint=("sleep",),
        command=(str(math.ceil(max_s)),),
        read_only=True,
        tmpfs={"/tmp": "size=16m"},  # noqa: S108  # inside our container
        user="65534:65534",
    )


def probe(image_name: str, labels: Mapping[str, str]) -> ContainerSpec:
    """Return a container that is created and never started, to look at the files of an image."""
    return ContainerSpec(
        image=image_name,
        labels=labels,
        network="none",
        memory_bytes=64 * MiB,
        cpus=0.1,
        pids=16,
        shm_bytes=MiB,
        entrypoint=("true",),
        command=(),
    )


def data_targets(workdir: str) -> list[str]:
    """Return where the course's scripts look for data: `<WORKDIR>/../data`, `<WORKDIR>/data` and `/data`.

    Never the WORKDIR itself or a folder above it: a mount there would hide the student's own files.
    """
    home = PurePosixPath("/" + workdir.strip("/"))
    targets = [home.parent / "data", home / "data", PurePosixPath("/data")]
    chosen = [target for target in dict.fromkeys(targets) if target != home and target not in home.parents]
    # The kernel's folders take no mounts, and a colon would end the target in the engine's way of writing a bind.
    return [
        str(target) for target in chosen if target.parts[1] not in ("proc", "sys", "dev") and ":" not in str(target)
    ]


def data_mounts(folder: Path, targets: list[str]) -> tuple[Mount, ...]:
    """Return read-only mounts of one folder at each target."""
    return tuple(Mount(folder, target, read_only=True) for target in targets)
