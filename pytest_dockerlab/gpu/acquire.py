"""The one entry: a choice, an inventory and a deadline in, a held GPU out, or the CPU with its reason."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.facts import Accelerator
from pytest_dockerlab.gpu.inventory import Inventory
from pytest_dockerlab.gpu.lease import POLL_S, Lease, hold
from pytest_dockerlab.gpu.locks import LocksUnusable
from pytest_dockerlab.gpu.select import GpuChoice, GpuMode, Slot, slots, why_none


@contextlib.contextmanager
def acquire(
    choice: GpuChoice,
    inventory: Inventory,
    deadline: Deadline,
    say: Callable[[str], None],
    *,
    run_id: str = "",
    min_memory_bytes: int = 0,
    folder: Path | None = None,
    poll_s: float = POLL_S,
) -> Iterator[Lease | None]:
    """Hold what the choice asks for while the block runs; `None` means the CPU, and `say` was told why.

    Nobody else on this machine holds one of these GPUs meanwhile. With `required` or a list, what cannot be had raises
    `GpuUnavailable` (infra); `auto` then computes on the CPU, also where every GPU stayed busy until the deadline. A
    folder of leases that can't be used is infra for `auto`, too: a fallback would hide it from all later runs.
    The deadline is for the wait, not for the hold. `folder` and `poll_s` are for tests.
    """

    def needs() -> tuple[Slot, ...]:
        found = slots(choice, inventory.gpus(), min_memory_bytes)
        if not found:
            raise GpuUnavailable(
                f"No GPU can be used ({why_none(choice, inventory, min_memory_bytes)}).",
                fix="`dockerlab doctor` tells what is missing; --dockerlab-gpu auto falls back to the CPU.",
            )
        return found

    if choice.mode is GpuMode.NONE:
        yield None
        return
    lease: Lease | None = None
    try:
        lease = hold(
            needs, deadline, say, run_id=run_id, min_memory_bytes=min_memory_bytes, folder=folder, poll_s=poll_s
        )
    except LocksUnusable:  # `auto` must not hide this: a machine would grade on the CPU from then on
        raise
    except GpuUnavailable as error:
        if choice.mode is not GpuMode.AUTO:
            raise
        say(f"{error.message} The run uses the CPU.")
    if lease is None:
        yield None
        return
    with lease:
        yield lease


def accelerator(lease: Lease | None, choice: GpuChoice, inventory: Inventory, min_memory_bytes: int = 0) -> Accelerator:
    """Return the fact for the results: what the container gets, and why."""
    if lease is None:
        why = why_none(choice, inventory, min_memory_bytes) or "every GPU stayed busy until the wait was over"
        return Accelerator(kind="cpu", reason=why)
    waited = f", after {lease.waited_s:.0f} s of waiting" if lease.waited_s >= 1 else ""
    asked = {GpuMode.AUTO: "the freest GPU", GpuMode.REQUIRED: "the freest GPU, required"}
    return Accelerator(
        kind=lease.gpus[0].kind,
        name=", ".join(gpu.name for gpu in lease.gpus),
        uuid=",".join(lease.uuids),
        reason=asked.get(choice.mode, f"asked for: {choice}") + waited,
    )
