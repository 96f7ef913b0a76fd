"""Checks on what labs need: GPUs, images, data."""

from __future__ import annotations

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.doctor.finding import Finding, Status, fail, ok, warn
from pytest_dockerlab.doctor.machine import Machine, TookTooLong

GPU_S = 10.0
REGISTRY_S = 5.0  # beyond the time that the other checks took


# -- GPUs


def gpu(machine: Machine) -> list[Finding]:
    """Which GPUs there are, and how a container would get each."""
    from pytest_dockerlab.gpu import check, holders, look, request
    from pytest_dockerlab.gpu.inventory import gib

    deadline = Deadline.after(GPU_S)
    seen = look(machine.info, deadline, local=machine.local)
    here, usable = seen.here(), seen.gpus()
    wanted = machine.environ.get("DOCKERLAB_GPU") or "auto"
    if not here:
        if wanted in ("auto", "none"):
            return [ok("gpu", f"none ({seen.absence()}): training uses the CPU")]
        fix = "unset DOCKERLAB_GPU   # or install the GPU's driver and its container toolkit"
        return [fail("gpu", f"DOCKERLAB_GPU={wanted}, and there is none: {seen.absence()}", fix)]
    if machine.client is None:
        return [warn("gpu", f"{one.label} is here; how a container gets it, only an engine tells") for one in here]
    busy = holders(usable, deadline)
    found = []
    for one in usable:
        how = request([one], seen.support).description
        held = f", held by {busy[one.uuid] or 'a run that does not say its name'}" if one.uuid in busy else ""
        found.append(ok("gpu", f"{how}, {gib(one.free_bytes)} of {gib(one.memory_bytes)} free{held}"))
    for problem in check(usable, seen.support, seen, here=here):
        if problem.code != "gpu-busy" or not busy:  # a run of ours is said above
            status = Status.FAIL if problem.fatal and wanted not in ("auto", "none") else Status.WARN
            found.append(Finding("gpu", status, problem.message_en, problem.fix_en))
    return found or [warn("gpu", seen.absence(), "Install the vendor's container toolkit, or switch CDI on.")]


# -- images


def registry(machine: Machine) -> list[Finding]:
    """Whether the engine reaches a registry."""
    assert machine.registry is not None
    try:
        answers = machine.registry.answer(REGISTRY_S)
    except TookTooLong:
        answers = False
    if answers:
        return [ok("registry", "a registry answers the engine: images are pulled")]
    fix = "dockerlab images ensure --standins   # or name a mirror under [images] in config.toml"
    return [warn("registry", "no registry answers the engine: base images have to be here already", fix)]


def images(machine: Machine) -> list[Finding]:
    """Whether the images that labs build on are on the engine."""
    from pytest_dockerlab.images import recipes, standins
    from pytest_dockerlab.images.build import exists

    client = machine.client
    assert client is not None
    ready: list[str] = []
    missing: list[str] = []
    for state in standins.states(client):
        recipe = recipes.get(state.name)
        if state.state == "ready":
            ready.append(state.name if recipe.ours else f"{state.name} (stand-in)")
        elif recipe.real and not recipe.ours and exists(client, recipe.real):
            ready.append(f"{state.name} ({recipe.real})")
        elif state.name in recipes.NEEDED:
            missing.append(f"{state.name} ({state.state})")
    have = f"ready: {', '.join(ready) or 'none'}"
    if missing:
        return [warn("images", f"missing: {', '.join(missing)}; {have}", "dockerlab images ensure")]
    return [ok("images", have)]


# -- data


def data(_: Machine) -> list[Finding]:
    """Whether the data is here that training containers get."""
    from pytest_dockerlab.data.mnist import find_mnist

    found = find_mnist()
    if found is None:
        return [warn("data", "MNIST is not here; the first run fetches it", "dockerlab data fetch mnist")]
    return [ok("data", f"MNIST ({found.source}, {found.train} + {found.test} images) in {found.path}")]
