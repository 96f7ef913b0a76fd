"""AMD's GPUs, by the files of the kernel's `amdgpu` driver. Needs no library."""

from __future__ import annotations

from pathlib import Path

from pytest_dockerlab.gpu.inventory import Gpu

_MAX_NODES = 64
_MAX_FILE = 64 * 1024


def _read(path: Path) -> str:
    """Return a small file of the kernel's, or an empty text where it can't be read."""
    try:
        with path.open("rb") as file:
            return file.read(_MAX_FILE).decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None


def _properties(path: Path) -> dict[str, int]:
    pairs = (line.split() for line in _read(path).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdecimal()}


class RocmInventory:
    """The GPUs that `/dev/kfd` computes on: each is `/dev/kfd` and a render node of its own."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Take the root of the file system, which tests replace."""
        self._root = root
        self._kfd_ids: dict[str, int] = {}
        self._problem = ""

    def gpus(self) -> tuple[Gpu, ...]:
        """Return the GPUs of the kernel's topology that have their render node in `/dev/dri`."""
        if not (self._root / "dev/kfd").exists():
            self._problem = "there is no /dev/kfd (AMD)"
            return ()
        driver = _read(self._root / "sys/module/amdgpu/version") or None
        gpus: list[Gpu] = []
        topology = self._root / "sys/class/kfd/kfd/topology/nodes"
        for number in range(_MAX_NODES):
            node = topology / str(number)
            kfd_id = _number(_read(node / "gpu_id"))
            if not kfd_id:  # 0 is a CPU
                continue
            gpu = self._gpu(node, len(gpus), driver)
            if gpu is not None:
                self._kfd_ids[gpu.uuid] = kfd_id
                gpus.append(gpu)
        if not gpus:
            self._problem = "/dev/kfd is here, and no GPU of its topology has a render node in /dev/dri"
        return tuple(gpus)

    def _gpu(self, node: Path, index: int, driver: str | None) -> Gpu | None:
        properties = _properties(node / "properties")
        minor = properties.get("drm_render_minor", 0)
        render = self._root / f"dev/dri/renderD{minor}"
        if not minor or not render.exists():
            return None
        device = self._root / f"sys/class/drm/renderD{minor}/device"
        total = _number(_read(device / "mem_info_vram_total"))
        used = _number(_read(device / "mem_info_vram_used"))
        unique = properties.get("unique_id", 0)
        # Consumer cards before RDNA have no unique id: their place on the bus is what stays.
        place = f"{properties.get('domain', 0):04x}-{properties.get('location_id', 0):04x}"
        return Gpu(
            kind="rocm",
            index=index,
            uuid=f"GPU-{unique:016x}" if unique else f"GPU-pci-{place}",
            name=_read(device / "product_name") or _read(node / "name") or "AMD GPU",
            memory_bytes=total,
            free_bytes=None if total is None or used is None else max(0, total - used),
            driver=driver,
            nodes=("/dev/kfd", f"/dev/dri/renderD{minor}"),
            groups=tuple(sorted({path.stat().st_gid for path in (self._root / "dev/kfd", render)})),
        )

    def absence(self) -> str:
        """Return which file is missing."""
        return "" if self.gpus() else self._problem

    def users(self, gpu: Gpu) -> dict[int, int | None] | None:
        """Return the processes that the kernel's compute driver has a queue for, with their memory on this GPU."""
        if gpu.uuid not in {listed.uuid for listed in self.gpus()}:
            return None
        processes = self._root / "sys/class/kfd/kfd/proc"
        if not processes.is_dir():
            return None
        seen: dict[int, int | None] = {}
        for process in processes.iterdir():
            size = _number(_read(process / f"vram_{self._kfd_ids[gpu.uuid]}"))
            if process.name.isdecimal() and size:
                seen[int(process.name)] = size
        return seen
