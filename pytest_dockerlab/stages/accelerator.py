"""Which accelerator the run computes on: planned before the build, leased when the training starts, kept to the end."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import cached_property

from pytest_dockerlab import gpu
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import DeviceGrant, Engine, ImageConfig
from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.facts import Accelerator
from pytest_dockerlab.gpu.select import slots, why_none

LOOK_S = 20.0  # NVML and the vendor's tools answer within a second; a driver that hangs must not hang us


@dataclass(frozen=True)
class Granted:
    """What a container is given, and how its use is watched."""

    grant: DeviceGrant
    fact: Accelerator
    watch: gpu.GpuWatch | None = None


class AcceleratorPlan:
    """The accelerator of one run. `close` gives the GPU back."""

    def __init__(self, engine: Engine, choice: str, min_memory_bytes: int, wait_s: float, run_id: str) -> None:
        """Keep what was asked for; nothing is looked at yet."""
        self._engine = engine
        self._choice = gpu.parse(choice)
        self._min_memory = min_memory_bytes
        self._wait_s = wait_s
        self._run_id = run_id
        self._stack = contextlib.ExitStack()
        self._granted: Granted | None = None

    @cached_property
    def _seen(self) -> gpu.EngineInventory:
        info = self._engine.info()
        return gpu.look(dict(info.raw), Deadline.after(LOOK_S), local=info.local)

    def on_gpu(self) -> bool:
        """Whether the run will be on a GPU; raises `GpuUnavailable` where one is required and none is there."""
        if self._choice.mode is gpu.GpuMode.NONE:
            return False
        if slots(self._choice, self._seen.gpus(), self._min_memory):
            return True
        if self._choice.mode is gpu.GpuMode.AUTO:
            return False
        raise GpuUnavailable(
            f"No GPU can be used ({why_none(self._choice, self._seen, self._min_memory)}).",
            fix="`dockerlab doctor` tells what is missing; --dockerlab-gpu auto falls back to the CPU.",
        )

    def acquire(self, image: ImageConfig, note: object, lang: str) -> Granted:
        """Lease the GPU, the first time; `note` is told who holds it meanwhile. Held until `close`."""
        if self._granted is not None:
            return self._granted
        assert callable(note)
        if self._choice.mode is gpu.GpuMode.NONE:
            self._granted = Granted(DeviceGrant(), Accelerator(reason="--dockerlab-gpu none"))
            return self._granted
        lease = self._stack.enter_context(
            gpu.acquire(
                self._choice,
                self._seen,
                Deadline.after(self._wait_s),
                note,
                run_id=self._run_id,
                min_memory_bytes=self._min_memory,
            )
        )
        held = lease.gpus if lease else ()
        request = gpu.request(held, self._seen.support)
        problems = gpu.check(
            held,
            self._seen.support,
            self._seen,
            image_env=image.env,
            min_memory_bytes=self._min_memory,
            here=self._seen.here(),
        )
        for problem in problems:
            if problem.fatal and lease is not None:
                raise GpuUnavailable(problem.message(lang), fix=problem.fix(lang))
            note(problem.message(lang))
        self._granted = Granted(
            DeviceGrant(request.device_requests, request.devices, request.group_add, request.env),
            gpu.accelerator(lease, self._choice, self._seen, self._min_memory),
            gpu.GpuWatch(self._seen, held) if held else None,
        )
        return self._granted

    def describe(self) -> list[dict[str, object]]:
        """Return the GPUs of this machine, for the results."""
        if self._choice.mode is gpu.GpuMode.NONE:
            return []
        return [
            {"name": one.name, "uuid": one.uuid, "memory_bytes": one.memory_bytes, "driver": one.driver}
            for one in self._seen.gpus()
        ]

    def close(self) -> None:
        """Give the GPU back."""
        self._stack.close()
        self._granted = None
