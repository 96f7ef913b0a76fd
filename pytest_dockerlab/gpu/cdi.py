"""Devices of the Container Device Interface: whatever a vendor described in a file and the engine lists.

The engine says where its descriptions are (`CDISpecDirs`) and, from 28.3 on, which devices it found
(`DiscoveredDevices`). Before that we read the descriptions, which only works where the engine is on this machine.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pytest_dockerlab.gpu.inventory import Gpu

# A description of eight cards by NVIDIA's toolkit is about 100 kB.
_MAX_FILES = 64
_MAX_BYTES = 4 * 2**20
_MAX_DEVICES = 512

NVIDIA = "nvidia.com/gpu"
_QUALIFIED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*=[A-Za-z0-9][A-Za-z0-9._:-]*")


@dataclass(frozen=True)
class CdiDevice:
    """One device as its vendor described it."""

    name: str  # qualified: `vendor/class=name`
    nodes: tuple[str, ...] = ()  # on the host

    @property
    def kind(self) -> str:
        """Return `vendor/class`."""
        return self.name.partition("=")[0]


def is_qualified(name: str) -> bool:
    """Whether a text has the form `vendor/class=name`."""
    return _QUALIFIED.fullmatch(name) is not None


def _parse(text: str, suffix: str) -> Any:
    if suffix == ".json":
        return json.loads(text)
    import yaml  # in the extra `gpu`: JSON descriptions are read without it

    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506 (both are safe loaders)


def parse_spec(text: str, suffix: str) -> tuple[CdiDevice, ...]:
    """Return the devices of one description; raises `ValueError` or a YAML error on what is none.

    One bad device makes the whole file void, as it does for the engine: it would answer "unresolvable CDI devices".
    """
    spec = _parse(text, suffix)
    if not isinstance(spec, dict) or not isinstance(spec.get("devices"), list):
        raise ValueError("no list of devices")
    found: list[CdiDevice] = []
    for device in spec["devices"][:_MAX_DEVICES]:
        name = f"{spec.get('kind')}={device.get('name')}" if isinstance(device, dict) else ""
        if not is_qualified(name):
            raise ValueError(f"{name or device!r} is no name of a device")
        edits = device.get("containerEdits")
        if not isinstance(edits, dict) or not any(edits.values()):
            raise ValueError(f"{name} changes nothing in a container")
        nodes = edits.get("deviceNodes")
        paths = [node.get("hostPath") or node.get("path") for node in nodes or () if isinstance(node, dict)]
        found.append(CdiDevice(name, tuple(str(path) for path in paths if path)))
    return tuple(found)


class SpecReader:
    """Reads the folders of descriptions, each file again only after it changed: a waiting run asks many times."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._seen: dict[Path, tuple[tuple[int, int], tuple[CdiDevice, ...]]] = {}
        self.problems: list[str] = []

    def read(self, folders: Iterable[str | Path]) -> tuple[CdiDevice, ...]:
        """Return the devices described in these folders; of two with one name the later counts, as in the engine."""
        self.problems = []
        found: dict[str, CdiDevice] = {}
        for folder in folders:
            try:
                files = sorted(path for path in Path(folder).iterdir() if path.suffix in (".json", ".yaml", ".yml"))
            except OSError:
                continue
            for path in files[:_MAX_FILES]:
                found.update((device.name, device) for device in self._file(path))
        return tuple(found.values())

    def _file(self, path: Path) -> tuple[CdiDevice, ...]:
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
                raise ValueError(f"not a regular file of at most {_MAX_BYTES} bytes")
            stamp = (status.st_mtime_ns, status.st_size)
            if path in self._seen and self._seen[path][0] == stamp:
                return self._seen[path][1]
            with path.open("rb") as file:
                devices = parse_spec(file.read(_MAX_BYTES).decode("utf-8"), path.suffix)
        except ImportError:
            self.problems.append(f"{path}: PyYAML is not installed (pip install 'pytest-dockerlab[gpu]')")
            return ()
        except Exception as error:  # noqa: BLE001 (a broken file of one vendor must not hide the others' devices)
            self.problems.append(f"{path}: {str(error).splitlines()[0] if str(error) else type(error).__name__}")
            return ()
        self._seen[path] = (stamp, devices)
        return devices


