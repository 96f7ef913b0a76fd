"""Whether the container's processes were on the GPU, and for how long."""

from pytest_dockerlab.gpu import FakeInventory, GpuUse, GpuWatch

ZERO, ONE = "GPU-fake-0000", "GPU-fake-0001"


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def watch(inventory):
    clock = Clock()
    return GpuWatch(inventory, inventory.gpus(), clock), clock


def test_seconds_and_peak_of_our_processes_only():
    inventory = FakeInventory.of(2)
    seen, clock = watch(inventory)
    assert seen.sample([10]) is False
    for now, users in [(101, {10: 100, 99: 10_000}), (102, {10: 300, 11: 50}), (103, {99: 10_000}), (104, {11: 20})]:
        clock.now = now
        inventory.use(ZERO, users)
        seen.sample([10, 11])
    assert seen.result() == GpuUse(3.0, 350, True, 5)


def test_several_gpus_add_up():
    inventory = FakeInventory.of(2)
    seen, clock = watch(inventory)
    inventory.use(ZERO, {10: 100})
    inventory.use(ONE, {10: 200})
    seen.sample([10])
    clock.now += 2
    seen.sample([10])
    assert seen.result() == GpuUse(2.0, 300, True, 2)


def test_never_there_is_not_used():
    inventory = FakeInventory.of(1)
    seen, clock = watch(inventory)
    for _ in range(3):
        clock.now += 1
        inventory.use(ZERO, {99: 5})
        assert seen.sample([10]) is False
    assert seen.result() == GpuUse(0.0, 0, False, 3)


def test_nobody_can_tell_is_neither():
    inventory = FakeInventory.of(1)
    seen, _ = watch(inventory)
    inventory.use(ZERO, None)
    assert seen.sample([10]) is None
    assert seen.result() == GpuUse(None, None, None, 0)


def test_unknown_bytes_still_are_use():
    inventory = FakeInventory.of(1)
    seen, clock = watch(inventory)
    inventory.use(ZERO, {10: None})
    seen.sample([10])
    clock.now += 1
    seen.sample([10])
    assert seen.result() == GpuUse(1.0, None, True, 2)


def test_a_long_gap_between_looks_is_not_all_use():
    inventory = FakeInventory.of(1)
    seen, clock = watch(inventory)
    seen.sample([10])
    clock.now += 3600
    inventory.use(ZERO, {10: 1})
    seen.sample([10])
    assert seen.result().seconds == 30.0
