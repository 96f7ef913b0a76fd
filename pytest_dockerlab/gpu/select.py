"""Which GPU a run gets: the option's text, and the choice among those that are here. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from pytest_dockerlab.errors import GpuUnavailable, UsageError
from pytest_dockerlab.gpu.cdi import is_qualified
from pytest_dockerlab.gpu.inventory import Gpu, Inventory, gib

VALID = (
    "auto, none, required, INDEX[,INDEX] (e.g. 0 or 0,1; 0:1 is instance 1 of MIG card 0), UUID (GPU-…, MIG-…)"
    " or a CDI name (vendor/class=name)"
)
_MAX_WANTED = 16


class GpuMode(str, Enum):
    """What `--dockerlab-gpu` asks for."""

    AUTO = "auto"  # the freest GPU, or the CPU
    NONE = "none"
    REQUIRED = "required"  # the freest GPU, or no grade
    LISTED = "listed"  # these GPUs, all of them, or no grade


@dataclass(frozen=True)
class GpuChoice:
    """The parsed option."""

    mode: GpuMode = GpuMode.AUTO
    wanted: tuple[str, ...] = ()  # for LISTED: addresses, UUIDs, CDI names

    def __str__(self) -> str:
        """Return the option's text."""
        return ",".join(self.wanted) if self.mode is GpuMode.LISTED else self.mode.value


def parse(text: str) -> GpuChoice:
    """Return what an option's text asks for; raises `UsageError`, which names what is valid."""
    plain = text.strip()
    if plain.lower() in ("auto", "none", "required"):
        return GpuChoice(GpuMode(plain.lower()))
    wanted = tuple(part.strip() for part in plain.split(","))
    valid = all(
        re.fullmatch(r"[0-9]{1,3}(:[0-9]{1,2})?|(GPU|MIG)-[0-9A-Za-z/-]{4,80}", part) or is_qualified(part)
        for part in wanted
    )
    if not valid or len(set(wanted)) != len(wanted) or len(wanted) > _MAX_WANTED:
        raise UsageError(f"{text!r} names no GPU.", fix=f"Valid: {VALID}.")
    return GpuChoice(GpuMode.LISTED, wanted)


# A run needs one GPU out of each slot; the first of a slot is the one to prefer.
Slot = tuple[Gpu, ...]


def _freest_first(gpus: Sequence[Gpu]) -> Slot:
    # One that does not tell its memory comes last: it may be full.
    return tuple(sorted(gpus, key=lambda gpu: -1 if gpu.free_bytes is None else gpu.free_bytes, reverse=True))


def _matches(gpu: Gpu, wanted: str) -> bool:
    if wanted in (gpu.address, gpu.uuid, gpu.cdi_name):
        return True
    # `nvidia-smi` takes the start of a UUID, too; and a card in MIG mode is there as its instances.
    return (len(wanted) >= 8 and gpu.uuid.startswith(wanted)) or wanted in (str(gpu.index), gpu.mig_parent)


def big_enough(gpu: Gpu, min_memory_bytes: int) -> bool:
    """Whether a GPU could ever have so much free; one that does not tell its size might."""
    return gpu.memory_bytes is None or gpu.memory_bytes >= min_memory_bytes


def free_enough(gpu: Gpu, min_memory_bytes: int) -> bool:
    """Whether a GPU has so much free now; one that does not tell might."""
    return gpu.free_bytes is None or gpu.free_bytes >= min_memory_bytes


def slots(choice: GpuChoice, gpus: Sequence[Gpu], min_memory_bytes: int = 0) -> tuple[Slot, ...]:
    """Return what the run needs, leased or not; empty where it needs or can have nothing.

    For a list, a GPU that is not here or is too small raises `GpuUnavailable`: waiting would not help.
    """
    if choice.mode is GpuMode.NONE:
        return ()
    if choice.mode is not GpuMode.LISTED:
        fitting = _freest_first([gpu for gpu in gpus if big_enough(gpu, min_memory_bytes)])
        return (fitting,) if fitting else ()
    found: list[Slot] = []
    here = ", ".join(gpu.label for gpu in gpus) or "none"
    for wanted in choice.wanted:
        exact = [gpu for gpu in gpus if wanted in (gpu.address, gpu.uuid, gpu.cdi_name)]
        matching = exact or [gpu for gpu in gpus if _matches(gpu, wanted)]
        if not matching:
            raise GpuUnavailable(f"GPU {wanted} is not here. Here: {here}.", fix=f"Use one of these: {VALID}.")
        fitting = _freest_first([gpu for gpu in matching if big_enough(gpu, min_memory_bytes)])
        if not fitting:
            size = gib(matching[0].memory_bytes)
            raise GpuUnavailable(
                f"{matching[0].label} has {size}; the assignment needs {gib(min_memory_bytes)}.",
                fix="Name a larger GPU, or use `auto`.",
            )
        found.append(fitting)
    return tuple(found)


def why_none(choice: GpuChoice, inventory: Inventory, min_memory_bytes: int = 0) -> str:
    """Return, for the results, why a run computes on the CPU; empty where it only had to wait too long."""
    if choice.mode is GpuMode.NONE:
        return "GPUs are switched off (--dockerlab-gpu none)"
    gpus = inventory.gpus()
    if not gpus:
        return f"no GPU here: {inventory.absence()}"
    if not any(big_enough(gpu, min_memory_bytes) for gpu in gpus):
        largest = max(gpus, key=lambda gpu: gpu.memory_bytes or 0)
        return f"no GPU with {gib(min_memory_bytes)}: the largest is {largest.label} with {gib(largest.memory_bytes)}"
    return ""
