"""Machines to list GPUs on: NVML's binding, ROCm's files and CDI's descriptions, as the real ones look."""

import json
from types import SimpleNamespace


class NVMLError(Exception):
    pass


class Nvml:
    """Behaves as the module `pynvml` on a machine with the given cards; each card is a dictionary."""

    NVMLError = NVMLError
    NVML_DEVICE_MIG_ENABLE = 1

    def __init__(self, cards, broken=None, cuda=12040):
        self.cards, self.broken, self.cuda, self.starts = cards, broken, cuda, 0

    def nvmlInit(self):
        if self.broken:
            raise NVMLError(self.broken)
        self.starts += 1

    def _of(self, card, key):
        if key not in card:
            raise NVMLError("Not Supported")
        return card[key]

    def nvmlSystemGetDriverVersion(self):
        return b"550.54.14"  # old bindings return bytes

    def nvmlSystemGetCudaDriverVersion(self):
        return self.cuda

    def nvmlDeviceGetCount(self):
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index):
        if self.cards[index].get("lost"):
            raise NVMLError("GPU is lost")
        return self.cards[index]

    def nvmlDeviceGetMigMode(self, card):
        return [1 if self._of(card, "mig") else 0, 0]

    def nvmlDeviceGetMaxMigDeviceCount(self, card):
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card, slot):
        if slot not in card["mig"]:
            raise NVMLError("Not Found")
        return card["mig"][slot]

    def nvmlDeviceGetUUID(self, card):
        return card["uuid"]

    def nvmlDeviceGetName(self, card):
        return self._of(card, "name")

    def nvmlDeviceGetBrand(self, card):
        return self._of(card, "brand")

    def nvmlDeviceGetMemoryInfo(self, card):
        total = self._of(card, "total")
        return SimpleNamespace(total=total, free=card.get("free", total), used=0)

    def nvmlDeviceGetComputeRunningProcesses(self, card):
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self._of(card, "compute").items()]

    def nvmlDeviceGetGraphicsRunningProcesses(self, card):
        return [SimpleNamespace(pid=pid, usedGpuMemory=size) for pid, size in self._of(card, "graphics").items()]


GIB = 2**30
TWO_CARDS = [
    {"uuid": "GPU-aaaa1111", "name": "NVIDIA H100", "total": 80 * GIB, "free": 79 * GIB, "brand": 2, "mig": {},
     "compute": {10: GIB, 11: None}, "graphics": {10: GIB}},
    {"uuid": b"GPU-bbbb2222", "name": b"NVIDIA GeForce RTX 4090", "total": 24 * GIB, "brand": 5, "compute": {}},
]  # fmt: skip
MIG_CARD = {
    "uuid": "GPU-cccc3333", "name": "NVIDIA A100", "total": 40 * GIB, "brand": 2,
    "mig": {0: {"uuid": "MIG-0000", "name": "A100 MIG 1g.5gb", "total": 5 * GIB, "compute": {}},
            3: {"uuid": "MIG-3333", "total": 20 * GIB, "compute": {}}},
}  # fmt: skip


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(text))


def rocm(root):
    """Lay out the kernel's files for a CPU and two cards, the second without a unique id."""
    nodes = root / "sys/class/kfd/kfd/topology/nodes"
    write(root / "dev/kfd", "")
    write(root / "sys/module/amdgpu/version", "6.7.0\n")
    write(nodes / "0/gpu_id", "0\n")
    write(nodes / "0/properties", "cpu_cores_count 16\n")
    for node, kfd_id, minor, unique in ((1, 5001, 128, 0xABCDEF), (2, 5002, 129, 0)):
        write(nodes / f"{node}/gpu_id", f"{kfd_id}\n")
        write(nodes / f"{node}/name", "gfx1100\n")
        write(
            nodes / f"{node}/properties",
            f"simd_count 96\ndrm_render_minor {minor}\nunique_id {unique}\nlocation_id {768 * node}\ndomain 0\n",
        )
        write(root / f"dev/dri/renderD{minor}", "")
        device = root / f"sys/class/drm/renderD{minor}/device"
        write(device / "mem_info_vram_total", 16 * GIB)
        write(device / "mem_info_vram_used", GIB)
    write(root / "sys/class/drm/renderD128/device/product_name", "AMD Radeon Pro W7900\n")
    write(root / "sys/class/kfd/kfd/proc/77/vram_5001", 4096)
    write(root / "sys/class/kfd/kfd/proc/77/vram_5002", 0)
    return root


def cdi_spec(kind, devices):
    """Return a description; `devices` maps a name to its device files."""
    return json.dumps(
        {
            "cdiVersion": "0.6.0",
            "kind": kind,
            "devices": [
                {"name": name, "containerEdits": {"env": ["A=b"], "deviceNodes": [{"path": node} for node in nodes]}}
                for name, nodes in devices.items()
            ],
        }
    )


def toys(folder):
    """Write the description of a made-up vendor with two devices."""
    write(folder / "toys.json", cdi_spec("toys.example/gpu", {"toy0": ["/dev/toy0"], "toy1": ["/dev/toy1"]}))
    return folder
