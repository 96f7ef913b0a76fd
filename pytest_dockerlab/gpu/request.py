"""From held GPUs to what the container's specification gets. Pure, so that it is reviewed and tested as data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.gpu.inventory import Gpu
from pytest_dockerlab.gpu.support import EngineSupport

# Enough to compute and for `nvidia-smi`; an image's ENV may ask for more (graphics, display), which no lab needs.
_CAPABILITIES = ["gpu", "compute", "utility"]


@dataclass(frozen=True)
class AcceleratorRequest:
    """What docker-py's `HostConfig` and `environment` get.

    `env` has to win over the image's own: with NVIDIA's runtime as the engine's default, an image that says
    `NVIDIA_VISIBLE_DEVICES=all` would otherwise see every card.
    """

    device_requests: tuple[dict[str, Any], ...] = ()
    devices: tuple[str, ...] = ()
    group_add: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    description: str = "CPU"


def request(gpus: Sequence[Gpu], support: EngineSupport) -> AcceleratorRequest:
    """Return the request for exactly these GPUs; none of them means the CPU, with the image's wishes overruled.

    Raises `GpuUnavailable` for a GPU that the engine has no way to give.
    """
    ways = {gpu.uuid: support.way(gpu) for gpu in gpus}
    for gpu in gpus:
        if ways[gpu.uuid] is None:
            raise GpuUnavailable(
                f"The engine has no way to give {gpu.label} to a container.",
                fix="Install the vendor's container toolkit, or switch CDI on; `dockerlab doctor` tells which.",
            )
    nvidia = [gpu.uuid for gpu in gpus if ways[gpu.uuid] == "nvidia"]
    cdi = [name for gpu in gpus if ways[gpu.uuid] == "cdi" and (name := support.cdi_name(gpu))]
    rocm = [gpu for gpu in gpus if ways[gpu.uuid] == "rocm"]
    requests: list[dict[str, Any]] = []
    if nvidia:
        requests.append(_device_request("nvidia", nvidia, [_CAPABILITIES]))
    if cdi:
        requests.append(_device_request("cdi", cdi, []))
    # `void`: NVIDIA's runtime adds nothing of its own, neither to the CPU's containers nor to what CDI gives.
    env = {"NVIDIA_VISIBLE_DEVICES": ",".join(nvidia) or "void"}
    if nvidia:
        env["NVIDIA_DRIVER_CAPABILITIES"] = ",".join(_CAPABILITIES[1:])
    if gpus:
        # Inside, GPUs count from 0: an image made for card 2 of a server (`ENV CUDA_VISIBLE_DEVICES=2`) would see none.
        env["CUDA_VISIBLE_DEVICES"] = ",".join(str(index) for index in range(len(gpus)))
    if rocm:
        env["HIP_VISIBLE_DEVICES"] = ",".join(str(index) for index in range(len(rocm)))
    nodes = dict.fromkeys(node for gpu in rocm for node in gpu.nodes)
    # By number: a name is looked up in the image, which may have no group `render`, and the start would fail.
    groups = dict.fromkeys(str(group) for gpu in rocm for group in gpu.groups) or dict.fromkeys(
        ("video", "render") if rocm else ()
    )
    how = {"nvidia": "NVIDIA's runtime", "cdi": "CDI", "rocm": "ROCm's device files"}
    told = [f"{gpu.label} by {how[way]}" for gpu in gpus if (way := ways[gpu.uuid]) is not None]
    return AcceleratorRequest(
        device_requests=tuple(requests),
        devices=tuple(f"{node}:{node}:rw" for node in nodes),
        group_add=tuple(groups),
        env=env,
        description=", ".join(told) or "CPU",
    )


def _device_request(driver: str, ids: Sequence[str], capabilities: list[list[str]]) -> dict[str, Any]:
    """Return what `docker.types.DeviceRequest(**…)` and the engine's API take. A count would mean "any"."""
    return {"Driver": driver, "Count": 0, "DeviceIDs": list(ids), "Capabilities": capabilities, "Options": {}}
