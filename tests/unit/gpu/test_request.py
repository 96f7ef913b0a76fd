"""From held GPUs to the container's specification, and from the engine's `info` to what it can give."""

import dataclasses
import json

import pytest
from docker.types import DeviceRequest, HostConfig

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.gpu import AcceleratorRequest, EngineSupport, Gpu, look, request, support
from pytest_dockerlab.gpu.support import discovered, parse_toolkit_version, support_from_info

CARD = Gpu("nvidia", 0, "GPU-aaaa1111", "NVIDIA H100")
SLICE = Gpu("nvidia", 1, "MIG-3333", "Slice", mig_parent="GPU-cccc", mig_index=2)
AMD = [
    Gpu("rocm", n, f"GPU-{n:016x}", "W7900", nodes=("/dev/kfd", f"/dev/dri/renderD{128 + n}"), groups=(44, 109))
    for n in range(2)
]
TOY = Gpu("cdi", 0, "toys.example/gpu=toy0", "toys.example/gpu", cdi_name="toys.example/gpu=toy0")

NVIDIA = EngineSupport(runtimes=("nvidia", "runc"))
CDI = EngineSupport(cdi_folders=("/etc/cdi",), cdi_devices=("nvidia.com/gpu=0", "nvidia.com/gpu=mig1:2"))


def device_request(driver, ids, capabilities):
    return {"Driver": driver, "Count": 0, "DeviceIDs": ids, "Capabilities": capabilities, "Options": {}}


def test_the_cpu_overrules_an_image_that_wants_every_card():
    assert request((), NVIDIA) == AcceleratorRequest(env={"NVIDIA_VISIBLE_DEVICES": "void"}, description="CPU")


def test_nvidia_by_uuid_and_never_by_count():
    wanted = request([CARD], NVIDIA)
    assert wanted.device_requests == (device_request("nvidia", ["GPU-aaaa1111"], [["gpu", "compute", "utility"]]),)
    assert wanted.env == {
        "NVIDIA_VISIBLE_DEVICES": "GPU-aaaa1111",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "CUDA_VISIBLE_DEVICES": "0",
    }
    assert wanted.devices == wanted.group_add == ()
    assert "NVIDIA's runtime" in wanted.description


