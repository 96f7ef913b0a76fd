"""Do the answers come from the artifact? Start the server once more, with the rows of the last layer permuted.

The permutation is drawn for this run and moves every digit. It is done in a container of ours, on bytes, so that no
code of the submission ever sees it. The same digits are asked as before: an answer that was 3 has to become what the
permutation makes of 3. A model that was baked into the image goes on to answer 3.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import secrets
from dataclasses import replace

from pytest_dockerlab import sandbox
from pytest_dockerlab.assignment import MiB
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.facts import Artifact, Predictions, Provenance
from pytest_dockerlab.serve import draw, permute
from pytest_dockerlab.stages import artifact as artifact_stage
from pytest_dockerlab.stages import harness, predict, serve
from pytest_dockerlab.stages.context import RunContext
from pytest_dockerlab.stages.serve_layouts import Model

FILE = "artifact-permuted.bin"
MAX_BYTES = 256 * MiB
BUDGET_S = 120.0


def derangement() -> list[int]:
    """Return a secret permutation of the digits that leaves none where it is."""
    stream = draw.Stream(secrets.token_hex(16))
    while True:
        order = stream.shuffled(range(10))
        if all(order[digit] != digit for digit in range(10)):
            return order


def run(context: RunContext, artifact: Artifact, before: Predictions) -> Provenance:
    """Permute, start, ask, compare."""
    order = derangement()
    made, why = _permuted(context, artifact, order)
    if made is None:
        return Provenance("not_checked", why)
    try:
        fact, running = serve.start(context, made.fact, made)
        if running is None:
            said = fact.detail or fact.reason or "no reason is known"
            if fact.image_build is not None and not fact.image_build.ok:
                said = f"its image does not build: {fact.image_build.error}"
            return Provenance("not_ready", said, why, log=fact.log)
        try:
            asker = next((one for one in running.askers if one.note == before.asked), running.askers[0])
            deadline = context.budget("asking digits again", context.assignment.spec.timeouts.predict)
            concurrency = context.assignment.spec.predict.concurrency
            after = predict.ask(running, asker, predict.questions_of(context), deadline, concurrency)
        finally:
            running.stop()
    finally:
        made.file.unlink(missing_ok=True)
    # New row i is old row order[i]: what was digit order[i] is answered as i now.
    becomes = {old: new for new, old in enumerate(order)}
    first = {item.image: item.got for item in before.items}
    pairs = [(first.get(item.image), item.got) for item in after]
    known = [(was, now) for was, now in pairs if was is not None and was in becomes and now is not None]
    return Provenance(
        "compared",
        layer=why,
        followed=sum(becomes[was] == now for was, now in known),
        unmoved=sum(was == now for was, now in known),
        compared=len(known),
        asked=len(after),
        log=running.log,
    )


def _permuted(context: RunContext, artifact: Artifact, order: list[int]) -> tuple[Model | None, str]:
    """Return the permuted copy and the name of its layer, or `None` and why there is none."""
    source = context.store.file(artifact_stage.FILE)
    if artifact.kind not in permute.KINDS:
        return None, f"a model file of the kind {artifact.kind} can't be permuted"
    if artifact.bytes > MAX_BYTES:
        return None, f"the model file is bigger than {MAX_BYTES >> 20} MiB"
    size, code = source.stat().st_size, permute.bundle()
    spec = replace(
        sandbox.client(harness.image(context, "client"), context.labels("permute"), BUDGET_S + 30),
        memory_bytes=512 * MiB + 8 * size,
        tmpfs={"/tmp": f"size={16 * MiB + 3 * size}"},  # noqa: S108  # inside our container
    )
    with context.container(spec) as container:
        refused = context.engine.start(container)
        if refused is not None:
            raise InfraError(f"The container that permutes the model does not start: {refused}")
        done = context.engine.exec(
            container,
            ("python3", "-I", "-c", permute.BOOT, str(artifact.kind), "".join(map(str, order))),
            itertools.chain((len(code).to_bytes(8, "little"), code), harness.pieces(source)),
            context.deadline.sooner(BUDGET_S),
            2 * size + MiB,
        )
    line, _, made = done.stdout.partition(b"\n")
    try:
        told = json.loads(line)
    except ValueError:
        told = {}
    if not isinstance(told, dict) or "layer" not in told or done.exit_code != 0 or done.truncated or done.timed_out:
        why = str(told.get("why", "")) if isinstance(told, dict) else ""
        return None, why[:300] or f"it could not be permuted: {done.stderr[-200:].decode('utf-8', 'replace')}"
    target = context.store.file(FILE)
    target.write_bytes(made)
    fact = replace(artifact, sha256=hashlib.sha256(made).hexdigest(), bytes=len(made), file=target.name)
    return Model(fact, target, role="provenance"), str(told["layer"])[:200]
