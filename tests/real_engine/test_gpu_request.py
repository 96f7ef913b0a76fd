"""Requests for GPUs given to a real engine, read back from it and seen from inside the container.

No GPU is needed for most: a CDI device of a made-up vendor takes the same way as NVIDIA's. CDI is off by default before
Engine 28.2; where it is, a private engine with `features.cdi` is started beside the machine's own and ended after.
"""

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import uuid
from pathlib import Path

import docker
import pytest
from docker.errors import APIError, DockerException
from docker.types import DeviceRequest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.connect import connect
from pytest_dockerlab.errors import GpuUnavailable
from pytest_dockerlab.gpu import Gpu, GpuWatch, accelerator, acquire, check, look, parse, request
from pytest_dockerlab.gpu.nvml import NvmlInventory
from pytest_dockerlab.gpu.support import support_from_info

RUN = f"gpu-test-{uuid.uuid4().hex[:8]}"
VENDOR = f"toys-{RUN}.example"
LABELS = {"dockerlab.run": RUN}
READY_S = 60


def silent(text):
    pass


def libraries(program):
    """Return the shared libraries of a program of this machine, with its loader."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    return {word for line in listed.splitlines() for word in line.split() if word.startswith("/")}


@contextlib.contextmanager
def tiny_image(client, *programs):
    """An image of this machine's shell, 3 MB, which says that it wants every GPU."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", dereference=True) as tar:
        tar.add(shutil.which("sh"), "bin/sh")
        for program in programs:
            tar.add(program, program.lstrip("/"))
        for library in sorted(set().union(*map(libraries, ["/bin/sh", *programs]))):
            tar.add(library, library.lstrip("/"))
        for folder in ("tmp", "proc", "dev", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
    tag = f"dockerlab-test/gpu-sh:{uuid.uuid4().hex[:8]}"
    changes = ["ENV NVIDIA_VISIBLE_DEVICES=all", "ENV CUDA_VISIBLE_DEVICES=7", f"LABEL dockerlab.run={RUN}"]
    client.api.import_image_from_data(data.getvalue(), *tag.split(":"), changes=changes)
    try:
        yield tag
    finally:
        client.images.remove(tag, force=True)


@contextlib.contextmanager
def container(client, image, wanted, script=":"):
    made = client.containers.create(
        image,
        ["/bin/sh", "-c", script],
        network_mode="none",
        labels=LABELS,
        environment=wanted.env,
        device_requests=[DeviceRequest(**one) for one in wanted.device_requests],
        devices=list(wanted.devices),
        group_add=list(wanted.group_add),
    )
    try:
        made.reload()
        yield made
    finally:
        made.remove(force=True, v=True)


def output(made):
    made.start()
    assert made.wait(timeout=60)["StatusCode"] == 0, made.logs().decode()
    return made.logs().decode().split()


@pytest.fixture(scope="module")
def engine():
    client = connect()
    yield client
    client.close()


@pytest.fixture(scope="module")
def image(engine):
    with tiny_image(engine) as tag:
        yield tag


@pytest.fixture
def leases(tmp_path):
    return tmp_path / "locks" / "gpu"


def write_toys(folder):
    def device(name, node):
        edits = {"env": [f"DOCKERLAB_TOY={name}"], "deviceNodes": [{"path": f"/dev/{name}", "hostPath": node}]}
        return {"name": name, "containerEdits": edits}

    spec = {"cdiVersion": "0.5.0", "kind": f"{VENDOR}/gpu"}
    spec["devices"] = [device("toy0", "/dev/null"), device("toy1", "/dev/zero"), device("all", "/dev/null")]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{VENDOR}.json"
    path.write_text(json.dumps(spec))
    return path


@contextlib.contextmanager
def private_engine():
    """A second dockerd that shares nothing with the machine's: own socket, data, state, no bridge, no iptables."""
    dockerd = shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/usr/local/sbin")
    if dockerd is None or os.getuid() != 0:
        pytest.skip("the engine has CDI off, and a private one needs root and dockerd")
    # Not pytest's folder: its path is too long for a socket.
    home = Path(tempfile.mkdtemp(prefix="dlab-cdi-"))
    write_toys(home / "cdi")
    (home / "daemon.json").write_text('{"features": {"cdi": true}}')
    options = {
        "config-file": home / "daemon.json", "cdi-spec-dir": home / "cdi", "host": f"unix://{home}/d.sock",
        "data-root": home / "root", "exec-root": home / "exec", "pidfile": home / "d.pid",
        "bridge": "none", "iptables": "false", "ip6tables": "false",
    }  # fmt: skip
    command = [dockerd, *(f"--{name}={value}" for name, value in options.items())]
    if setpriv := shutil.which("setpriv"):  # it must not outlive tests that are killed
        command = [setpriv, "--pdeathsig=TERM", *command]
    # In a network namespace of its own: a dockerd with `--bridge=none` removes the machine's docker0 at its start.
    command = ["unshare", "--net", *command]
    with (home / "log").open("wb") as log:
        daemon = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        for _ in Deadline.after(READY_S).poll(0.2):
            try:
                client = docker.DockerClient(base_url=f"unix://{home}/d.sock", version="auto", timeout=60)
                break
            except DockerException:
                if daemon.poll() is not None:
                    tail = (home / "log").read_text()[-600:]
                    pytest.skip(f"a private engine does not start here (26.0 or newer is needed): {tail}")
        else:
            pytest.fail(f"the private engine did not answer: {(home / 'log').read_text()[-2000:]}")
        yield client
        client.close()
    finally:
        daemon.send_signal(signal.SIGTERM)
        try:
            daemon.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(daemon.pid, signal.SIGKILL)  # with its containerd
            daemon.wait(10)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def cdi_engine(engine):
    """An engine that lists the toys: the machine's own where it has CDI on, else a private one."""
    folders = engine.info().get("CDISpecDirs") or []
    writable = [Path(folder) for folder in folders if os.access(Path(folder).parent, os.W_OK)]
    if writable:
        path = write_toys(writable[-1])
        try:
            yield engine
        finally:
            path.unlink()
        return
    with private_engine() as client:
        yield client


@pytest.fixture(scope="module")
def cdi_image(cdi_engine):
    with tiny_image(cdi_engine) as tag:
        yield tag


SHOW = 'echo "toy=$DOCKERLAB_TOY"; for d in /dev/toy*; do echo "$d"; done; echo "nvidia=$NVIDIA_VISIBLE_DEVICES"'


@pytest.mark.engine
def test_a_cdi_device_goes_from_the_engine_s_list_through_a_lease_into_one_container(cdi_engine, cdi_image, leases):
    seen = look(cdi_engine.info(), Deadline.after(10))
    toys = [gpu for gpu in seen.gpus() if VENDOR in gpu.uuid]
    assert [gpu.cdi_name for gpu in toys] == [f"{VENDOR}/gpu=toy0", f"{VENDOR}/gpu=toy1"]  # and not `all`

    choice = parse(f"{VENDOR}/gpu=toy1")
    with acquire(choice, seen, Deadline.after(10), silent, run_id=RUN, folder=leases) as lease:
        wanted = request(lease.gpus, seen.support)
        assert check(lease.gpus, seen.support, seen) == ()
        assert accelerator(lease, choice, seen).uuid == f"{VENDOR}/gpu=toy1"
        with container(cdi_engine, cdi_image, wanted, SHOW) as made:
            assert made.attrs["HostConfig"]["DeviceRequests"] == list(wanted.device_requests)
            assert wanted.device_requests[0]["Driver"] == "cdi"
            assert output(made) == ["toy=toy1", "/dev/toy1", "nvidia=void"]
        with (
            pytest.raises(GpuUnavailable, match=RUN),
            acquire(choice, seen, Deadline.after(0.2), silent, folder=leases),
        ):
            pass


@pytest.mark.engine
def test_auto_takes_another_device_than_the_one_that_is_held(cdi_engine, cdi_image, leases):
    class Toys:
        """The engine's list without the GPUs that this machine may have besides."""

        def __init__(self, inner):
            self.inner, self.absence, self.users = inner, inner.absence, inner.users

        def gpus(self):
            return tuple(gpu for gpu in self.inner.gpus() if VENDOR in gpu.uuid)

    seen = look(cdi_engine.info(), Deadline.after(10))
    toys, shown = Toys(seen), []
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            lease = stack.enter_context(acquire(parse("auto"), toys, Deadline.after(5), silent, folder=leases))
            made = stack.enter_context(container(cdi_engine, cdi_image, request(lease.gpus, seen.support), SHOW))
            shown.append(output(made)[:2])
        third = stack.enter_context(acquire(parse("auto"), toys, Deadline.after(0.2), silent, folder=leases))
        assert third is None
    assert shown == [["toy=toy0", "/dev/toy0"], ["toy=toy1", "/dev/toy1"]]


@pytest.mark.engine
def test_the_cpu_s_container_overrules_the_image(engine, image):
    with container(
        engine, image, request((), support_from_info(engine.info())), "echo $NVIDIA_VISIBLE_DEVICES"
    ) as made:
        assert not made.attrs["HostConfig"]["DeviceRequests"]
        assert output(made) == ["void"]


CARD = Gpu("nvidia", 0, "GPU-5c8e9a3e-1b2c-4d5e-8f90-a1b2c3d4e5f6", "a card that is not here")


@pytest.mark.engine
def test_nvidia_s_request_comes_back_from_inspect_as_it_was_sent(engine, image):
    wanted = request([CARD], support_from_info({"Runtimes": {"nvidia": {}}}))
    with container(engine, image, wanted) as made:  # created and never started: there is no such card
        assert made.status == "created"
        assert made.attrs["HostConfig"]["DeviceRequests"] == [
            {
                "Driver": "nvidia",
                "Count": 0,
                "DeviceIDs": [CARD.uuid],
                "Capabilities": [["gpu", "compute", "utility"]],
                "Options": {},
            }
        ]
        env = dict(entry.split("=", 1) for entry in made.attrs["Config"]["Env"])
        assert env["NVIDIA_VISIBLE_DEVICES"] == CARD.uuid
        assert env["CUDA_VISIBLE_DEVICES"] == "0"


@pytest.mark.engine
def test_an_engine_without_the_toolkit_refuses_at_the_start_what_we_refuse_before(engine, image):
    seen = look(engine.info(), Deadline.after(10))
    if seen.support.way(CARD):
        pytest.skip("this engine has NVIDIA's toolkit")
    with pytest.raises(GpuUnavailable, match="no way"):
        request([CARD], seen.support)
    forced = request([CARD], support_from_info({"Runtimes": {"nvidia": {}}}))
    with (
        container(engine, image, forced) as made,
        pytest.raises(APIError, match="could not select device driver"),
    ):
        made.start()


@pytest.mark.engine
def test_device_files_and_numeric_groups_as_rocm_needs_them(engine, image):
    card = Gpu("rocm", 0, "GPU-0", "a stand-in", nodes=("/dev/full", "/dev/zero"), groups=(44, 109))
    wanted = request([card], support_from_info(engine.info()))
    groups = "while read name rest; do [ $name = Groups: ] && echo $rest; done </proc/self/status"
    script = f"test -c /dev/full && test -c /dev/zero && {groups}"
    with container(engine, image, wanted, f"{script}; true") as made:
        assert {one["PathOnHost"] for one in made.attrs["HostConfig"]["Devices"]} == {"/dev/full", "/dev/zero"}
        assert made.attrs["HostConfig"]["GroupAdd"] == ["44", "109"]
        assert {"44", "109"} <= set(output(made))


# With a GPU


@pytest.fixture
def card():
    gpus = NvmlInventory().gpus()
    if not gpus:
        pytest.skip(f"no NVIDIA GPU here: {NvmlInventory().absence()}")
    return gpus[0]


@pytest.mark.gpu
def test_nvml_tells_what_a_choice_needs(card):
    assert card.uuid.startswith(("GPU-", "MIG-"))
    assert card.memory_bytes > 2**30
    assert 0 < card.free_bytes <= card.memory_bytes
    assert card.driver
    assert card.cuda >= (11, 0)
    assert NvmlInventory().users(card) is not None


# A context and 256 MiB, by the driver's own library: no framework is needed for that.
USE_THE_GPU = """
import ctypes, sys, time
cuda = ctypes.CDLL("libcuda.so.1")
device, context, pointer = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_uint64()
assert cuda.cuInit(0) == 0
assert cuda.cuDeviceGet(ctypes.byref(device), 0) == 0
assert cuda.cuCtxCreate_v2(ctypes.byref(context), 0, device) == 0
assert cuda.cuMemAlloc_v2(ctypes.byref(pointer), ctypes.c_size_t(256 * 2**20)) == 0
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.gpu
def test_a_process_on_the_gpu_is_seen_and_one_beside_it_is_not(card):
    watch, other = GpuWatch(NvmlInventory(), [card]), GpuWatch(NvmlInventory(), [card])
    env = {**os.environ, "CUDA_VISIBLE_DEVICES": card.uuid}
    with subprocess.Popen([sys.executable, "-c", USE_THE_GPU], stdout=subprocess.PIPE, env=env) as process:
        try:
            assert process.stdout.readline() == b"ready\n"
            if process.pid not in (NvmlInventory().users(card) or {}):
                pytest.skip("NVML names other process ids than ours (a container with ids of its own)")
            for _ in range(3):
                watch.sample([process.pid])
                other.sample([os.getpid()])
                time.sleep(0.2)
        finally:
            process.kill()
    assert watch.result().used is True
    assert watch.result().peak_bytes >= 256 * 2**20
    assert watch.result().seconds > 0.3
    assert other.result().used is False


@pytest.mark.gpu
@pytest.mark.engine
def test_the_container_sees_the_leased_gpu_and_no_other(engine, card, leases):
    seen = look(engine.info(), Deadline.after(30))
    if not seen.gpus():
        pytest.skip(seen.absence())
    smi = shutil.which("nvidia-smi")
    with (
        acquire(parse("required"), seen, Deadline.after(60), silent, run_id=RUN, folder=leases) as lease,
        tiny_image(engine, *([smi] if smi else [])) as tag,
        container(engine, tag, request(lease.gpus, seen.support), "nvidia-smi -L") as made,
    ):
        made.start()
        assert made.wait(timeout=120)["StatusCode"] == 0, made.logs().decode()
        cards = [line for line in made.logs().decode().splitlines() if "UUID" in line]
        assert [lease.uuids[0] in line for line in cards if "MIG-" in line or lease.gpus[0].mig_parent is None] == [
            True
        ]
