"""An inventory for tests and demonstrations: it says what it is told, and keeps the contract of the real ones."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from pytest_dockerlab.gpu.inventory import GIB, Gpu


class FakeInventory:
    """GPUs that exist only on paper. Picklable, so that spawned processes can race for them."""

    def __init__(self, gpus: Iterable[Gpu] = (), absence: str = "no GPU here (a fake inventory)") -> None:
        """Take the GPUs to list, and the reason to give for an empty list."""
        self._gpus = {gpu.uuid: gpu for gpu in gpus}
        self._absence = absence
        self._users: dict[str, dict[int, int | None] | None] = {}

    @classmethod
    def of(cls, count: int, memory_bytes: int = 8 * GIB) -> FakeInventory:
        """Return an inventory of `count` like cards."""
        return cls(
            Gpu("nvidia", index, f"GPU-fake-{index:04}", "Fake GPU", memory_bytes, memory_bytes, "550.54.14", (12, 4))
            for index in range(count)
        )

    def use(self, uuid: str, users: Mapping[int, int | None] | None) -> None:
        """Say who uses a GPU from now on; `None`: nobody can tell. What they use is no longer free."""
        gpu = self._gpus[uuid]
        self._users[uuid] = None if users is None else dict(users)
        if gpu.memory_bytes is not None:
            taken = sum(size or 0 for size in (users or {}).values())
            self._gpus[uuid] = replace(gpu, free_bytes=max(0, gpu.memory_bytes - taken))

    def remove(self, uuid: str) -> None:
        """Take a GPU away, as a card that fell off the bus."""
        del self._gpus[uuid]

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs, in the order given."""
        return tuple(self._gpus.values())

    def absence(self) -> str:
        """Return the reason given."""
        return "" if self._gpus else self._absence

    def users(self, gpu: Gpu) -> dict[int, int | None] | None:
        """Return what `use` was told; nobody, where it was told nothing."""
        if gpu.uuid not in self._gpus:
            return None
        users = self._users.get(gpu.uuid, {})
        return None if users is None else dict(users)
