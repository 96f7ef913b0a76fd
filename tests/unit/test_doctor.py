"""`dockerlab doctor` on machines that this one is not: no engine, a bare client, and whatever may be missing."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import docker
import pytest
from click.testing import CliRunner, Result

from pytest_dockerlab import gpu
from pytest_dockerlab.cli import DockerLabGroup
from pytest_dockerlab.doctor import engine, examine, host, labs
from pytest_dockerlab.doctor.cli import doctor
from pytest_dockerlab.doctor.finding import Finding, Status, ok
from pytest_dockerlab.doctor.machine import Asked, Machine, TookTooLong
from pytest_dockerlab.engine import connect
from pytest_dockerlab.errors import DockerLabError
from pytest_dockerlab.gpu import EngineInventory, EngineSupport, FakeInventory

GROUP = DockerLabGroup("dockerlab")
GROUP.add_command(doctor)
CLIENT = cast(docker.DockerClient, object())
KERNEL = "6.1.0"
INFO = {
    "Runtimes": {"runc": {}, "io.containerd.runc.v2": {}},
    "DefaultRuntime": "runc",
    "CgroupVersion": "2",
    "CgroupDriver": "systemd",
    "MemoryLimit": True,
    "SwapLimit": True,
    "CpuCfsQuota": True,
    "PidsLimit": True,
    "Driver": "overlay2",
    "DriverStatus": [["Backing Filesystem", "extfs"]],
    "DockerRootDir": "/var/lib/docker",
    "KernelVersion": KERNEL,
}


def machine(info: dict[str, Any] | None = None, **more: Any) -> Machine:
    given: dict[str, Any] = {
        "client": CLIENT,
        "host": "unix:///var/run/docker.sock",
        "info": {**INFO, **(info or {})},
        "version": {"Version": "26.1.5", "ApiVersion": "1.45"},
        "environ": {"PATH": "/nowhere"},
        "platform": "linux",
        "kernel": KERNEL,
    }
    return Machine(**{**given, **more})


def one(check: Callable[[Machine], list[Finding]], where: Machine) -> Finding:
    found = check(where)
    assert len(found) == 1
    return found[0]


def commands(folder: Path, **scripts: str) -> str:
    """Make a folder of commands; return it as a PATH."""
    folder.mkdir(exist_ok=True)
    for name, script in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    return str(folder)


BARE = "echo \"docker: 'buildx' is not a docker command.\" >&2; exit 1"


def run(*args: str) -> Result:
    return CliRunner().invoke(GROUP, ["doctor", *args], prog_name="dockerlab")


# -- whole machines


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(connect, "_candidates", list)
    monkeypatch.setattr(connect, "_from_context", lambda: None)
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()


@pytest.mark.usefixtures("no_engine")
def test_without_anything(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result = run("--json")
    assert result.exit_code == 1
    rows = json.loads(result.output)
    assert all(set(row) == {"check", "status", "message", "fix"} for row in rows)
    by_name = {row["check"]: row for row in rows}
    assert list(dict.fromkeys(row["check"] for row in rows)) == [name for name, _ in examine.CHECKS]
    assert by_name["engine"]["status"] == "fail"
    assert "No container engine answers" in by_name["engine"]["message"]
    assert by_name["engine"]["fix"]
    assert by_name["builder"]["status"] == "warn"
    assert "no docker client" in by_name["builder"]["message"]
    for name in examine.NEED_ENGINE:
        assert (by_name[name]["status"], by_name[name]["message"]) == ("warn", "not known: no engine answers")
    assert [row["check"] for row in rows if row["status"] == "fail"] == ["engine"]
    shown = run()
    assert shown.exit_code == 1
    assert "fail  engine" in shown.output
    assert "-> " in shown.output
    assert "1 failed" in shown.output
    assert "dockerlab doctor --json" in run("--help").output
    assert "Traceback" not in shown.output


@pytest.mark.usefixtures("no_engine")
def test_with_a_bare_client_only(tmp_path: Path) -> None:
    commands(tmp_path / "bin", docker=BARE)
    rows = {row["check"]: row for row in json.loads(run("--json").output)}
    assert rows["engine"]["status"] == "fail"
    assert f"Only a docker client is here ({tmp_path / 'bin' / 'docker'})" in rows["engine"]["message"]
    assert rows["builder"]["status"] == "warn"
    assert "bare client, without buildx" in rows["builder"]["message"]
    assert rows["builder"]["fix"]


@pytest.mark.usefixtures("no_engine")
def test_an_address_where_nobody_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no.sock")
    rows = {row["check"]: row for row in json.loads(run("--json").output)}
    assert rows["engine"]["status"] == "fail"
    assert "no.sock" in rows["engine"]["message"]
    assert rows["engine"]["fix"].startswith("unset DOCKER_HOST")


@pytest.mark.usefixtures("no_engine")
def test_an_engine_that_never_answers_does_not_hold_us_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pytest_dockerlab.doctor.machine.connect", lambda **_: time.sleep(30))
    monkeypatch.setattr("pytest_dockerlab.doctor.machine.ENGINE_S", 0.2)
    started = time.monotonic()
    rows = {row["check"]: row for row in json.loads(run("--json").output)}
    assert time.monotonic() - started < 15
    assert rows["engine"]["message"] == "The engine does not answer: no answer within 0 s."


# -- no check ends the others


def test_a_check_that_fails_itself_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(error: Exception) -> Callable[[Machine], list[Finding]]:
        def check(_: Machine) -> list[Finding]:
            raise error

        return check

    def sleeps(_: Machine) -> list[Finding]:
        time.sleep(30)
        return []

    checks = (
        ("ours", raises(DockerLabError("it is broken", fix="mend it"))),
        ("bug", raises(KeyError("x"))),
        ("slow", sleeps),
        ("fine", lambda _: [ok("fine", "yes")]),
    )
    monkeypatch.setattr(examine, "CHECKS", checks)
    monkeypatch.setattr(examine, "CHECK_S", 0.2)
    found = list(examine.examine(machine()))
    assert [(one.check, one.status) for one in found] == [
        ("ours", Status.FAIL),
        ("bug", Status.WARN),
        ("slow", Status.WARN),
        ("fine", Status.OK),
    ]
    assert found[0].fix == "mend it"
    assert "KeyError" in found[1].message


def test_a_question_has_its_answer_its_error_or_its_end() -> None:
    assert Asked(lambda: 1).answer(5) == 1
    with pytest.raises(ZeroDivisionError):
        Asked(lambda: 1 // 0).answer(5)
    with pytest.raises(TookTooLong, match="within"):
        Asked(lambda: time.sleep(30)).answer(0.05)


# -- the engine


def test_which_engine_answers() -> None:
    found = one(engine.engine, machine())
    assert (found.status, found.message) == (Status.OK, "Docker 26.1.5 (API 1.45) at unix:///var/run/docker.sock")
    podman = machine(version={"Version": "4.3.1", "ApiVersion": "1.41", "Components": [{"Name": "Podman Engine"}]})
    assert one(engine.engine, podman).message.startswith("Podman 4.3.1")
    old = machine(version={"Version": "19.03", "ApiVersion": "1.40"})
    assert one(engine.engine, old).status is Status.FAIL
    assert one(engine.engine, machine(version={"ApiVersion": "1.52"})).status is Status.OK


@pytest.mark.parametrize(
    ("more", "problem", "fix"),
    [
        ({}, "PermissionError(13, 'Permission denied'): permission denied", "usermod -aG docker"),
        ({"environ": {"DOCKER_HOST": "tcp://x:1", "PATH": ""}}, "no", "unset DOCKER_HOST"),
        ({"platform": "darwin"}, "no", "brew install colima docker docker-buildx"),
    ],
)
def test_how_to_get_an_engine(more: dict[str, Any], problem: str, fix: str) -> None:
    found = one(engine.engine, machine(client=None, problem=problem, **more))
    assert found.status is Status.FAIL
    assert fix in (found.fix or "")


def test_the_builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bin"

    def found(script: str | None, **more: Any) -> Finding:
        shutil.rmtree(path, ignore_errors=True)
        where = commands(path, docker=script) if script else str(path)
        monkeypatch.setenv("PATH", where)
        return one(engine.builder, machine(environ={"PATH": where}, **more))

    fine = found("echo github.com/docker/buildx v0.13.1 abc")
    assert (fine.status, fine.message) == (Status.OK, f"buildx 0.13.1 (client: {path}/docker)")
    old = found("echo github.com/docker/buildx v0.9.1 abc")
    assert old.status is Status.WARN
    assert "v0.9.1" in old.message
    assert "too old" in old.message
    assert "bare client" in found(BARE).message
    assert "no docker client" in found(None).message
    assert "Podman" in found(BARE, version={"Components": [{"Name": "Podman Engine"}]}).message


def test_a_plugin_that_the_client_does_not_find_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugins = commands(tmp_path / "plugins", **{"docker-buildx": "true"})
    monkeypatch.setattr(engine, "PLUGIN_FOLDERS", (plugins,))
    path = commands(tmp_path / "bin", docker=BARE)
    monkeypatch.setenv("PATH", path)
    found = one(engine.builder, machine(environ={"PATH": path}))
    assert found.fix == f"mkdir -p ~/.docker/cli-plugins && ln -sf {plugins}/docker-buildx " + (
        "~/.docker/cli-plugins/docker-buildx"
    )


def test_runtimes() -> None:
    plain = one(engine.runtimes, machine())
    assert plain.status is Status.OK
    assert plain.message.startswith("runc (default: runc)")
    assert "--dockerlab-runtime runsc" in one(engine.runtimes, machine({"Runtimes": {"runc": {}, "runsc": {}}})).message
    asked = one(engine.runtimes, machine(environ={"DOCKERLAB_RUNTIME": "runsc"}))
    assert asked.status is Status.FAIL


def test_podman_names_runtimes_that_are_not_here() -> None:
    known = {"runc": {"path": sys.executable}, "runsc": {"path": "/nowhere/runsc"}}
    podman = machine({"Runtimes": known}, version={"Components": [{"Name": "Podman Engine"}]})
    assert "can be chosen" not in one(engine.runtimes, podman).message
    assert one(engine.runtimes, podman).message.startswith("runc ")


def test_cgroup() -> None:
    assert one(engine.cgroup, machine()).status is Status.OK
    rootless = one(engine.cgroup, machine({"PidsLimit": False, "CpuCfsQuota": False}))
    assert rootless.status is Status.FAIL
    assert "no limit on cpu, pids" in rootless.message
    swap = one(engine.cgroup, machine({"SwapLimit": False}))
    assert swap.status is Status.WARN
    podman = machine({"PidsLimit": False}, version={"Components": [{"Name": "Podman Engine"}]})
    assert one(engine.cgroup, podman).status is Status.OK


def test_build_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine.buildx, "buildx_version", lambda: "0.13.1")
    monkeypatch.setattr(engine, "CGROUPS", tmp_path)

    def problem(**info: Any) -> str:
        return engine.build_limits_problem(machine(info)) or ""

    assert "systemd" in problem()
    assert "another system" in problem(KernelVersion="5.10-linuxkit")
    # A plain folder has no `memory.max` to write to, and none is made.
    assert "memory.max can't be set" in problem(CgroupDriver="cgroupfs")
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(engine, "CGROUPS", tmp_path / "none")
    assert "no group can be made" in problem(CgroupDriver="cgroupfs")
    assert "no group can be made" in problem(CgroupDriver="cgroupfs", CgroupVersion="1")
    found = one(engine.build_limits, machine())
    assert found.status is Status.WARN
    monkeypatch.setattr(engine.buildx, "buildx_version", lambda: None)
    assert "no buildx" in problem(CgroupDriver="cgroupfs")


def test_quota() -> None:
    assert "measured" in one(engine.quota, machine()).message
    assert "can limit" in one(engine.quota, machine({"Driver": "btrfs"})).message
    assert "measured" in one(engine.quota, machine({"DriverStatus": [["Backing Filesystem", "xfs"]]})).message
    assert one(engine.quota, machine({"DriverStatus": None, "Driver": None})).status is Status.OK


# -- this machine


def test_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 50e9
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(host.shutil, "disk_usage", lambda _: usage._replace(free=int(free)))
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "a" / "b"))
    where = machine({"DockerRootDir": str(tmp_path)})
    assert [found.status for found in host.disk(where)] == [Status.OK, Status.OK]
    free = 10e9
    first, second = host.disk(where)
    assert (first.status, second.status) == (Status.WARN, Status.OK)
    assert "10.0 GB" in first.message
    assert "dockerlab clean" in (first.fix or "")
    free = 0.1e9
    assert [found.status for found in host.disk(where)] == [Status.FAIL, Status.FAIL]
    assert "virtual machine" in host.disk(machine({"KernelVersion": "x"}))[0].message
    assert "another machine" in host.disk(machine(host="tcp://far:2376"))[0].message


def test_a_cache_that_can_not_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "file" / "cache"))
    found = host.disk(machine(client=None))[1]
    assert found.status is Status.FAIL
    assert "DOCKERLAB_CACHE" in (found.fix or "")


def test_git(tmp_path: Path) -> None:
    path = commands(tmp_path / "bin", git="echo git version 2.39.5")
    assert one(host.git, machine(environ={"PATH": path})).message == "git version 2.39.5"
    path = commands(tmp_path / "empty", **{"apt-get": "true"})
    found = one(host.git, machine(environ={"PATH": path}))
    assert (found.status, found.fix) == (Status.WARN, "sudo apt-get install git")


def test_python(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(host.python, machine()).status is Status.OK
    monkeypatch.setattr(host, "OLDEST_PYTHON", (99, 0))
    assert one(host.python, machine()).status is Status.FAIL


# -- what labs need


def test_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    assert one(labs.registry, machine(registry=Asked(lambda: True))).status is Status.OK
    found = one(labs.registry, machine(registry=Asked(lambda: False)))
    assert found.status is Status.WARN
    assert "dockerlab images ensure" in (found.fix or "")
    monkeypatch.setattr(labs, "REGISTRY_S", 0.1)
    assert one(labs.registry, machine(registry=Asked(lambda: bool(time.sleep(30))))).status is Status.WARN


def test_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path))
    found = one(labs.data, machine())
    assert (found.status, found.fix) == (Status.WARN, "dockerlab data fetch mnist")


def gpus(
    monkeypatch: pytest.MonkeyPatch,
    where: Machine,
    count: int,
    support: EngineSupport,
    busy: dict[str, Any] | None = None,
) -> list[Finding]:
    monkeypatch.setattr(gpu, "look", lambda *_, **__: EngineInventory(FakeInventory.of(count), support))
    monkeypatch.setattr(gpu, "holders", lambda *_: busy or {})
    return labs.gpu(where)


WITH_TOOLKIT = EngineSupport(runtimes=("nvidia", "runc"), toolkit=(1, 17, 8))


def test_no_gpu_is_fine_unless_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpus(monkeypatch, machine(), 0, EngineSupport())
    assert [one.status for one in found] == [Status.OK]
    assert "training uses the CPU" in found[0].message
    found = gpus(monkeypatch, machine(environ={"DOCKERLAB_GPU": "required"}), 0, EngineSupport())
    assert [one.status for one in found] == [Status.FAIL]


def test_each_gpu_says_how_it_is_requested(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpus(monkeypatch, machine(), 2, WITH_TOOLKIT, {"GPU-fake-0001": None})
    assert [one.status for one in found] == [Status.OK, Status.OK]
    assert "GPU-fake-0000) by NVIDIA's runtime, 8.0 GiB of 8.0 GiB free" in found[0].message
    assert "held by a run" in found[1].message


def test_what_keeps_a_gpu_from_being_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    found = gpus(monkeypatch, machine(), 1, EngineSupport(runtimes=("runc",)))
    assert [one.status for one in found] == [Status.WARN]
    assert "nvidia-ctk" in (found[0].fix or "")
    required = machine(environ={"DOCKERLAB_GPU": "required"})
    assert gpus(monkeypatch, required, 1, EngineSupport(runtimes=("runc",)))[0].status is Status.FAIL
    found = gpus(monkeypatch, machine(), 1, EngineSupport(runtimes=("nvidia",), toolkit=(1, 14, 0)))
    assert [one.status for one in found] == [Status.OK, Status.WARN]
    assert "CVE-2025-23266" in found[1].message
    found = gpus(monkeypatch, machine(client=None), 1, EngineSupport())
    assert [one.status for one in found] == [Status.WARN]
    assert "GPU-fake-0000" in found[0].message
