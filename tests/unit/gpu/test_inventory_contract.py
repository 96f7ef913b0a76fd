"""What every inventory promises, asked of each: the fake, NVML, ROCm, CDI, and the ones that join them."""

import importlib.util
import pickle
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import gpu_machines as machines

from pytest_dockerlab.gpu import EngineInventory, EngineSupport, FakeInventory, Gpu, HostInventory
from pytest_dockerlab.gpu.cdi import CdiInventory
from pytest_dockerlab.gpu.nvml import NvmlInventory
from pytest_dockerlab.gpu.rocm import RocmInventory


def full(kind, path):
    nvml, cdi = machines.Nvml([*machines.TWO_CARDS, machines.MIG_CARD]), machines.toys(path / "cdi")
    match kind:
        case "fake":
            return FakeInventory.of(2)
        case "nvml":
            return NvmlInventory(nvml)
        case "rocm":
            return RocmInventory(machines.rocm(path))
        case "cdi":
            return CdiInventory([str(cdi)], proc=path)
        case "host":
            return HostInventory(
                [NvmlInventory(nvml), RocmInventory(machines.rocm(path)), CdiInventory([str(cdi)], proc=path)]
            )
        case "engine":
            return EngineInventory(FakeInventory.of(2), EngineSupport(runtimes=("nvidia", "runc")))


def empty(kind, path):
    match kind:
        case "fake":
            return FakeInventory()
        case "nvml":
            return NvmlInventory(machines.Nvml([], broken="NVML Shared Library Not Found"))
        case "rocm":
            return RocmInventory(path)
        case "cdi":
            return CdiInventory([str(path / "nowhere")], proc=path)
        case "host":
            return HostInventory([RocmInventory(path), CdiInventory((), proc=path)])
        case "engine":
            return EngineInventory(FakeInventory.of(2), EngineSupport())


each = pytest.mark.parametrize("kind", ["fake", "nvml", "rocm", "cdi", "host", "engine"])


@each
def test_gpus_are_unique_stable_and_make_sense(kind, tmp_path):
    inventory = full(kind, tmp_path)
    gpus = inventory.gpus()
    assert len(gpus) >= 2
    assert len({gpu.uuid for gpu in gpus}) == len({gpu.address for gpu in gpus}) == len(gpus)
    assert inventory.gpus() == gpus
    for gpu in gpus:
        assert gpu.name
        assert isinstance(gpu.name, str)
        assert isinstance(gpu.uuid, str)
        if gpu.memory_bytes is not None:
            assert 0 <= gpu.free_bytes <= gpu.memory_bytes
        assert pickle.loads(pickle.dumps(gpu)) == gpu
    assert inventory.absence() == ""


@each
def test_an_empty_list_has_a_reason(kind, tmp_path):
    inventory = empty(kind, tmp_path)
    assert inventory.gpus() == ()
    assert len(inventory.absence()) > 10


@each
def test_users_are_known_or_not_and_a_stranger_has_none(kind, tmp_path):
    inventory = full(kind, tmp_path)
    for gpu in inventory.gpus():
        users = inventory.users(gpu)
        assert users is None or all(isinstance(pid, int) for pid in users)
    assert inventory.users(Gpu("nvidia", 9, "GPU-nowhere", "?")) is None
    assert empty(kind, tmp_path / "empty").users(Gpu("nvidia", 9, "GPU-nowhere", "?")) is None


# NVML


def test_nvml_lists_instances_in_the_place_of_a_mig_card_and_leaves_out_a_lost_one():
    lost = {"uuid": "GPU-lost", "lost": True}
    inventory = NvmlInventory(machines.Nvml([lost, *machines.TWO_CARDS, machines.MIG_CARD]))
    h100, rtx, first, second = inventory.gpus()
    assert (h100.address, h100.uuid, h100.brand, h100.cuda, h100.driver) == (
        "1",
        "GPU-aaaa1111",
        "tesla",
        (12, 4),
        "550.54.14",
    )
    assert (rtx.name, rtx.free_bytes) == ("NVIDIA GeForce RTX 4090", 24 * machines.GIB)
    assert (first.address, first.uuid, first.mig_parent, first.brand) == ("3:0", "MIG-0000", "GPU-cccc3333", "tesla")
    assert (second.address, second.name, second.memory_bytes) == ("3:3", "NVIDIA A100", 20 * machines.GIB)
    assert inventory.users(h100) == {10: machines.GIB, 11: None}
    assert inventory.users(rtx) == {}


