"""The checks of the first half: a Dockerfile, an image, a run, a loss that goes down, a model."""

from __future__ import annotations

from dataclasses import replace

from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.checks.base import Judgement, failed, passed
from pytest_dockerlab.facts import Artifact, DockerfileFound, Ended, ImageBuild, LossCurve, TrainingRun
from pytest_dockerlab.integrity import told


def dockerfile(found: DockerfileFound) -> Judgement:
    """There is a Dockerfile with a `FROM`."""
    if found.path is not None and found.problem is None:
        return passed(f"{found.path}, from {', '.join(found.bases) or 'scratch'}.", "dockerfile.json")
    if found.files == 0:
        return failed("The folder is empty.", "Hand in your Dockerfile and the files that it copies.")
    if found.path is None:
        names = ", ".join(found.looked_for[:4])
        near = f" There is {', '.join(found.near_misses)}." if found.near_misses else ""
        return failed(
            f"No Dockerfile was found (looked for {names}).{near}",
            'Name it `Dockerfile`, or say where it is in dockerlab.toml: [train] dockerfile = "…".',
        )
    if found.problem == "empty":
        return failed(f"{found.path} is empty.", "Begin with a `FROM` line.", "dockerfile.json")
    return failed(
        f"{found.path} has no FROM instruction.", "Its first instruction names a base image.", "dockerfile.json"
    )


def build_error(fact: ImageBuild) -> str:
    """Return in one sentence where a build failed: the step, the last line that it wrote, the builder's own words."""
    step = next((step.name for step in fact.steps if step.error), None)
    if step is None:
        return f"The build failed: {fact.error}"
    # Our build log puts `#N` before a step's lines, and `#N ERROR` at its end.
    ended = next((line.split(" ", 1)[0] for line in reversed(fact.log_tail) if " ERROR: " in line), "#?")
    written = [line.removeprefix(ended).strip() for line in fact.log_tail if line.startswith(f"{ended} ")]
    last = next((line for line in reversed(written) if line and not line.startswith(("ERROR: ", step[:20]))), None)
    said = f'"{last}" ' if last else ""
    return f"The build failed in the step {step}: {said}({fact.error})"


def build(fact: ImageBuild) -> Judgement:
    """The builder ended without an error."""
    if fact.ok:
        standins = [f"{base.name} -> {base.replaced_by}" for base in fact.base_images if base.standin]
        notes = (f"built on a stand-in, not on the real image: {', '.join(standins)}",) if standins else ()
        size = f", {fact.bytes / 1e6:,.0f} MB" if fact.bytes else ""
        return passed(f"Built in {fact.seconds:.0f} s with {fact.builder}{size}.", fact.log, notes=notes)
    if fact.timed_out:
        last = next((step.name for step in reversed(fact.steps) if not step.cached), None)
        return failed(
            f"The build was stopped after {fact.seconds:.0f} s"
            + (f", in the step {last}." if last else ".")
            + (f" {fact.error}" if fact.error else ""),
            "Make that step shorter: a slimmer base image, fewer packages, a mirror near you.",
            fact.log,
        )
    return failed(build_error(fact), None, fact.log)


ENDS = {
    Ended.OOM: ("ran out of memory", "Use a smaller batch or a smaller model."),
    Ended.TIMED_OUT: ("was stopped at the time limit", "Train fewer epochs, or on fewer images."),
    Ended.OUTPUT_LIMIT: ("wrote more output than is allowed", "Print less: a line every 10 or 100 batches is enough."),
    Ended.DISK_LIMIT: ("wrote more to its disk than is allowed", "Keep only the last checkpoint."),
    Ended.KILLED: ("was ended by a signal from outside", "Run it again; if it repeats, look at the log's last lines."),
}


def train(fact: TrainingRun) -> Judgement:
    """The container's command ended by itself with status 0."""
    if fact.ok:
        on = fact.accelerator.name or fact.accelerator.kind.upper()
        notes = ("a GPU was given, and nothing was computed on it",) if fact.gpu_used is False else ()
        return passed(f"Ran {fact.seconds:.0f} s on {on} and ended with status 0.", fact.log, notes=notes)
    if fact.ended is Ended.START_FAILED:
        return failed(
            f"The container's command could not be started: {fact.error}",
            "Check CMD and ENTRYPOINT: does that program exist in the image, and may it be executed?",
            fact.log,
        )
    if fact.ended is Ended.EXITED:
        last = fact.log_tail[-1].strip() if fact.log_tail else "it printed nothing"
        return failed(
            f"The training command ended with status {fact.exit_code} after {fact.seconds:.0f} s: {last}",
            f"Run it yourself: docker build, then docker run. The command was {' '.join(fact.command) or '(none)'}.",
            fact.log,
        )
    what, fix = ENDS[fact.ended]
    why = f" {fact.error}" if fact.error and fact.ended in (Ended.TIMED_OUT, Ended.DISK_LIMIT) else ""
    last = f" The last line of its output: {fact.log_tail[-1].strip()}" if fact.log_tail else ""
    return failed(f"The training {what} after {fact.seconds:.0f} s.{why}{_last_loss(fact)}{last}", fix, fact.log)


def _last_loss(fact: TrainingRun) -> str:
    """Return the loss that the run had come to, where its last lines tell one."""
    from pytest_dockerlab.train.loss import LossReader

    reader = LossReader()
    reader.feed("\n".join((*fact.log_tail, "")).encode(), 0.0)
    values = reader.finish().values()
    return f" The last loss: {values[-1]:.4g}." if values else ""


