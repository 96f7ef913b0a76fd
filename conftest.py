"""What the test suite needs, and nothing that the wheel needs.

Tests never see the user's own cache or configuration: both variables point into a temporary folder for the whole
session. A test that needs the fetched data or the map of stand-in images asks for `lab_data` or `lab_images`, which
lend them without writing to the originals.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest

from pytest_dockerlab import paths

pytest_plugins = ["pytester"]
# 200 ms for one example is no bound on a machine that does other things too.
hypothesis.settings.register_profile("dockerlab", deadline=None)
hypothesis.settings.load_profile("dockerlab")

LEFT_GRACE_S = 15.0  # the helper that cleans up behind a killed run has this long
NEEDED_IMAGES = ("dockerlab/client:latest", "python:3.11-slim", "pytorch/pytorch:latest", "pytorch/torchserve:latest")


def pytest_configure(config: pytest.Config) -> None:
    """Declare the suite's own marker."""
    config.addinivalue_line("markers", "podman_lacks(point): what Podman's API can't do (tests/engine_contract)")
    # A suite in the background of a shell is born ignoring SIGINT, under nohup SIGHUP, and so would be what it starts.
    for sign, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(sign) is signal.SIG_IGN:
            signal.signal(sign, usual)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine can't run, with the reason and the way to change that."""
    if item.get_closest_marker("gpu") and not has_gpu():
        pytest.skip("no GPU on this machine (no /dev/nvidiactl, no /dev/kfd)")
    if item.get_closest_marker("engine") or item.get_closest_marker("images"):
        problem = engine_problem()
        if problem:
            pytest.skip(f"no container engine answers; scripts/engine.sh starts one ({problem})")
    if item.get_closest_marker("images"):
        missing = missing_images()
        if missing:
            pytest.skip(f"images are missing: {', '.join(missing)}; run `dockerlab images ensure`")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Have every test on a real engine watched for what it leaves behind."""
    for item in items:
        if item.get_closest_marker("engine") or item.get_closest_marker("images"):
            # Set up first, so torn down last.
            item.fixturenames.insert(0, "nothing_left_behind")  # type: ignore[attr-defined]


@cache
def has_gpu() -> bool:
    """Whether a GPU's driver is here."""
    return Path("/dev/nvidiactl").exists() or Path("/dev/kfd").exists()


@cache
def engine_problem() -> str | None:
    """Return why no engine answers, or `None`."""
    from pytest_dockerlab.engine.connect import connect
    from pytest_dockerlab.errors import DockerLabError

    try:
        connect(read_idle_s=20).close()
    except DockerLabError as error:
        return error.message
    return None


@cache
def missing_images() -> tuple[str, ...]:
    """Return the images that the labs need and that neither the engine nor the user's maps have."""
    from pytest_dockerlab.engine.docker import DockerEngine
    from pytest_dockerlab.images import names

    files = [_user_config() / name for name in (names.CONFIG_FILE, names.STANDINS_FILE)]
    maps = [names.load_map(file) for file in files if file.is_file()]
    with DockerEngine() as engine:
        return tuple(
            name for name in NEEDED_IMAGES if engine.image(names.resolve(name, *maps) or names.normalise(name)) is None
        )


# -- apart from the user's own folders

_USER = {"cache": paths.cache_dir(), "config": paths.config_dir()}  # before anything below changes the environment


def _user_config() -> Path:
    return _USER["config"]


@pytest.fixture(scope="session", autouse=True)
def _own_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Point cache and configuration into a temporary folder, and forget what the user's shell says to this package."""
    folder = tmp_path_factory.mktemp("dockerlab")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("DOCKERLAB_")]:
            patch.delenv(name)
        patch.setenv("DOCKERLAB_CACHE", str(folder / "cache"))
        patch.setenv("DOCKERLAB_CONFIG_DIR", str(folder / "config"))
        yield folder


@pytest.fixture(scope="session")
def user_cache() -> Path:
    """The cache folder of whoever runs the tests: to be read, never to be written to."""
    return _USER["cache"]


@pytest.fixture(scope="session")
def user_config() -> Path:
    """The configuration folder of whoever runs the tests: to be read, never to be written to."""
    return _user_config()


@pytest.fixture
def lab_data(user_cache: Path) -> Path:
    """The cache folder of this test, with the data sets that the user has fetched: linked, so nothing is copied."""
    own = paths.cache_dir() / "data" / "mnist"
    own.mkdir(parents=True, exist_ok=True)
    for name in ("full", "subset"):
        theirs = user_cache / "data" / "mnist" / name
        if theirs.is_dir() and not (own / name).exists():
            with contextlib.suppress(FileExistsError):
                (own / name).symlink_to(theirs, target_is_directory=True)
    return paths.cache_dir()


@pytest.fixture
def lab_images(user_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration folder of this test that knows the user's maps of images (mirrors, stand-ins)."""
    own = tmp_path / "dockerlab-config"
    own.mkdir()
    for name in ("config.toml", "standins.toml"):
        if (user_config / name).is_file():
            shutil.copyfile(user_config / name, own / name)
    monkeypatch.setenv("DOCKERLAB_CONFIG_DIR", str(own))
    return own


# -- nothing is left


@pytest.fixture(scope="session")
def nothing_left_behind() -> Iterator[None]:
    """Fail the session where a container, image, network or volume of ours, made meanwhile, is still there at its end.

    Another session on the same engine is left alone as long as the process lives that its labels name.
    """
    from pytest_dockerlab.engine.docker import DockerEngine
    from pytest_dockerlab.engine.labels import PID

    with DockerEngine() as engine:
        before = {thing.id for thing in engine.owned()}

        def left() -> list[str]:
            return [
                f"{thing.kind} {thing.name} {dict(thing.labels)}"
                for thing in engine.owned()
                if thing.id not in before and not _belongs_to_another(thing.labels.get(PID, ""))
            ]

        yield
        until = time.monotonic() + LEFT_GRACE_S
        while (found := left()) and time.monotonic() < until:
            time.sleep(0.5)
    if found:
        lines = "\n  ".join(found)
        pytest.fail(f"the tests left {len(found)} things of ours on the engine:\n  {lines}", pytrace=False)


def _belongs_to_another(pid: str) -> bool:
    """Whether the label names a living process that is not this one; all that this package makes has the label."""
    return not pid.isdigit() or (int(pid) != os.getpid() and Path(f"/proc/{pid}").exists())