def test_two_cards():
    wanted = request([CARD, SLICE], NVIDIA)
    assert wanted.device_requests[0]["DeviceIDs"] == ["GPU-aaaa1111", "MIG-3333"]
    assert wanted.env["NVIDIA_VISIBLE_DEVICES"] == "GPU-aaaa1111,MIG-3333"
    assert wanted.env["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_the_hook_alone_is_enough_for_docker():
    assert EngineSupport(nvidia_hook=True).way(CARD) == "nvidia"


@pytest.mark.parametrize(
    ("listed", "gpu", "name"),
    [
        (("nvidia.com/gpu=GPU-aaaa1111", "nvidia.com/gpu=0"), CARD, "nvidia.com/gpu=GPU-aaaa1111"),
        (("nvidia.com/gpu=0", "nvidia.com/gpu=all"), CARD, "nvidia.com/gpu=0"),
        (("nvidia.com/gpu=gpu0",), CARD, "nvidia.com/gpu=gpu0"),
        (("nvidia.com/gpu=mig1:2",), SLICE, "nvidia.com/gpu=mig1:2"),
        (("nvidia.com/gpu=1:2",), SLICE, "nvidia.com/gpu=1:2"),
        (("nvidia.com/gpu=all",), CARD, None),
        (("toys.example/gpu=toy0",), TOY, "toys.example/gpu=toy0"),
    ],
)
def test_the_cdi_name_means_exactly_this_gpu(listed, gpu, name):
    assert EngineSupport(cdi_folders=("/etc/cdi",), cdi_devices=listed).cdi_name(gpu) == name


def test_cdi_where_there_is_no_nvidia_runtime():
    wanted = request([CARD], CDI)
    assert wanted.device_requests == (device_request("cdi", ["nvidia.com/gpu=0"], []),)
    assert wanted.env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert "NVIDIA_DRIVER_CAPABILITIES" not in wanted.env


def test_rocm_by_its_own_device_files_and_numeric_groups():
    wanted = request(AMD[1:], EngineSupport())
    assert wanted.devices == ("/dev/kfd:/dev/kfd:rw", "/dev/dri/renderD129:/dev/dri/renderD129:rw")
    assert wanted.group_add == ("44", "109")
    assert wanted.env["HIP_VISIBLE_DEVICES"] == "0"
    assert wanted.device_requests == ()
    nameless = dataclasses.replace(AMD[0], groups=())
    assert request([nameless], EngineSupport()).group_add == ("video", "render")


def test_no_way_is_infra_and_not_a_container_without_a_gpu():
    with pytest.raises(GpuUnavailable, match="no way"):
        request([CARD], EngineSupport(runtimes=("runc",)))


@pytest.mark.parametrize(("gpus", "engine"), [((), NVIDIA), ([CARD], NVIDIA), ([CARD], CDI), (AMD, EngineSupport())])
def test_docker_py_takes_the_shapes(gpus, engine):
    wanted = request(gpus, engine)
    config = HostConfig(
        version="1.45",
        device_requests=[DeviceRequest(**one) for one in wanted.device_requests],
        devices=list(wanted.devices),
        group_add=list(wanted.group_add),
    )
    assert config.get("DeviceRequests", []) == list(wanted.device_requests)
    assert len(config.get("Devices", [])) == len(wanted.devices)
    assert json.dumps(dataclasses.asdict(wanted))


# What the engine says


def test_info_of_docker_26_with_cdi_off():
    engine = support_from_info({"Runtimes": {"runc": {}, "nvidia": {}}, "CDISpecDirs": [], "ServerVersion": "26.1.5"})
    assert engine == EngineSupport(runtimes=("nvidia", "runc"), version="26.1.5")


def test_info_of_docker_20_10_and_of_podman():
    assert support_from_info({"Runtimes": {"runc": {}}}).cdi_folders == ()
    podman = support_from_info(
        {"Runtimes": {"nvidia": {}}, "BuildahVersion": "1.28"}, nvidia_hook=True, cdi_devices=("nvidia.com/gpu=0",)
    )
    assert podman.podman
    assert podman.way(CARD) is None
    assert podman.way(AMD[0]) == "rocm"


def test_info_of_docker_28_3_lists_devices_itself():
    info = {"DiscoveredDevices": [{"Source": "cdi", "ID": "toys.example/gpu=toy0"}, {"Source": "other", "ID": "x"}]}
    assert discovered(info) == ("toys.example/gpu=toy0",)
    assert discovered({}) is None


def test_an_engine_elsewhere_gives_what_it_lists_and_nothing_of_this_machine(tmp_path):
    info = {"CDISpecDirs": [str(tmp_path)], "DiscoveredDevices": [{"Source": "cdi", "ID": "toys.example/gpu=toy0"}]}
    seen = look(info, Deadline.after(5), local=False)
    assert [gpu.uuid for gpu in seen.gpus()] == ["toys.example/gpu=toy0"]
    assert not seen.support.local
    assert look({}, Deadline.after(5), local=False).gpus() == ()


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("NVIDIA Container Toolkit CLI version 1.17.8\ncommit: f202b80a\n", (1, 17, 8)),
        ("NVIDIA Container Toolkit CLI version 1.18.0-rc.2", (1, 18, 0)),
        ("what?", None),
    ],
)
def test_the_toolkit_s_version(text, version):
    assert parse_toolkit_version(text) == version


def test_the_toolkit_is_asked_on_the_path_within_a_deadline(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-ctk"
    tool.write_text("#!/bin/sh\necho NVIDIA Container Toolkit CLI version 1.17.4\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert support.toolkit_version(Deadline.after(10)) == (1, 17, 4)
    tool.write_text("#!/bin/sh\nexec sleep 60\n")
    assert support.toolkit_version(Deadline.after(0.2)) is None
    tool.unlink()
    assert support.toolkit_version(Deadline.after(10)) is None