LOSS_FIXES = {
    "flat": "Nothing was learnt: check the learning rate, `optimizer.step()` after `loss.backward()`, and the labels.",
    "rose": "Check the sign of the loss and the learning rate.",
    "nan": "Lower the learning rate; look for a log or a division by zero.",
    "diverged": "Lower the learning rate, or clip the gradients.",
    "too_few": "Print the loss more often, for example every 10 batches.",
    "none": 'Print the training loss as it goes, for example `print(f"Epoch {epoch} loss: {loss.item():.4f}")`.',
}


def loss(curve: LossCurve, assignment: Assignment) -> Judgement:
    """The loss goes down: `train.trend` decides, with the assignment's `[loss]`."""
    from pytest_dockerlab.train import trend

    asked = assignment.spec.loss.model_dump(exclude_none=True)
    verdict = trend.judge(curve, trend.LossRules(**asked))
    if verdict.ok:
        return passed(verdict.sentence, "loss.json", "train.log")
    return failed(verdict.sentence, LOSS_FIXES[verdict.kind.value], "loss.json", "train.log")


PROBLEMS = {
    "html": "is an HTML page, not a model: a download that failed?",
    "text": "is a text file, not a model",
    "truncated": "ends too early: it was cut off while it was written",
    "empty": "is empty",
    "zeros": "holds nothing but zero bytes",
    "unknown": "is in no model format known here",
}


def artifact(fact: Artifact, assignment: Assignment) -> Judgement:
    """The run wrote a model file that was not there before, in a known format, with numbers in it."""
    if fact.path is not None:
        if fact.problem is not None:
            problem = PROBLEMS.get(fact.problem, "is no model")
            return failed(f"{fact.path} {problem}.", "Save the model after the last epoch.", "artifact.json")
        trouble = _contents(fact)
        if trouble is not None:
            return failed(*trouble, "artifact.json")
        failing, notes = told(fact.findings, assignment.spec.integrity)
        if failing is not None:
            return replace(failed(failing, INTEGRITY_FIX, "artifact.json", "integrity.json"), notes=notes)
        read = f", {_size_of(fact)}" if fact.details.get("tensor_count") else ""
        return passed(
            f"{fact.path}: {fact.kind}, {fact.bytes / 1e3:,.0f} kB{read}.",
            "artifact.json",
            notes=(*_remarks(fact), *notes),
        )
    wanted = ", ".join(fact.patterns or assignment.spec.train.artifacts)
    states = {candidate.state: candidate.path for candidate in fact.candidates}
    if path := states.get("unchanged") or states.get("in_image"):
        return failed(
            f"{path} was in the image before the training ran, and the run did not write it.",
            "The training has to save the model itself, for example with `--save-model`.",
            "artifact.json",
        )
    if path := states.get("empty"):
        return failed(f"{path} is empty.", "Save the model after the last epoch.", "artifact.json")
    if path := states.get("link"):
        return failed(f"{path} is a link, not a file.", "Save the model as a regular file.", "artifact.json")
    if path := states.get("too_big"):
        return failed(f"{path} is bigger than is allowed.", "Save the state_dict only.", "artifact.json")
    if path := states.get("special"):
        return failed(
            f"{path} is a pipe or a device, not a file.", "Save the model as a regular file.", "artifact.json"
        )
    if path := states.get("folder"):
        return failed(
            f"{path} is a folder, not a model file.",
            "Save the model as one file; of folders only a SavedModel is known here.",
            "artifact.json",
        )
    return failed(
        f"The training wrote no model file (looked for {wanted}).",
        'Save it at the end. The course\'s scripts need `--save-model` for it: CMD ["python", "…", "--save-model"].',
        "artifact.json",
    )


INTEGRITY_FIX = "Have the run train the model and save it, and print the losses as they come; then grade again."


def _size_of(fact: Artifact) -> str:
    details = fact.details
    return f"{details['tensor_count']} tensors with {details.get('parameters', 0):,} parameters"


def _contents(fact: Artifact) -> tuple[str, str] | None:
    """Return what is wrong with the contents and what to do, as far as the reader in the container could look."""
    details, path = fact.details, fact.path
    if runs := details.get("runs"):
        return (
            f"{path} is a pickle that names {', '.join(runs[:3])}: loading it would run that, and weights need no such "
            "thing.",
            "Save the weights only: torch.save(model.state_dict(), …).",
        )
    if not details.get("read"):
        return None
    if not details.get("tensor_count") and fact.kind in WEIGHTS_ONLY:
        return f"{path} holds no tensor at all.", "Save the model's weights: torch.save(model.state_dict(), …)."
    several = details.get("float_tensors", 0)
    if several and several == details.get("constant_tensors"):
        return (
            f"{path}: each of its {several} tensors holds one value only, so nothing in it was learnt.",
            "Save the model that was trained, after the training.",
        )
    return None


WEIGHTS_ONLY = ("pytorch-zip", "pytorch-legacy", "safetensors", "hdf5", "keras")


def _remarks(fact: Artifact) -> tuple[str, ...]:
    """Return what is worth knowing of a model that passes."""
    details, found = fact.details, []
    if unusual := details.get("unusual"):
        found.append(
            f"{fact.path} is a pickle that names {', '.join(unusual[:3])}: it can only be loaded where those are. A "
            "state_dict needs none."
        )
    if details.get("nan_tensors"):
        # A remark and no failure: the run did leave its model, and the loss and the digits tell of the NaN already.
        found.append(
            f"{fact.path}: {details['nan_tensors']} of {details['tensor_count']} tensors hold NaN "
            f"({'; '.join(details.get('nan', [])[:2])})."
        )
    if details.get("inf_tensors"):
        found.append(f"{fact.path}: {details['inf_tensors']} tensors hold infinite values.")
    return tuple(found)
