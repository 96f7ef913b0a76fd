"""NVIDIA's GPUs, by NVML. Needs `nvidia-ml-py` (extra `gpu`) and NVIDIA's driver; lists nothing without them."""

from __future__ import annotations

import importlib
import os
from typing import Any

from pytest_dockerlab.gpu.inventory import Gpu

# NVML has no function that gives these names.
BRANDS = ("UNKNOWN", "QUADRO", "TESLA", "NVS", "GRID", "GEFORCE", "TITAN")


def _text(value: str | bytes) -> str:
    # Until 11.5 the binding returned bytes.
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


class NvmlInventory:
    """The GPUs that NVIDIA's driver lists. A card in MIG mode is listed as its instances, since only those compute."""

    def __init__(self, nvml: Any = None) -> None:
        """Take the module to ask; by default `pynvml`, imported at the first question."""
        self._nvml = nvml
        self._ready_in: int | None = None
        self._problem = ""

    def _start(self) -> Any:
        """Return the module, started in this process, or `None` with `_problem` set.

        NVML is kept open: without the driver's persistence mode each start takes a second or more.
        """
        if self._nvml is None:
            try:
                self._nvml = importlib.import_module("pynvml")
            except ImportError:
                self._problem = "nvidia-ml-py is not installed (pip install 'pytest-dockerlab[gpu]')"
                return None
        if self._ready_in != os.getpid():  # a fork's copy of the library is not usable
            try:
                self._nvml.nvmlInit()
            except self._nvml.NVMLError as error:
                self._problem = f"NVIDIA's driver does not answer ({error})"
                return None
            self._ready_in = os.getpid()
        return self._nvml

    def _ask(self, name: str, *args: Any) -> Any:
        """Return what an NVML function says, or `None` where this card or driver can't say it."""
        mismatch = getattr(self._nvml, "NVMLLibraryMismatchError", self._nvml.NVMLError)
        try:
            return getattr(self._nvml, name)(*args)
        except (self._nvml.NVMLError, mismatch, AttributeError):  # the last: the binding is older than the name
            return None

    def _processes(self, which: str, handle: Any) -> Any:
        """Return the processes of one sort; a driver before 510 only knows the second version of the question."""
        found = self._ask(f"nvmlDeviceGet{which}RunningProcesses", handle)
        return self._ask(f"nvmlDeviceGet{which}RunningProcesses_v2", handle) if found is None else found

    def _handles(self) -> list[tuple[int, int | None, Any, Any]]:
        """Return (index, MIG index, handle, the parent's handle) of all that computes."""
        nvml = self._start()
        if nvml is None:
            return []
        found: list[tuple[int, int | None, Any, Any]] = []
        for index in range(self._ask("nvmlDeviceGetCount") or 0):
            card = self._ask("nvmlDeviceGetHandleByIndex", index)
            if card is None:  # it fell off the bus; the others still work
                continue
            mode = self._ask("nvmlDeviceGetMigMode", card)
            if mode is None or mode[0] != nvml.NVML_DEVICE_MIG_ENABLE:
                found.append((index, None, card, None))
                continue
            for slot in range(self._ask("nvmlDeviceGetMaxMigDeviceCount", card) or 0):
                instance = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", card, slot)
                if instance is not None:
                    found.append((index, slot, instance, card))
        if not found:
            self._problem = "NVIDIA's driver lists no GPU that computes"
        return found

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the cards and MIG instances, with the memory that is free now."""
        handles = self._handles()
        if not handles:
            return ()
        driver = self._ask("nvmlSystemGetDriverVersion")
        version = self._ask("nvmlSystemGetCudaDriverVersion")
        cuda = (version // 1000, version % 1000 // 10) if version else None
        gpus: list[Gpu] = []
        for index, slot, handle, parent in handles:
            uuid = self._ask("nvmlDeviceGetUUID", handle)
            if uuid is None:
                continue
            # Older drivers have no name for a MIG instance.
            name = self._ask("nvmlDeviceGetName", handle) or self._ask("nvmlDeviceGetName", parent or handle)
            memory = self._ask("nvmlDeviceGetMemoryInfo", handle)
            parent_uuid = self._ask("nvmlDeviceGetUUID", parent) if parent is not None else None
            brand = self._ask("nvmlDeviceGetBrand", parent or handle)
            gpus.append(
                Gpu(
                    kind="nvidia",
                    index=index,
                    uuid=_text(uuid),
                    name=_text(name or "NVIDIA GPU"),
                    memory_bytes=int(memory.total) if memory else None,
                    free_bytes=int(memory.free) if memory else None,
                    driver=_text(driver) if driver else None,
                    cuda=cuda,
                    mig_parent=_text(parent_uuid) if parent_uuid else None,
                    mig_index=slot,
                    brand=BRANDS[brand].lower() if brand is not None and 0 < brand < len(BRANDS) else None,
                )
            )
        return tuple(gpus)

    def absence(self) -> str:
        """Return what NVML or its absence says."""
        return "" if self.gpus() else self._problem

    def users(self, gpu: Gpu) -> dict[int, int | None] | None:
        """Return the processes with memory on the GPU; bytes are unknown under WSL."""
        for _, _, handle, _ in self._handles():
            uuid = self._ask("nvmlDeviceGetUUID", handle)
            if uuid is None or _text(uuid) != gpu.uuid:
                continue
            seen: dict[int, int | None] = {}
            asked = [self._processes(which, handle) for which in ("Compute", "Graphics")]
            if asked[0] is None:
                return None
            for process in (process for processes in asked for process in processes or ()):
                size = None if process.usedGpuMemory is None else int(process.usedGpuMemory)
                # A process that computes and draws is in both lists with the same number.
                seen[int(process.pid)] = max(size or 0, seen.get(int(process.pid)) or 0) or size
            return seen
        return None
