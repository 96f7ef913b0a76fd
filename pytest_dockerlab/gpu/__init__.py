"""GPUs: what is here, which one a run gets, its exclusive hold, and the request that the container carries.

::

    seen = look(client.info(), deadline, local=True)             # the GPUs that the engine can give
    with acquire(parse("auto"), seen, deadline, say, run_id=run) as lease:
        wanted = request(lease.gpus if lease else (), seen.support)   # for HostConfig and the environment
        fact = accelerator(lease, choice, seen)                       # for the results: which one, or why the CPU
"""

from __future__ import annotations

from pytest_dockerlab.gpu.acquire import accelerator, acquire
from pytest_dockerlab.gpu.fake import FakeInventory
from pytest_dockerlab.gpu.inventory import Gpu, HostInventory, Inventory
from pytest_dockerlab.gpu.lease import Holder, Lease, holders
from pytest_dockerlab.gpu.preflight import Problem, check
from pytest_dockerlab.gpu.request import AcceleratorRequest, request
from pytest_dockerlab.gpu.select import GpuChoice, GpuMode, parse
from pytest_dockerlab.gpu.support import EngineInventory, EngineSupport, look
from pytest_dockerlab.gpu.usage import GpuUse, GpuWatch

__all__ = [
    "AcceleratorRequest",
    "EngineInventory",
    "EngineSupport",
    "FakeInventory",
    "Gpu",
    "GpuChoice",
    "GpuMode",
    "GpuUse",
    "GpuWatch",
    "Holder",
    "HostInventory",
    "Inventory",
    "Lease",
    "Problem",
    "accelerator",
    "acquire",
    "check",
    "holders",
    "look",
    "parse",
    "request",
]
