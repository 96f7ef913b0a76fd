"""The option's text, and which of the GPUs that are here it means."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pytest_dockerlab.errors import GpuUnavailable, UsageError
from pytest_dockerlab.gpu import FakeInventory, Gpu, GpuChoice, GpuMode, accelerator, parse
from pytest_dockerlab.gpu.inventory import GIB
from pytest_dockerlab.gpu.lease import Lease
from pytest_dockerlab.gpu.select import slots, why_none

SMALL = Gpu("nvidia", 0, "GPU-aaaa-0000", "Small", 4 * GIB, 4 * GIB)
BIG = Gpu("nvidia", 1, "GPU-bbbb-0000", "Big", 24 * GIB, 3 * GIB)
SLICES = tuple(
    Gpu("nvidia", 2, f"MIG-cccc-000{n}", "Slice", 10 * GIB, (8 + n) * GIB, mig_parent="GPU-cccc", mig_index=n)
    for n in range(2)
)
TOY = Gpu("cdi", 3, "toys.example/gpu=toy0", "toys.example/gpu", cdi_name="toys.example/gpu=toy0")
ALL = (SMALL, BIG, *SLICES, TOY)


@pytest.mark.parametrize("text", ["auto", "none", "required", " AUTO "])
def test_the_words(text):
    assert parse(text) == GpuChoice(GpuMode(text.strip().lower()))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("0", ("0",)),
        ("1, 0", ("1", "0")),
        ("2:1", ("2:1",)),
        ("GPU-5c8e9a3e-1b2c-4d5e-8f90-a1b2c3d4e5f6", ("GPU-5c8e9a3e-1b2c-4d5e-8f90-a1b2c3d4e5f6",)),
        ("MIG-GPU-5c8e9a3e/1/0", ("MIG-GPU-5c8e9a3e/1/0",)),
        ("toys.example/gpu=toy0", ("toys.example/gpu=toy0",)),
    ],
)
def test_lists(text, wanted):
    choice = parse(text)
    assert choice == GpuChoice(GpuMode.LISTED, wanted)
    assert parse(str(choice)) == choice


@pytest.mark.parametrize(
    "text", ["", "all", "-1", "0,", "0,0", "0;1", "GPU-", "gpu0", "1.5", "auto,0", "٣", "0\n1", "9" * 50]
)
def test_anything_else_is_refused_with_the_valid_values(text):
    with pytest.raises(UsageError, match="names no GPU") as caught:
        parse(text)
    for word in ("auto", "none", "required", "INDEX", "UUID"):
        assert word in caught.value.fix


@given(st.text(max_size=60))
def test_no_text_breaks_the_parser(text):
    with contextlib.suppress(UsageError):
        assert str(parse(text))


def test_auto_prefers_the_freest_and_puts_the_unknown_last():
    (slot,) = slots(parse("auto"), ALL)
    assert [gpu.uuid for gpu in slot] == [SLICES[1].uuid, SLICES[0].uuid, SMALL.uuid, BIG.uuid, TOY.uuid]


def test_min_memory_leaves_out_what_can_never_have_so_much():
    (slot,) = slots(parse("required"), ALL, 20 * GIB)
    assert [gpu.uuid for gpu in slot] == [BIG.uuid, TOY.uuid]
    assert slots(parse("auto"), (SMALL, BIG), 80 * GIB) == ()


@pytest.mark.parametrize(
    ("text", "uuids"),
    [
        ("0", [[SMALL.uuid]]),
        ("1,0", [[BIG.uuid], [SMALL.uuid]]),
        ("2:0", [[SLICES[0].uuid]]),
        ("2", [[SLICES[1].uuid, SLICES[0].uuid]]),  # a card in MIG mode: its freest instance
        ("GPU-cccc", [[SLICES[1].uuid, SLICES[0].uuid]]),
        ("GPU-bbbb", [[BIG.uuid]]),  # the start of a UUID, as nvidia-smi takes it
        ("toys.example/gpu=toy0", [[TOY.uuid]]),
    ],
)
def test_what_a_list_means(text, uuids):
    assert [[gpu.uuid for gpu in slot] for slot in slots(parse(text), ALL)] == uuids


def test_a_listed_gpu_that_is_not_here_names_those_that_are():
    with pytest.raises(GpuUnavailable, match="GPU 7 is not here") as caught:
        slots(parse("7"), ALL)
    assert SMALL.uuid in str(caught.value)


def test_a_listed_gpu_that_is_too_small_says_so():
    with pytest.raises(GpuUnavailable, match=r"4\.0 GiB; the assignment needs 8\.0 GiB"):
        slots(parse("0"), ALL, 8 * GIB)


def test_the_reasons_for_the_cpu():
    none_here = FakeInventory((), "there is no /dev/kfd (AMD)")
    assert "switched off" in accelerator(None, parse("none"), FakeInventory.of(1)).reason
    fact = accelerator(None, parse("auto"), none_here)
    assert (fact.kind, fact.reason) == ("cpu", "no GPU here: there is no /dev/kfd (AMD)")
    assert "largest is GPU 1" in why_none(parse("auto"), FakeInventory([SMALL, BIG]), 80 * GIB)
    assert "busy" in accelerator(None, parse("auto"), FakeInventory.of(1)).reason


def test_the_fact_of_a_lease():
    fact = accelerator(Lease((SMALL, BIG), 2.5, ()), parse("0,1"), FakeInventory(ALL))
    assert (fact.kind, fact.name, fact.uuid) == ("nvidia", "Small, Big", "GPU-aaaa-0000,GPU-bbbb-0000")
    assert fact.reason == "asked for: 0,1, after 2 s of waiting"
