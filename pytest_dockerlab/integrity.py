"""Did the run make the model? Pure: facts in, findings out. Each says in a sentence, with numbers, what was seen.

No finding accuses anybody. Honest work can look odd: a program that holds its output back prints all losses at its
end, a tiny model trains in no time. So only `artifact_new` fails a check by default, and the rest is told as a note,
at limits that honest runs do not come near:

- `artifact_new`: the file was not in the image, or has other content than there.
- `cpu_plausible`: a step of training takes more than 1 ms of processor time in any framework (PyTorch's example takes
  10 to 30), and importing one takes more than a second. The engine's last reading is up to a second old, so what may
  have been used since is added before anything is compared; a GPU's seconds count too.
- `loss_over_time`: more than a thousand loss lines a second are printed, not trained.
- `accuracy_agrees`: the accuracy that the log claims, give or take 5 points for other images than the test set's, and
  the served model's on the digits asked: an exact binomial test at 0.1 %.
- `images_match` (data canary only): a log that shows how many images there are shows this run's number.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pytest_dockerlab.assignment import Integrity
from pytest_dockerlab.facts import Artifact, Finding, LossCurve, Predictions, Series, TrainingRun

STEP_S = 0.001
START_S = 1.0
MANY_EPOCHS = 10
STALE_S = 1.5  # since the engine's last reading
BURST_POINTS_PER_S = 1000
BURST_MAX_S = 2.0
MIN_POINTS = 10
SLACK = 0.05
ALPHA = 0.001
MAX_LOG = 16 << 20

# `[640/4000 (16%)]`, as the PyTorch examples print it
_PROGRESS = re.compile(rb"\[\s{0,8}(\d{1,9})/(\d{1,9})\s{0,8}\(\s{0,4}\d{1,3}(?:\.\d{0,4})?%\)\]")


def after_training(
    run: TrainingRun, curve: LossCurve, artifact: Artifact, cpus: float, images: Finding | None = None
) -> tuple[Finding, ...]:
    """Return what the training and its artifact tell. `images`: what `images_match` found, with a data canary."""
    found = [artifact_new(artifact), cpu_plausible(run, curve, cpus), loss_over_time(run, curve)]
    return (*found, images) if images else tuple(found)


def artifact_new(artifact: Artifact) -> Finding:
    """The run wrote the file."""
    if artifact.path is None:
        return Finding("artifact_new", None, "There is no artifact.")
    if artifact.state in ("unchanged", "in_image"):
        return Finding("artifact_new", False, "The model file was in the image already, with the same content.")
    words = "has other content than in the image" if artifact.state == "changed" else "was not in the image"
    return Finding("artifact_new", True, f"The model file {words}: the run wrote it ({artifact.bytes:,} bytes).")


def cpu_plausible(run: TrainingRun, curve: LossCurve, cpus: float) -> Finding:
    """What was computed is enough for the training that the log tells of."""
    epochs = curve.claimed_epochs or 0
    steps = curve.told()
    measured = run.cpu_s
    most = run.seconds * cpus if measured is None else min(run.seconds, STALE_S) * cpus + measured
    most = min(most, run.seconds * cpus) + (run.gpu_s or 0.0)
    used = "not measured" if measured is None else f"{measured:.1f} s"
    gpu = f" and {run.gpu_s:.1f} s of GPU time" if run.gpu_s else ""
    seen = f"{used} of processor time{gpu} in {run.seconds:.1f} s, for {steps} loss values"
    seen += f" over {epochs} epochs." if epochs else "."
    if not steps and not epochs:
        return Finding("cpu_plausible", None, f"The log claims no training to compare with: {seen}")
    if most < STEP_S * steps:
        return Finding("cpu_plausible", False, f"Less than {STEP_S * 1000:.0f} ms for each loss value: {seen}")
    if epochs >= MANY_EPOCHS and most < START_S:
        return Finding("cpu_plausible", False, f"Less time than it takes to start a framework: {seen}")
    return Finding("cpu_plausible", True, f"Processor time fits the training: {seen}")


def loss_over_time(run: TrainingRun, curve: LossCurve) -> Finding:
    """The losses came while the training ran, not all at once. The first and last twentieth do not count."""
    times = sorted(point.at_s for point in curve.points if point.series is Series.TRAIN and point.at_s is not None)
    if len(times) < MIN_POINTS:
        return Finding("loss_over_time", None, f"Only {len(times)} loss lines have a time of arrival.")
    cut = len(times) // 20
    middle = times[cut : len(times) - cut]
    span = middle[-1] - middle[0]
    count = curve.told()
    seen = f"{count} loss values arrived within {span:.2f} s, from {times[0]:.1f} s to {times[-1]:.1f} s"
    seen += f" of a run of {run.seconds:.1f} s."
    if span < min(BURST_MAX_S, count * len(middle) / len(times) / BURST_POINTS_PER_S):
        return Finding(
            "loss_over_time", False, f"{seen} A program that holds its output back until its end looks like this too."
        )
    return Finding("loss_over_time", True, seen)


def accuracy_agrees(curve: LossCurve, answers: Predictions) -> Finding:
    """The served model is about as good as the log says of it."""
    from scipy.stats import binomtest

    claimed, asked = curve.claimed_accuracy, len(answers.items)
    if claimed is None or not asked:
        return Finding("accuracy_agrees", None, "The log claims no accuracy to compare with.")
    right = answers.correct
    seen = f"The log claims {claimed:.1%}, and {right} of {asked} digits ({right / asked:.1%}) are right."
    low, high = max(0.0, claimed - SLACK), min(1.0, claimed + SLACK)
    worse = binomtest(right, asked, low, alternative="less").pvalue
    better = binomtest(right, asked, high, alternative="greater").pvalue
    if min(worse, better) < ALPHA:
        return Finding("accuracy_agrees", False, f"{seen} By chance that happens less than once in 1,000 times.")
    return Finding("accuracy_agrees", True, seen)


def shown_totals(log: bytes) -> tuple[int, ...]:
    """Return the totals that a log shows in `[640/4000 (16%)]`, the most frequent first, at most 10."""
    counts: dict[int, int] = {}
    for match in _PROGRESS.finditer(log):
        counts[int(match[2])] = counts.get(int(match[2]), 0) + 1
        if len(counts) > 1000:
            break
    return tuple(sorted(counts, key=lambda total: (-counts[total], total))[:10])


def images_match(totals: Iterable[int], train: int, test: int) -> Finding:
    """The number of images in the log is this run's: all of them, a part that was held out, or multiples of them."""
    totals = tuple(totals)
    if not totals:
        return Finding("images_match", None, "The log shows no number of images.")
    shown = ", ".join(f"{total:,}" for total in totals[:3])
    seen = f"The log counts {shown} images; this run's data held {train:,} for training and {test:,} for testing."
    fitting = [total for total in totals if total and (total <= train + test or not total % train)]
    return Finding("images_match", bool(fitting), seen)


def told(findings: Iterable[Finding], rules: Integrity) -> tuple[str | None, tuple[str, ...]]:
    """Return the sentence that fails a check (`None`: none does), and those that are notes."""
    failing, notes = None, []
    for finding in findings:
        if finding.agrees is not False:
            continue
        if getattr(rules, finding.id, "warn") == "fail":
            failing = failing or finding.sentence
        else:
            notes.append(finding.sentence)
    return failing, tuple(notes)