def test_nvml_is_started_once_for_many_looks():
    nvml = machines.Nvml(machines.TWO_CARDS)
    inventory = NvmlInventory(nvml)
    for _ in range(5):
        inventory.gpus()
    assert nvml.starts == 1


def test_nvml_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    inventory = NvmlInventory()
    assert inventory.gpus() == ()
    assert "pytest-dockerlab[gpu]" in inventory.absence()


@pytest.mark.skipif(importlib.util.find_spec("pynvml") is None, reason="nvidia-ml-py is not installed")
def test_the_stand_in_for_nvml_has_the_names_of_the_real_binding():
    import pynvml

    for name in dir(machines.Nvml):
        if not name.startswith("_"):
            assert hasattr(pynvml, name), name
    assert pynvml.NVML_DEVICE_MIG_ENABLE == machines.Nvml.NVML_DEVICE_MIG_ENABLE
    assert issubclass(pynvml.NVMLError, Exception)


# ROCm


def test_rocm_reads_the_kernel_s_files(tmp_path):
    first, second = RocmInventory(machines.rocm(tmp_path)).gpus()
    assert (first.name, first.uuid, first.nodes) == (
        "AMD Radeon Pro W7900", "GPU-0000000000abcdef", ("/dev/kfd", "/dev/dri/renderD128"),
    )  # fmt: skip
    assert (first.memory_bytes, first.free_bytes, first.driver) == (16 * machines.GIB, 15 * machines.GIB, "6.7.0")
    assert (second.name, second.uuid) == ("gfx1100", "GPU-pci-0000-0600")
    assert first.groups == ((tmp_path / "dev/kfd").stat().st_gid,)
    inventory = RocmInventory(tmp_path)
    assert inventory.users(first) == {77: 4096}
    assert inventory.users(second) == {}


def test_rocm_leaves_out_a_card_whose_render_node_is_missing(tmp_path):
    machines.rocm(tmp_path)
    (tmp_path / "dev/dri/renderD128").unlink()
    assert [gpu.index for gpu in RocmInventory(tmp_path).gpus()] == [0]


# CDI


def test_cdi_reads_json_and_yaml_and_a_broken_file_hides_nothing(tmp_path):
    machines.toys(tmp_path)
    pytest.importorskip("yaml")
    machines.write(
        tmp_path / "more.yaml",
        'cdiVersion: "0.6.0"\nkind: more.example/gpu\n'
        'devices:\n- name: "0"\n  containerEdits: {env: [A=b]}\n- name: all\n  containerEdits: {env: [A=b]}\n',
    )
    machines.write(tmp_path / "nics.json", machines.cdi_spec("more.example/nic", {"eth": []}))
    machines.write(tmp_path / "broken.json", "{")
    odd = ["null", "1", '{"name": []}', '{"name": "../x"}', '{"name": "x", "containerEdits": {}}', '{"name": "x"}']
    for number, device in enumerate(odd):
        machines.write(tmp_path / f"odd{number}.json", f'{{"kind": "odd.example/gpu", "devices": [{device}]}}')
    inventory = CdiInventory([str(tmp_path)], proc=tmp_path)
    assert [gpu.uuid for gpu in inventory.gpus()] == [
        "more.example/gpu=0", "toys.example/gpu=toy0", "toys.example/gpu=toy1",
    ]  # fmt: skip
    assert {device.name for device in inventory.devices()} >= {"more.example/nic=eth", "more.example/gpu=all"}


