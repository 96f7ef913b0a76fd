"""What the engine can give to a container, and how: NVIDIA's runtime, CDI, or plain device files."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.gpu.cdi import NVIDIA, CdiInventory
from pytest_dockerlab.gpu.inventory import Gpu, HostInventory, Inventory
from pytest_dockerlab.gpu.nvml import NvmlInventory
from pytest_dockerlab.gpu.rocm import RocmInventory

Way = Literal["nvidia", "cdi", "rocm"]

_HOOK = "nvidia-container-runtime-hook"


@dataclass(frozen=True)
class EngineSupport:
    """What of the engine matters for GPUs, as data: `request` and `preflight` decide from it alone."""

    runtimes: tuple[str, ...] = ()
    cdi_folders: tuple[str, ...] = ()  # empty: the engine has CDI switched off
    cdi_devices: tuple[str, ...] = ()
    nvidia_hook: bool = False  # dockerd finds it by itself, also where no runtime `nvidia` is configured
    toolkit: tuple[int, int, int] | None = None  # None: not seen
    version: str = ""
    podman: bool = False
    local: bool = True  # an engine elsewhere has GPUs of its own, which NVML here does not list

    def cdi_name(self, gpu: Gpu) -> str | None:
        """Return the CDI name under which the engine gives exactly this GPU, or `None`."""
        if gpu.cdi_name:
            return gpu.cdi_name
        if gpu.kind == "nvidia":
            instance = "gpu" if gpu.mig_index is None else "mig"
            names = [f"{NVIDIA}={name}" for name in (gpu.uuid, gpu.address, f"{instance}{gpu.address}")]
            return next((name for name in names if name in self.cdi_devices), None)
        return None

    def way(self, gpu: Gpu) -> Way | None:
        """Return how the engine can give this GPU to a container, or `None` where it can't."""
        if gpu.kind == "rocm":
            return "rocm" if gpu.nodes else None
        if gpu.kind == "nvidia" and ("nvidia" in self.runtimes or self.nvidia_hook):
            return "nvidia"
        return "cdi" if self.cdi_name(gpu) else None


def support_from_info(
    info: Mapping[str, Any],
    *,
    local: bool = True,
    cdi_devices: tuple[str, ...] = (),
    nvidia_hook: bool = False,
    toolkit: tuple[int, int, int] | None = None,
) -> EngineSupport:
    """Return the record from the engine's `info`; what is not in there comes as arguments. Pure."""
    # Podman ignores device requests without a word (podman#22645): its hook and runtimes count for nothing here.
    podman = "BuildahVersion" in info
    return EngineSupport(
        runtimes=() if podman else tuple(sorted(info.get("Runtimes") or {})),
        cdi_folders=tuple(info.get("CDISpecDirs") or ()),
        cdi_devices=() if podman else cdi_devices,
        nvidia_hook=nvidia_hook and local and not podman,
        toolkit=toolkit,
        version=str(info.get("ServerVersion") or ""),
        podman=podman,
        local=local,
    )


def discovered(info: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the names of the CDI devices that the engine itself found; `None` from engines before 28.3."""
    devices = info.get("DiscoveredDevices")
    if devices is None:
        return None
    return tuple(str(device.get("ID")) for device in devices if device.get("Source") == "cdi")


def parse_toolkit_version(text: str) -> tuple[int, int, int] | None:
    """Return the version out of what `nvidia-ctk --version` prints."""
    match = re.search(r"version\s+v?(\d+)\.(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else None


def toolkit_version(deadline: Deadline) -> tuple[int, int, int] | None:
    """Return the version of NVIDIA's container toolkit on this machine, or `None` where it is not seen."""
    command = shutil.which("nvidia-ctk")
    if command is None:
        return None
    try:
        done = subprocess.run([command, "--version"], capture_output=True, timeout=deadline.remaining_s, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_toolkit_version(done.stdout.decode("utf-8", "replace")[:4096])


class EngineInventory:
    """The GPUs that the engine can give to a container, out of those that are here."""

    def __init__(self, host: Inventory, support: EngineSupport) -> None:
        """Take all GPUs, and what the engine can do."""
        self._host = host
        self.support = support

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs that a container can get."""
        return tuple(gpu for gpu in self._host.gpus() if self.support.way(gpu))

    def here(self) -> tuple[Gpu, ...]:
        """Return all GPUs of the machine, also those that no container can get."""
        return self._host.gpus()

    def absence(self) -> str:
        """Return what is missing: the GPU, or the engine's way to give it."""
        if self.gpus():
            return ""
        here = self._host.gpus()
        if not here:
            return self._host.absence()
        why = (
            "Podman's API ignores the request" if self.support.podman else "it has no NVIDIA runtime and no CDI device"
        )
        return f"{here[0].label} is here, but the engine can't give it to a container: {why}"

    def users(self, gpu: Gpu) -> dict[int, int | None] | None:
        """Ask the host's inventory."""
        return self._host.users(gpu)


def look(info: Mapping[str, Any], deadline: Deadline, *, local: bool = True) -> EngineInventory:
    """Return what the engine can give, from its `info` and, for an engine on this machine, from the machine.

    `local` is false for an engine behind `tcp://` or `ssh://`: only what it lists itself counts then.
    """
    named = discovered(info)
    cdi = CdiInventory(tuple(info.get("CDISpecDirs") or ()) if local else (), named)
    support = support_from_info(
        info,
        local=local,
        cdi_devices=tuple(device.name for device in cdi.devices()),
        nvidia_hook=local and shutil.which(_HOOK) is not None,
        toolkit=toolkit_version(deadline) if local else None,
    )
    host = HostInventory([NvmlInventory(), RocmInventory(), cdi] if local else [cdi])
    return EngineInventory(host, support)
