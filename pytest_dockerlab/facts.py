"""Facts: what the stages saw. Frozen, JSON and back, written to disk before the next stage starts.

A fact records and never judges: the checks in `pytest_dockerlab.checks` read facts and decide. So a grade can be made
again from facts, with no container. Sizes are bytes, durations are seconds, unless a name says otherwise. Evidence
files are named relative to the run's folder.
"""

from __future__ import annotations

import json
from dataclasses import field
from enum import Enum
from typing import Any, TypeVar

from pydantic import ConfigDict, TypeAdapter
from pydantic.dataclasses import dataclass

# JSON has no NaN and no infinity: they travel as the strings "NaN", "Infinity" and "-Infinity" and come back as floats.
FACT = ConfigDict(ser_json_inf_nan="strings")


class Ended(str, Enum):
    """How a container's run ended, as the engine's own state told it."""

    EXITED = "exited"
    OOM = "oom"
    TIMED_OUT = "timed_out"
    OUTPUT_LIMIT = "output_limit"
    DISK_LIMIT = "disk_limit"
    KILLED = "killed"  # ended by a signal that the harness did not send
    START_FAILED = "start_failed"
    STOPPED = "stopped"  # a server that the harness ended when it was done with it


@dataclass(frozen=True, config=FACT)
class BaseImage:
    """One name after `FROM`, and what it was replaced with (`None`: nothing)."""

    name: str
    replaced_by: str | None = None
    standin: bool = False  # the replacement says, by its label, that it only stands in for the real image


@dataclass(frozen=True, config=FACT)
class DockerfileFound:
    """The Dockerfile that trains, or what was found instead. `problem`: "missing", "empty", "no_from" or `None`."""

    path: str | None
    problem: str | None = None
    bases: tuple[str, ...] = ()
    near_misses: tuple[str, ...] = ()
    looked_for: tuple[str, ...] = ()
    files: int = 0  # in the submission


@dataclass(frozen=True, config=FACT)
class BuildStep:
    """One step of a build, e.g. `[2/3] RUN pip install torch`."""

    name: str
    seconds: float
    cached: bool = False
    error: str | None = None


@dataclass(frozen=True, config=FACT)
class ImageBuild:
    """A Dockerfile was built. `ok` says that the builder ended without an error."""

    ok: bool
    dockerfile: str | None
    tag: str | None = None
    image_id: str | None = None
    builder: str = "buildx"
    seconds: float = 0.0
    bytes: int | None = None
    context_bytes: int = 0
    context_files: int = 0
    base_images: tuple[BaseImage, ...] = ()
    steps: tuple[BuildStep, ...] = ()
    timed_out: bool = False
    error: str | None = None  # the builder's own words
    log: str | None = None
    log_tail: tuple[str, ...] = ()

    @property
    def id(self) -> str | None:
        """The image's id, by its short name."""
        return self.image_id


@dataclass(frozen=True, config=FACT)
class Accelerator:
    """What a container was given to compute on."""

    kind: str = "cpu"  # cpu, nvidia, rocm, cdi
    name: str | None = None
    uuid: str | None = None
    reason: str | None = None  # why this one, e.g. "no GPU here"


@dataclass(frozen=True, config=FACT)
class TrainingRun:
    """The training container ran."""

    ended: Ended
    exit_code: int | None
    seconds: float
    accelerator: Accelerator = field(default_factory=Accelerator)
    command: tuple[str, ...] = ()
    workdir: str = "/"
    data_mounts: tuple[str, ...] = ()
    cpu_s: float | None = None
    peak_rss_bytes: int | None = None
    bytes_written: int | None = None
    gpu_s: float | None = None
    gpu_peak_bytes: int | None = None
    gpu_used: bool | None = None
    runtime: str | None = None
    log: str | None = None
    log_bytes: int = 0
    log_truncated: bool = False
    log_tail: tuple[str, ...] = ()
    error: str | None = None  # the engine's own words, where it had any

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself with status 0."""
        return self.ended is Ended.EXITED and self.exit_code == 0

    # What an author's test asks for, by short names.

    @property
    def exit(self) -> int | None:
        """The command's exit status."""
        return self.exit_code

    @property
    def oom(self) -> bool:
        """Whether it ran out of memory."""
        return self.ended is Ended.OOM

    @property
    def timed_out(self) -> bool:
        """Whether it was stopped at the time limit."""
        return self.ended is Ended.TIMED_OUT

    @property
    def peak_rss(self) -> int | None:
        """The most memory that it had, in bytes."""
        return self.peak_rss_bytes