def test_cdi_says_why_when_only_yaml_is_there_and_no_library(tmp_path, monkeypatch):
    machines.write(tmp_path / "a.yaml", "kind: a.example/gpu\ndevices: [{name: x, containerEdits: {env: [A=b]}}]\n")
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert "PyYAML" in CdiInventory([str(tmp_path)], proc=tmp_path).absence()


def test_cdi_files_have_a_bound_and_must_be_files(tmp_path):
    import os

    with (tmp_path / "big.json").open("wb") as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / "pipe.json")
    inventory = CdiInventory([str(tmp_path)], proc=tmp_path)
    assert inventory.gpus() == ()
    assert "big.json" in inventory.absence()
    assert "pipe.json" in inventory.absence()


def test_cdi_sees_a_file_that_changed(tmp_path):
    inventory = CdiInventory([str(machines.toys(tmp_path))], proc=tmp_path)
    assert len(inventory.gpus()) == 2
    machines.write(tmp_path / "toys.json", machines.cdi_spec("toys.example/gpu", {"toy0": [], "toy1": [], "toy2": []}))
    assert len(inventory.gpus()) == 3


def test_nvidia_s_names_for_one_card_count_once(tmp_path):
    devices = {
        "0": ["/dev/nvidia0", "/dev/dri/renderD128"],
        "GPU-aaaa1111": ["/dev/nvidia0", "/dev/dri/renderD128"],
        "1:0": ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap21"],
        "MIG-0000": ["/dev/nvidia1", "/dev/nvidia-caps/nvidia-cap21"],
        "all": ["/dev/nvidia0", "/dev/nvidia1"],
    }
    machines.write(tmp_path / "nvidia.json", machines.cdi_spec("nvidia.com/gpu", devices))
    read = CdiInventory([str(tmp_path)], proc=tmp_path)
    assert [gpu.uuid for gpu in read.gpus()] == ["GPU-aaaa1111", "MIG-0000"]
    named = [f"nvidia.com/gpu={name}" for name in devices]
    listed = CdiInventory((), discovered=named, proc=tmp_path)
    assert [gpu.uuid for gpu in listed.gpus()] == ["GPU-aaaa1111", "MIG-0000"]


def test_nvidia_s_cards_without_a_uuid_get_the_one_that_the_driver_knows(tmp_path):
    """So that a run with NVML and a run without it take the same lease."""
    information = "Model: \t\t NVIDIA H100\nGPU UUID: \t GPU-aaaa1111\nDevice Minor: \t 0\n"
    machines.write(tmp_path / "proc/driver/nvidia/gpus/0000:01:00.0/information", information)
    machines.write(tmp_path / "nvidia.json", machines.cdi_spec("nvidia.com/gpu", {"0": ["/dev/nvidia0"]}))
    (gpu,) = CdiInventory([str(tmp_path)], proc=tmp_path / "proc").gpus()
    assert (gpu.uuid, gpu.cdi_name) == ("GPU-aaaa1111", "nvidia.com/gpu=0")


# Joined


def test_the_host_lists_each_card_once_and_counts_on(tmp_path):
    machines.write(tmp_path / "cdi/nvidia.json", machines.cdi_spec("nvidia.com/gpu", {"0": ["/dev/nvidia0"]}))
    gpus = full("host", tmp_path).gpus()
    assert [(gpu.kind, gpu.address) for gpu in gpus] == [
        ("nvidia", "0"), ("nvidia", "1"), ("nvidia", "2:0"), ("nvidia", "2:3"),
        ("rocm", "3"), ("rocm", "4"), ("cdi", "5"), ("cdi", "6"),
    ]  # fmt: skip


def test_a_gpu_that_the_engine_cannot_give_is_not_offered_and_the_reason_names_it():
    inventory = EngineInventory(FakeInventory.of(1), EngineSupport(runtimes=("runc",)))
    assert inventory.gpus() == ()
    assert len(inventory.here()) == 1
    assert "no NVIDIA runtime and no CDI device" in inventory.absence()
    assert "Podman" in EngineInventory(FakeInventory.of(1), EngineSupport(podman=True)).absence()
