"""Every layout of serving, and every way in which serving fails, on the real engine: one training run serves them all.

Each test starts the sample's own server from the artifact and holds the grade against the sample's `expected.toml`.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import sys
import time
from pathlib import Path

import pytest

from pytest_dockerlab import sandbox
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.connect import connect
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.labels import run_labels
from pytest_dockerlab.images.standins import ensure

spec = importlib.util.spec_from_file_location("real_engine_samples", Path(__file__).with_name("samples.py"))
assert spec is not None
assert spec.loader is not None
samples = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = samples
spec.loader.exec_module(samples)

pytestmark = [pytest.mark.engine, pytest.mark.images]
KINDS = ("good-serve-", "bad-serve-", "cheat-")  # other tests have samples of theirs in the same folder
NAMES = sorted(path.name for path in samples.SAMPLES.iterdir() if path.name.startswith(KINDS))
PROVEN = [name for name in NAMES if "[provenance]" in (samples.SAMPLES / name / "expected.toml").read_text()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, user_cache, user_config):
    """One real training run."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        cache = folder / "cache"
        (cache / "data").mkdir(parents=True)
        (cache / "data" / "mnist").symlink_to(user_cache / "data" / "mnist", target_is_directory=True)
        patch.setenv("DOCKERLAB_CACHE", str(cache))
        patch.setenv("DOCKERLAB_CONFIG_DIR", str(user_config))
        return samples.Trained.make(folder)


@pytest.fixture
def own_runs(tmp_path, monkeypatch, lab_images):
    """A cache of this test's own: no run of another one is seen."""
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "cache"))


def graded(name, trained, tmp_path, extra=None):
    if "triton" in name:  # its image is made by the first who needs it; the map goes into this test's own configuration
        ensure(["triton"], connect(), print)
    sample = samples.Sample.lay_out(name, tmp_path)
    began = time.monotonic()
    result, store = sample.grade(trained, extra)
    print(f"{name}: {time.monotonic() - began:.1f} s; " + " | ".join(one.message for one in result.checks[5:]))
    return sample, result, store


@pytest.mark.usefixtures("own_runs")
@pytest.mark.parametrize("name", NAMES)
def test_serving_sample_gets_its_stated_outcomes(name, trained, tmp_path):
    sample, result, store = graded(name, trained, tmp_path)
    samples.check(result, sample.expected)
    assert sample.expected.get("log", "") in (store.folder / "serve.log").read_text()
    if result.checks[-1].outcome.value != "blocked":
        pictures = list((store.folder / "digits").glob("q*-is-*-got-*.png"))
        assert len(pictures) == 50
        assert (store.folder / "digits.png").stat().st_size > 5000
        assert (store.folder / "serve-prediction.txt").stat().st_size >= 1


@pytest.mark.usefixtures("own_runs")
@pytest.mark.parametrize("name", PROVEN)
def test_answers_follow_a_permutation_of_the_artifact_or_are_found_out(name, trained, tmp_path):
    sample, result, store = graded(name, trained, tmp_path, samples.with_provenance())
    found = result.checks[-1]
    assert (found.id, found.outcome.value) == ("provenance", sample.expected["provenance"]["outcome"]), found.message
    assert sample.expected["provenance"]["message"] in found.message
    assert not (store.folder / "artifact-permuted.bin").exists()


def test_the_client_holds_a_host_name_that_resolves(lab_images):
    spec = dataclasses.replace(
        sandbox.client("dockerlab/client:latest", run_labels("test-hostname", "client"), 60),
        hostname="dockerlab",
        extra_hosts={"dockerlab": "127.0.0.1"},
    )
    with DockerEngine() as engine:
        container = engine.create(spec)
        try:
            assert engine.start(container) is None
            code = "import socket; print(socket.gethostname(), socket.gethostbyname(socket.gethostname()))"
            done = engine.exec(container, ("python3", "-I", "-c", code), b"", Deadline.after(20), 1000)
        finally:
            engine.remove(container)
    assert done.stdout.split() == [b"dockerlab", b"127.0.0.1"]
