"""What would go wrong, named before training starts."""

import pytest

from pytest_dockerlab.gpu import EngineInventory, EngineSupport, FakeInventory, Gpu, check
from pytest_dockerlab.gpu.preflight import busy_problem, driver_problem, image_env, satisfied, toolkit_problem

GIB = 2**30
CARD = Gpu("nvidia", 0, "GPU-fake-0000", "H100", 80 * GIB, 80 * GIB, "535.104.05", (12, 2), brand="tesla")
GEFORCE = Gpu("nvidia", 0, "GPU-fake-0000", "RTX", 8 * GIB, 8 * GIB, "535.104.05", (12, 2), brand="geforce")
NAMELESS = Gpu("nvidia", 0, "GPU-fake-0000", "?", None, None, "535.104.05", (12, 2))
NVIDIA = EngineSupport(runtimes=("nvidia", "runc"))

# As NVIDIA's image for CUDA 12.4 says it: the driver's CUDA, or a data-centre card with an older long-term driver.
FOR_12_4 = (
    "cuda>=12.4 brand=tesla,driver>=470,driver<471 brand=unknown,driver>=470,driver<471 "
    "brand=tesla,driver>=535,driver<536 brand=nvidiartx,driver>=535,driver<536"
)


@pytest.mark.parametrize(
    ("requirement", "gpu", "answer"),
    [
        ("cuda>=12.2", CARD, True),
        ("cuda>=12.4", CARD, False),
        ("cuda>=12", CARD, True),
        ("cuda<=12", CARD, True),
        ("cuda=12.2", CARD, True),
        ("cuda!=12.2", CARD, False),
        ("cuda>11,cuda<12.2", CARD, False),
        ("cuda>=9.0 driver>=600", CARD, True),
        (FOR_12_4, CARD, True),
        (FOR_12_4, GEFORCE, False),
        (FOR_12_4, NAMELESS, None),
        ("cuda>=12.4 arch>=9.0", CARD, None),
        ("nonsense", CARD, None),
        ("", CARD, True),
        ("cuda>=x", CARD, None),
    ],
)
def test_requirements_of_images(requirement, gpu, answer):
    assert satisfied(requirement, gpu) is answer


@pytest.mark.parametrize(
    ("env", "bad"),
    [
        ({}, False),
        ({"CUDA_VERSION": "12.8.1"}, False),  # the same major version: CUDA's minor version compatibility
        ({"CUDA_VERSION": "13.0.0"}, True),
        ({"CUDA_VERSION": "11.8.0"}, False),
        ({"CUDA_VERSION": "12.4.1", "NVIDIA_REQUIRE_CUDA": "cuda>=12.4"}, True),
        ({"CUDA_VERSION": "12.4.1", "NVIDIA_REQUIRE_CUDA": "cuda>=12.4", "NVIDIA_DISABLE_REQUIRE": "1"}, False),
        ({"CUDA_VERSION": "13.0.0", "NVIDIA_REQUIRE_CUDA": FOR_12_4}, False),  # says itself that it is content
        ({"CUDA_VERSION": "garbage"}, False),
    ],
)
def test_a_driver_too_old_for_the_image(env, bad):
    problem = driver_problem(CARD, env)
    assert bool(problem) is bad
    if problem:
        assert problem.code == "driver-too-old"
        assert problem.fatal
        for lang in ("en", "zh"):
            assert "12.2" in problem.message(lang)
            assert "535.104.05" in problem.message(lang)
            assert problem.fix(lang)


def test_nothing_is_said_of_other_makers_drivers():
    assert driver_problem(Gpu("rocm", 0, "GPU-1", "W7900"), {"CUDA_VERSION": "13.0"}) is None


def test_a_missing_toolkit_is_named_with_the_gpu_that_it_keeps_away():
    inventory = EngineInventory(FakeInventory.of(1), EngineSupport(runtimes=("runc",)))
    (problem,) = check(inventory.gpus(), inventory.support, inventory, here=inventory.here())
    assert (problem.code, problem.fatal) == ("toolkit-missing", True)
    assert "nvidia-ctk" in problem.fix("zh")


@pytest.mark.parametrize(
    ("version", "bad"), [((1, 17, 7), True), ((1, 17, 8), False), ((1, 18, 0), False), (None, False)]
)
def test_an_unsafe_toolkit_is_a_warning(version, bad):
    problem = toolkit_problem([CARD], EngineSupport(runtimes=("nvidia",), toolkit=version))
    assert bool(problem) is bad
    if problem:
        assert (problem.code, problem.fatal) == ("toolkit-vulnerable", False)
        assert "CVE-2025-23266" in problem.message("en")
        assert "1.17.8" in problem.message("zh")


def test_a_busy_gpu_names_the_processes_and_is_fatal_only_without_room():
    inventory = FakeInventory.of(1)
    assert busy_problem(inventory.gpus()[0], inventory, 4 * GIB) is None
    inventory.use("GPU-fake-0000", {4242: 2 * GIB})
    warning = busy_problem(inventory.gpus()[0], inventory, 4 * GIB)
    assert (warning.code, warning.fatal) == ("gpu-busy", False)
    assert "4242" in warning.message("en")
    assert "4242" in warning.message("zh")
    inventory.use("GPU-fake-0000", {4242: 6 * GIB})
    assert busy_problem(inventory.gpus()[0], inventory, 4 * GIB).fatal


def test_fatal_problems_come_first():
    inventory = FakeInventory.of(1)
    inventory.use("GPU-fake-0000", {1: GIB})
    engine = EngineSupport(runtimes=("nvidia",), toolkit=(1, 16, 0))
    found = check(inventory.gpus(), engine, inventory, image_env={"CUDA_VERSION": "13.1"})
    assert [problem.code for problem in found] == ["driver-too-old", "toolkit-vulnerable", "gpu-busy"]


def test_all_well():
    inventory = FakeInventory.of(2)
    assert check(inventory.gpus(), NVIDIA, inventory, image_env={"CUDA_VERSION": "12.1.0"}, min_memory_bytes=GIB) == ()


def test_an_image_s_env_as_a_mapping():
    assert image_env(["A=1", "B=x=y", "odd", "A=2"]) == {"A": "2", "B": "x=y"}
    assert image_env(None) == {}