class Series(str, Enum):
    """Which loss a point belongs to."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@dataclass(frozen=True, config=FACT)
class LossPoint:
    """One reading of a loss. `value` may be NaN or infinite: that is news, not an error."""

    value: float
    series: Series = Series.TRAIN
    step: int | None = None
    epoch: float | None = None
    at_s: float | None = None  # seconds after the container started; None where the source has no times


@dataclass(frozen=True, config=FACT)
class LossCurve:
    """The losses that a run reported, in the order in which they came."""

    points: tuple[LossPoint, ...] = ()
    source: str = "none"  # "log:pytorch-example", "file:metrics.csv", …
    name: str | None = None  # what the source called the loss, e.g. `train_loss`
    total_points: int = 0  # before `points` was thinned to at most `MAX_POINTS`
    near_misses: tuple[str, ...] = ()  # lines that speak of a loss and could not be read, at most 5
    claimed_accuracy: float | None = None  # the last accuracy that the log claims, 0 to 1
    claimed_epochs: int | None = None

    def values(self, series: Series = Series.TRAIN) -> list[float]:
        """Return the values of one series, in order."""
        return [point.value for point in self.points if point.series is series]

    def told(self, series: Series = Series.TRAIN) -> int:
        """Return how many readings of one series there were before `points` was thinned; of several, by their share."""
        kept = len(self.values(series))
        thinned = kept and self.total_points > len(self.points)
        return round(kept * self.total_points / len(self.points)) if thinned else kept


MAX_POINTS = 2000


@dataclass(frozen=True, config=FACT)
class Finding:
    """What the facts say of where the artifact came from, in a sentence with numbers (`pytest_dockerlab.integrity`)."""

    id: str  # a key of the assignment's `[integrity]`
    agrees: bool | None  # None: there was nothing to look at
    sentence: str


@dataclass(frozen=True, config=FACT)
class IntegrityFacts:
    """All findings of one run."""

    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, config=FACT)
class ArtifactCandidate:
    """A file that matches the assignment's globs, and why it was or wasn't taken."""

    path: str
    bytes: int
    state: str  # "new", "changed", "unchanged", "in_image", "link", "special", "folder", "too_big", "empty", "other"


@dataclass(frozen=True, config=FACT)
class Artifact:
    """The model file that the training run wrote; `path` is `None` where there is none."""

    path: str | None = None  # in the container
    sha256: str | None = None
    bytes: int = 0
    kind: str | None = None  # by content: "pytorch-zip", "pytorch-legacy", "torchscript", "safetensors", …
    file: str | None = None  # the copy, relative to the run's folder
    candidates: tuple[ArtifactCandidate, ...] = ()
    patterns: tuple[str, ...] = ()
    problem: str | None = None  # what is wrong with the content, e.g. "html", "truncated", "empty"
    details: dict[str, Any] = field(default_factory=dict)  # tensors, parameters, NaN …: from inside a container
    state: str | None = None  # that of the candidate which was taken
    findings: tuple[Finding, ...] = ()  # over the run, its losses and this artifact


@dataclass(frozen=True, config=FACT)
class Serving:
    """The model server was started. `ready` means that a request came back with a right-shaped answer."""

    ready: bool
    layout: str
    server: str = "torchserve"
    endpoint: str | None = None
    ready_s: float | None = None
    image_build: ImageBuild | None = None
    models: tuple[str, ...] = ()  # what the management API lists
    listening: tuple[str, ...] = ()  # `address:port` inside the container
    reason: str | None = None  # a short code for why it is not ready: "localhost_only", "exited", "timeout", …
    detail: str | None = None  # one sentence with what was seen
    fix: str | None = None  # what to do about it
    ended: Ended | None = None
    exit_code: int | None = None
    log: str | None = None
    log_tail: tuple[str, ...] = ()
    answers: dict[str, str] = field(default_factory=dict)  # raw answers kept as evidence: "ping", "canary"


@dataclass(frozen=True, config=FACT)
class Prediction:
    """One digit was asked. `expected` stays with the judge; it never enters a container."""

    image: str
    expected: int
    got: int | None
    raw: str  # the answer as it came, cut at `MAX_RAW` characters
    ms: float | None = None
    status: int | None = None  # HTTP
    error: str | None = None


MAX_RAW = 400


@dataclass(frozen=True, config=FACT)
class Predictions:
    """All digits that were asked, in the order of asking."""

    items: tuple[Prediction, ...] = ()
    probes: tuple[Prediction, ...] = ()  # asked beside the digits that count: some again, some inverted, transposed
    error: str | None = None  # set where the server went away in the middle
    log_tail: tuple[str, ...] = ()
    log: str | None = None
    p50_ms: float | None = None
    p99_ms: float | None = None
    permuted: bool = False  # with a data canary: `expected` is what a model of this run's data has to answer
    findings: tuple[Finding, ...] = ()
    asked: str | None = None  # how, e.g. `POST /v2/models/mnist/infer, FP32 [1, 784], x/255`
    tried: tuple[str, ...] = ()  # other ways that were tried before, with too few right answers

    @property
    def correct(self) -> int:
        """How many answers equal the label."""
        return sum(item.got == item.expected for item in self.items)


@dataclass(frozen=True, config=FACT)
class Provenance:
    """The rows of the artifact's last layer were permuted, and the server was started and asked once more.

    `state`: "compared", "not_checked" (this kind of artifact can't be permuted), or "not_ready" (no server came of it).
    """

    state: str
    detail: str = ""
    layer: str | None = None  # the tensor that was permuted
    followed: int = 0  # answers that went where the permutation sends them
    unmoved: int = 0  # answers that stayed what they were: not from this artifact
    compared: int = 0  # digits that were answered readably both times
    asked: int = 0  # digits that were asked the second time
    log: str | None = None


@dataclass(frozen=True, config=FACT)
class Environment:
    """The machine and the engine of a run."""

    cpus: int
    memory_bytes: int
    os: str
    engine: str
    gpus: tuple[dict[str, Any], ...] = ()


Fact = TypeVar("Fact")


def to_json(fact: object) -> bytes:
    """Return a fact as indented JSON, which `from_json` reads back."""
    adapter: TypeAdapter[Any] = TypeAdapter(type(fact))
    return adapter.dump_json(fact, indent=1)


def to_dict(fact: object) -> dict[str, Any]:
    """Return a fact as plain JSON values, for the `facts` of `results.json`."""
    plain = json.loads(to_json(fact))
    assert isinstance(plain, dict)
    return plain


def from_json(kind: type[Fact], data: bytes) -> Fact:
    """Return the fact that `to_json` wrote; raises `pydantic.ValidationError` on anything else."""
    adapter: TypeAdapter[Fact] = TypeAdapter(kind)
    return adapter.validate_json(data)
