"""`dockerlab doctor` with all in place, with a client that has no buildx, and with an address where no engine is."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pytest_dockerlab.doctor import examine
from pytest_dockerlab.engine.docker import DockerEngine

pytestmark = pytest.mark.engine

PROGRAM = """
from pytest_dockerlab.cli import DockerLabGroup
from pytest_dockerlab.doctor.cli import doctor
group = DockerLabGroup("dockerlab")
group.add_command(doctor)
group.main(prog_name="dockerlab")
"""


def run(*args: str, **environ: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "doctor", *args],
        env={**os.environ, **environ},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def rows(output: str) -> dict[str, dict[str, Any]]:
    return {row["check"]: row for row in json.loads(output)}


@pytest.mark.usefixtures("lab_data", "lab_images")
def test_with_all_in_place() -> None:
    started = time.monotonic()
    status, output, errors = run("--json")
    took = time.monotonic() - started
    assert errors == ""
    found = rows(output)
    assert list(found) == [name for name, _ in examine.CHECKS]
    with DockerEngine() as engine:
        info = engine.info()
        assert f"{info.name} {info.version}" in found["engine"]["message"]
        assert engine.host in found["engine"]["message"]
        assert found["builder"]["message"].startswith("buildx") == (info.builder == "buildx")
        assert f"cgroup v{info.cgroup_version}" in found["cgroup"]["message"]
        assert ("gVisor (runsc), the stronger" in found["runtimes"]["message"]) == ("runsc" not in info.runtimes)
    for name in ("python", "engine", "cgroup", "quota"):
        assert found[name]["status"] == "ok", found[name]
    assert status == (1 if any(row["status"] == "fail" for row in found.values()) else 0)
    assert all(row["fix"] for row in found.values() if row["status"] == "fail")
    assert took < 60

    _, shown, errors = run()
    assert errors == ""
    assert "doctor: " in shown.splitlines()[-1]


def test_the_trial_of_a_cgroup_leaves_none() -> None:
    run("--json")
    assert not list(Path("/sys/fs/cgroup").glob("**/dockerlab-doctor-*"))


def test_with_a_bare_client_beside_the_engine(tmp_path: Path) -> None:
    client = shutil.which("docker")
    if client is None:
        pytest.skip("no docker client here")
    bare = tmp_path / "docker"
    bare.write_text(f'#!/bin/sh\n[ "$1" = buildx ] && exit 1\nexec {client} "$@"\n')
    bare.chmod(0o755)
    _, output, errors = run("--json", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert errors == ""
    found = rows(output)
    assert found["engine"]["status"] == "ok"
    assert found["builder"]["status"] == "warn"
    assert f"{bare} is a bare client" in found["builder"]["message"]
    assert found["builder"]["fix"]
    assert found["build-limits"]["status"] == "warn"


def test_with_a_bare_client_and_no_engine(tmp_path: Path) -> None:
    bare = tmp_path / "docker"
    bare.write_text("#!/bin/sh\nexit 1\n")
    bare.chmod(0o755)
    status, output, errors = run("--json", DOCKER_HOST=f"unix://{tmp_path}/none.sock", PATH=str(tmp_path))
    assert (status, errors) == (1, "")
    found = rows(output)
    assert found["engine"]["status"] == "fail"
    assert "none.sock" in found["engine"]["message"]
    assert f"{bare} is a bare client" in found["builder"]["message"]


def test_with_neither_client_nor_engine(tmp_path: Path) -> None:
    status, output, errors = run("--json", DOCKER_HOST=f"unix://{tmp_path}/none.sock", PATH=str(tmp_path))
    assert (status, errors) == (1, "")
    assert rows(output)["builder"]["message"].startswith("no docker client on the PATH")


def test_an_address_that_swallows_every_packet_does_not_hold_us_up() -> None:
    started = time.monotonic()
    status, output, errors = run("--json", DOCKER_HOST="tcp://192.0.2.1:2375")  # reserved for documentation
    assert (status, errors) == (1, "")
    assert rows(output)["engine"]["status"] == "fail"
    assert time.monotonic() - started < 60
