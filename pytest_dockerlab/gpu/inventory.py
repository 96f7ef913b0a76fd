"""What GPUs are here, whoever makes them: a record, a protocol, and the inventory that joins the makers' lists.

The makers' own lists are next door: `nvml` (NVIDIA), `rocm` (AMD), `cdi` (whatever the engine lists), and `fake`, which
keeps the same contract for tests (`tests/unit/gpu/test_inventory_contract.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

Kind = Literal["nvidia", "rocm", "cdi"]

GIB = 2**30


@dataclass(frozen=True)
class Gpu:
    """One thing that a container can be given to compute on. `None` means "its maker does not say".

    `uuid` is the identity: leases are taken by it, so it has to be the same in every process of the machine.
    """

    kind: Kind
    index: int  # as `nvidia-smi` counts; an instance of a MIG card has its card's index
    uuid: str
    name: str
    memory_bytes: int | None = None
    free_bytes: int | None = None
    driver: str | None = None
    cuda: tuple[int, int] | None = None  # the newest CUDA that the driver supports, e.g. (12, 4)
    mig_parent: str | None = None  # the UUID of the card that this is an instance of
    mig_index: int | None = None
    brand: str | None = None  # `tesla`, `geforce`, …: NVIDIA's requirements on images speak of it
    nodes: tuple[str, ...] = ()  # ROCm: the device files that make this GPU usable
    groups: tuple[int, ...] = ()  # ROCm: the groups that may open them
    cdi_name: str | None = None  # CDI: `vendor/class=name`

    @property
    def address(self) -> str:
        """How a person names it: `0`, or `0:1` for the second instance of card 0."""
        return str(self.index) if self.mig_index is None else f"{self.index}:{self.mig_index}"

    @property
    def label(self) -> str:
        """How a message names it."""
        return f"GPU {self.address} ({self.name}, {self.uuid})"


class Inventory(Protocol):
    """A list of GPUs. No method raises because of what the machine lacks."""

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs as they are now, in a stable order; addresses and UUIDs are unique."""

    def absence(self) -> str:
        """Return why `gpus()` is empty, as the rest of a sentence; empty where it is not."""

    def users(self, gpu: Gpu) -> dict[int, int | None] | None:
        """Return the host's process ids on this GPU with their bytes there (`None`: unknown).

        The whole is `None` where nobody can tell who uses the GPU, which is not the same as nobody.
        """


class HostInventory:
    """Several inventories as one: each GPU once, addresses unique.

    A CDI device that only is another way to ask for a card that NVML or ROCm lists is left out: with two identities,
    two runs could hold the same card.
    """

    # Which maker's own list makes a CDI kind redundant.
    COVERED_BY: ClassVar[dict[str, Kind]] = {"nvidia.com/gpu": "nvidia", "amd.com/gpu": "rocm"}

    def __init__(self, parts: Sequence[Inventory]) -> None:
        """Take the makers' lists, the ones with most to tell first."""
        self._parts = tuple(parts)

    def _covered_by(self, gpu: Gpu) -> Kind | None:
        return self.COVERED_BY.get((gpu.cdi_name or "").partition("=")[0])

    def _listed(self) -> list[tuple[Gpu, Inventory]]:
        listed: list[tuple[Gpu, Inventory]] = []
        for part in self._parts:
            kinds = {gpu.kind for gpu, _ in listed}
            uuids = {gpu.uuid for gpu, _ in listed}
            fresh = [gpu for gpu in part.gpus() if gpu.uuid not in uuids and self._covered_by(gpu) not in kinds]
            if listed:  # only the first maker's indexes are `nvidia-smi`'s: the others count on from there
                start = max(gpu.index for gpu, _ in listed) + 1
                fresh = [replace(gpu, index=start + position) for position, gpu in enumerate(fresh)]
            listed.extend((gpu, part) for gpu in fresh)
        return listed

    def gpus(self) -> tuple[Gpu, ...]:
        """Return every part's GPUs, each once."""
        return tuple(gpu for gpu, _ in self._listed())

    def absence(self) -> str:
        """Return every part's reason."""
        listed = self._listed()
        reasons = [reason for reason in (part.absence() for part in self._parts) if reason]
        return "" if listed else "; ".join(dict.fromkeys(reasons)) or "no list of GPUs was asked"

    def users(self, gpu: Gpu) -> dict[int, int | None] | None:
        """Ask the part that listed the GPU."""
        for listed, part in self._listed():
            if listed.uuid == gpu.uuid:
                return part.users(gpu)
        return None


def gib(size: int | None) -> str:
    """Return a size as a person reads it, e.g. `7.5 GiB`."""
    return "? GiB" if size is None else f"{size / GIB:.1f} GiB"
