"""Which test holds each of ENGINE.md's sixteen points; the files have to be there, and the cheap ones are here.

A point names what breaks on real engines. A row that points nowhere fails below.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_dockerlab import sandbox
from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.labels import new_run_id, run_labels
from pytest_dockerlab.images import names

TESTS = Path(__file__).parents[1]

POINTS: dict[int, tuple[str, ...]] = {
    1: (  # the classic builder misbuilds; build contexts; RUN steps under a cgroup
        "engine_contract/test_build.py::test_what_only_buildkit_builds",
        "adversarial/test_runs.py::test_the_classic_builder_refuses_a_heredoc_by_name",
        "engine_contract/test_build.py::test_a_base_image_is_replaced",
        "adversarial/test_runs.py::test_gets_its_stated_outcome",
    ),
    2: ("engine_contract/test_build.py::test_the_deadline_stops_the_step",),
    3: ("adversarial/test_runs.py::test_the_whole_runs_time_has_its_own_message",),
    4: ("adversarial/test_runs.py::test_gets_its_stated_outcome",),  # adv-log-*
    5: (
        "real_engine/test_killed_grading.py",
        "real_engine/test_cleanup.py",
        "unit/test_guard.py",
        "unit/test_reaper.py",
    ),
    6: ("engine_contract/test_containers.py",),
    7: ("real_engine/test_cleanup.py",),  # no Ryuk: our own reaper
    8: ("adversarial/test_runs.py::test_gets_its_stated_outcome",),  # adv-ignores-sigterm
    9: ("real_engine/test_serve_client.py", "adversarial/test_runs.py::test_gets_its_stated_outcome"),
    10: ("real_engine/test_engine_points.py::test_shm_is_the_assignments",),
    11: ("adversarial/test_runs.py::test_gets_its_stated_outcome",),  # adv-environment, adv-labels, adv-healthcheck
    12: ("adversarial/test_artifacts.py",),
    13: ("real_engine/test_inspection.py",),
    14: ("real_engine/test_engine_points.py::test_the_api_version_is_negotiated",),
    15: ("real_engine/test_engine_points.py::test_runs_make_no_network",),
    16: ("adversarial/test_hostile_repos.py",),
}


def test_every_point_has_a_test():
    assert sorted(POINTS) == list(range(1, 17))
    for places in POINTS.values():
        for place in places:
            file, _, name = place.partition("::")
            assert (TESTS / file).is_file(), place
            assert not name or f"def {name}(" in (TESTS / file).read_text(), place


@pytest.mark.engine
@pytest.mark.images
def test_shm_is_the_assignments(user_config: Path):
    """64 MiB by default, where DataLoaders die with a bus error (point 10)."""
    files = [user_config / name for name in (names.CONFIG_FILE, names.STANDINS_FILE)]
    image = names.resolve("python:3.11-slim", *(names.load_map(file) for file in files if file.is_file()))
    with DockerEngine() as engine:
        labels = run_labels(new_run_id(), "test")
        spec = sandbox.training(image or "python:3.11-slim", ImageConfig("", 0), Limits(), labels)
        container = engine.create(spec)
        try:
            host = engine._api.inspect_container(container)["HostConfig"]
        finally:
            engine.remove(container)
    assert host["ShmSize"] == Limits().shm
    assert host["MemorySwap"] == host["Memory"] == Limits().memory  # no swap on top
    assert host["Init"] is True
    assert host["NetworkMode"] == "none"
    assert host["CapDrop"] == ["ALL"]


@pytest.mark.engine
def test_the_api_version_is_negotiated():
    with DockerEngine() as engine:
        assert engine._api._version == engine.info().api_version or float(engine._api._version) >= 1.24


@pytest.mark.engine
def test_runs_make_no_network():
    """About thirty bridges exhaust the default pools: ours use `none`, and `container:` to share it (point 15)."""
    with DockerEngine() as engine:
        image = ImageConfig("", 0)
        labels = run_labels(new_run_id(), "test")
        specs = [
            sandbox.training("a", image, Limits(), labels),
            sandbox.client("a", labels, 1),
            sandbox.probe("a", labels),
            sandbox.server("a", image, Limits(), labels, "b"),
        ]
        assert {spec.network for spec in specs} == {"none", "container:b"}
        ours = [one for one in engine.owned() if one.kind == "network" and one.labels.get("dockerlab.role") != "test"]
    assert ours == []