def _nvidia_uuids(proc: Path) -> dict[str, str]:
    """Return `/dev/nvidiaN` → UUID, from the driver's own files; needs no NVML."""
    found: dict[str, str] = {}
    try:
        cards = sorted(proc.glob("driver/nvidia/gpus/*/information"))[:_MAX_FILES]
        texts = [card.read_text("utf-8", "replace")[:4096] for card in cards]
    except OSError:
        return found
    for text in texts:
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        minor, uuid = fields.get("Device Minor", "").strip(), fields.get("GPU UUID", "").strip()
        if minor.isdecimal() and uuid.startswith("GPU-") and "?" not in uuid:
            found[f"/dev/nvidia{minor}"] = uuid
    return found


def _card(device: CdiDevice, nvidia: dict[str, str]) -> str | None:
    """Return the UUID of the card that a device is the whole of; an instance of a MIG card has capability files too."""
    cards = {nvidia[node] for node in device.nodes if node in nvidia}
    whole = len(cards) == 1 and not any("nvidia-cap" in node for node in device.nodes)
    return cards.pop() if whole else None


class CdiInventory:
    """The CDI devices of a class `gpu` that the engine lists, one for each device behind them.

    `all` is never listed: a container sees the devices that its run holds and no other.
    """

    def __init__(
        self,
        folders: Iterable[str] = (),
        discovered: Iterable[str] | None = None,
        proc: Path = Path("/proc"),
    ) -> None:
        """Take the engine's `CDISpecDirs`, and the names of its `DiscoveredDevices` where it gives any."""
        self._folders = tuple(folders)
        self._discovered = None if discovered is None else tuple(discovered)
        self._proc = proc
        self._reader = SpecReader()

    def devices(self) -> tuple[CdiDevice, ...]:
        """Return every CDI device of every class that the engine can give."""
        described = {device.name: device for device in self._reader.read(self._folders)}
        if self._discovered is None:
            return tuple(described.values())
        return tuple(described.get(name, CdiDevice(name)) for name in self._discovered[:_MAX_DEVICES])

    def gpus(self) -> tuple[Gpu, ...]:
        """Return those of a class `gpu`; NVIDIA's several names for one card (`0`, `GPU-…`) count once."""
        chosen: dict[str, CdiDevice] = {}
        nvidia = _nvidia_uuids(self._proc)
        for device in self.devices():
            name = device.name.partition("=")[2]
            if name == "all" or device.kind.partition("/")[2] != "gpu":
                continue
            uuid = device.name
            if device.kind == NVIDIA:
                # A card must have the identity that NVML gives it to a run beside this one.
                uuid = name if name.startswith(("GPU-", "MIG-")) else _card(device, nvidia) or device.name
            chosen.setdefault(uuid, device)
        if any(uuid.startswith(("GPU-", "MIG-")) for uuid in chosen):
            chosen = {uuid: device for uuid, device in chosen.items() if not _is_alias(uuid, device, chosen)}
        return tuple(
            Gpu("cdi", index, uuid, device.kind, cdi_name=device.name)
            for index, (uuid, device) in enumerate(sorted(chosen.items(), key=lambda item: item[1].name))
        )

    def absence(self) -> str:
        """Return whether CDI is off, empty, or unreadable."""
        if self.gpus():
            return ""
        if not self._folders and not self._discovered:
            return "the engine has CDI switched off"
        return "; ".join(self._reader.problems) or "the engine lists no CDI device of a class `gpu`"

    def users(self, gpu: Gpu) -> dict[int, int | None] | None:  # noqa: ARG002 (the protocol's signature)
        """Return `None`: CDI describes devices and knows nothing of who uses them."""
        return None


def _is_alias(uuid: str, device: CdiDevice, chosen: dict[str, CdiDevice]) -> bool:
    """Whether an NVIDIA device without a UUID is another name for one that has its UUID."""
    if device.kind != NVIDIA or uuid.startswith(("GPU-", "MIG-")):
        return False
    named = [other for key, other in chosen.items() if key.startswith(("GPU-", "MIG-"))]
    # Without the descriptions the nodes are unknown; NVIDIA's toolkit then names every card both ways, or none.
    return not device.nodes or any(set(other.nodes) == set(device.nodes) for other in named)
