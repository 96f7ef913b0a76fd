"""An assignment: a folder with `assignment.toml`, its tests, a `starter/` and a reference `solution/`."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ByteSize,
    ConfigDict,
    Field,
    PlainSerializer,
    field_validator,
    model_validator,
)

from pytest_dockerlab import paths, tomlfile
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.serve.answers import check_form

FILE = "assignment.toml"
GiB, MiB, KiB = 1 << 30, 1 << 20, 1 << 10


def _size(low: int, high: int) -> object:
    """Return a size in bytes, or text such as "4GiB", within a range; the refusal names the range."""

    def within(value: ByteSize) -> ByteSize:
        if not low <= value <= high:
            span = f"{ByteSize(low).human_readable()} to {ByteSize(high).human_readable()}"
            raise ValueError(f"out of range: allowed are {span}")
        return value

    from pydantic import AfterValidator

    return Annotated[ByteSize, AfterValidator(within), PlainSerializer(int)]


class Table(BaseModel):
    """A table of the file: frozen, and an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Title(Table):
    """A text in both languages."""

    en: str = Field(min_length=1, max_length=200)
    zh: str = Field(min_length=1, max_length=200)


class CheckSpec(Table):
    """One `[[checks]]` entry: an id, what it is worth, and what it is called."""

    id: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    points: int = Field(ge=0, le=1000)
    title: Title


class TrainTable(Table):
    """`[train]`: how the submission is trained."""

    dockerfiles: tuple[str, ...] = ("Dockerfile", "Dockerfile.train", "train.Dockerfile", "train/Dockerfile")
    dockerfiles_cpu: tuple[str, ...] = ("Dockerfile.cpu", "Dockerfile.train.cpu", "train/Dockerfile.cpu")
    dockerfiles_gpu: tuple[str, ...] = ("Dockerfile.gpu", "Dockerfile.train.gpu", "train/Dockerfile.gpu")
    data: Literal["mnist", "none"] = "mnist"
    data_source: Literal["auto", "full", "subset"] = "auto"
    artifacts: tuple[str, ...] = Field(
        default=("*.pt", "*.pth", "*.safetensors", "*.onnx", "*.mar", "*.keras", "*.h5"), min_length=1
    )
    gpu: str = "auto"
    network: Literal["none", "bridge"] = "none"

    @field_validator("gpu")
    @classmethod
    def _known_gpu(cls, gpu: str) -> str:
        from pytest_dockerlab.gpu.select import parse

        try:
            parse(gpu)
        except UsageError as error:
            raise ValueError(str(error).replace("\n  ->", "")) from None
        return gpu


class LossTable(Table):
    """`[loss]`: when a loss has decreased. See `pytest_dockerlab.train.trend` for the reasons behind the defaults."""

    min_points: int | None = Field(default=None, ge=2, le=100_000)
    min_relative_drop: float | None = Field(default=None, gt=0, lt=1)
    alpha: float | None = Field(default=None, gt=0, le=0.5)
    series: Literal["train", "validation", "test"] | None = None


class ServeTable(Table):
    """`[serve]`: how the artifact is served, where the submission's own `dockerlab.toml` says nothing."""

    server: Literal["torchserve", "triton", "http"] = "torchserve"
    model: str = Field(default="mnist", pattern=r"^[A-Za-z0-9_.-]{1,80}$")
    port: int | None = Field(default=None, ge=1, le=65535)
    path: str | None = Field(default=None, max_length=200)
    method: Literal["POST", "PUT"] = "POST"
    send: Literal["raw", "multipart", "json", "tensor"] = "raw"
    field: str = Field(default="data", pattern=r"^[A-Za-z0-9_-]{1,40}$")
    form: str = "auto"

    @field_validator("form")
    @classmethod
    def _known_form(cls, form: str) -> str:
        try:
            return check_form(form)
        except UsageError as error:
            raise ValueError(error.message) from None


class PredictTable(Table):
    """`[predict]`: how many digits are asked, and how many have to be right."""

    images: int = Field(default=50, ge=10, le=1000)
    min_correct: int = Field(default=45, ge=1, le=1000)
    concurrency: int = Field(default=4, ge=1, le=32)

    @model_validator(mode="after")
    def _possible(self) -> PredictTable:
        if self.min_correct > self.images:
            raise ValueError(f"min_correct ({self.min_correct}) is more than images ({self.images})")
        return self


class Limits(Table):
    """`[limits]`: what a submission may use. Sizes are bytes or text such as `"4GiB"`."""

    memory: _size(128 * MiB, 1024 * GiB) = ByteSize(4 * GiB)  # type: ignore[valid-type]
    cpus: float = Field(default=2.0, ge=0.1, le=1024)
    pids: int = Field(default=1024, ge=16, le=100_000)
    shm: _size(1 * MiB, 1024 * GiB) = ByteSize(1 * GiB)  # type: ignore[valid-type]
    output: _size(64 * KiB, 16 * GiB) = ByteSize(256 * MiB)  # type: ignore[valid-type]
    log: _size(64 * KiB, 1 * GiB) = ByteSize(8 * MiB)  # type: ignore[valid-type]
    disk: _size(1 * MiB, 1024 * GiB) = ByteSize(4 * GiB)  # type: ignore[valid-type]
    artifact: _size(1 * KiB, 64 * GiB) = ByteSize(1 * GiB)  # type: ignore[valid-type]
    context: _size(1 * KiB, 64 * GiB) = ByteSize(512 * MiB)  # type: ignore[valid-type]
    context_files: int = Field(default=20_000, ge=1, le=1_000_000)


class Timeouts(Table):
    """`[timeouts]`: wall-clock seconds of each stage, and of the whole run."""

    build: float = Field(default=1800, ge=5, le=86_400)
    train: float = Field(default=1200, ge=1, le=7 * 86_400)
    serve: float = Field(default=180, ge=5, le=3600)
    predict: float = Field(default=180, ge=5, le=3600)
    total: float = Field(default=5400, ge=10, le=8 * 86_400)


class GpuTable(Table):
    """`[gpu]`: what a GPU has to have."""

    min_memory: _size(0, 1024 * GiB) = ByteSize(0)  # type: ignore[valid-type]
    wait: float = Field(default=600, ge=0, le=86_400)


Level = Annotated[
    Literal["fail", "warn"], BeforeValidator(lambda value: {True: "fail", False: "warn"}.get(value, value))
]


class Integrity(Table):
    """`[integrity]`: did this run make this artifact? "fail" (or true) costs the check, "warn" (or false) is a note.

    What each one looks at, and why the defaults are what they are, is told in `pytest_dockerlab.integrity`.
    """

    artifact_new: Level = "fail"
    cpu_plausible: Level = "warn"
    loss_over_time: Level = "warn"
    accuracy_agrees: Level = "warn"
    images_match: Level = "fail"  # looked at with `data_canary` only
    provenance: bool = False
    data_canary: bool = False


class AssignmentFile(Table):
    """`assignment.toml`, schema 1. `assignments/README.md` documents every key."""

    schema_: Literal[1] = Field(alias="schema")
    name: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    title: Title
    tests: str = "test_*.py"
    checks: tuple[CheckSpec, ...] = Field(min_length=1)
    train: TrainTable = TrainTable()
    loss: LossTable = LossTable()
    serve: ServeTable = ServeTable()
    predict: PredictTable = PredictTable()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    gpu: GpuTable = GpuTable()
    integrity: Integrity = Integrity()
    images: dict[str, str] = {}

    @field_validator("checks")
    @classmethod
    def _unique(cls, checks: tuple[CheckSpec, ...]) -> tuple[CheckSpec, ...]:
        ids = [check.id for check in checks]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(f"the id {twice[0]!r} stands twice")
        if not sum(check.points for check in checks):
            raise ValueError("no check is worth a point")
        return checks

    @model_validator(mode="after")
    def _provenance_counts(self) -> AssignmentFile:
        # It needs a second start of the server: a check of its own has points, a message and a place in the order.
        if self.integrity.provenance and not any(check.id == "provenance" for check in self.checks):
            raise ValueError('[integrity] provenance = true needs a [[checks]] entry with the id "provenance"')
        return self


class Assignment:
    """A loaded assignment. `spec` is the validated file, `folder` where it lies."""

    def __init__(self, folder: Path, spec: AssignmentFile) -> None:
        """Use `Assignment.load`."""
        self.folder = folder
        self.spec = spec

    @classmethod
    def load(cls, name_or_path: str) -> Assignment:
        """Load by name (a bundled one) or by folder; raises `UsageError` that lists what there is."""
        as_path = Path(name_or_path).expanduser()
        candidates = [paths.bundled("assignments", name_or_path)] if as_path.name == name_or_path else []
        candidates.append(as_path)
        for folder in candidates:
            if (folder / FILE).is_file():
                return cls(folder.resolve(), tomlfile.load(folder / FILE, AssignmentFile))
        known = ", ".join(bundled_names())
        raise UsageError(
            f"There is no assignment {name_or_path!r}.",
            fix=f"Give one of the bundled ones ({known}) or a folder that holds an {FILE}.",
        )

    @property
    def name(self) -> str:
        """The assignment's name."""
        return self.spec.name

    @property
    def max_score(self) -> int:
        """The sum of all points."""
        return sum(check.points for check in self.spec.checks)

    def check(self, check_id: str) -> CheckSpec | None:
        """Return one entry of `[[checks]]`."""
        return next((check for check in self.spec.checks if check.id == check_id), None)

    @property
    def test_files(self) -> list[Path]:
        """The test files, sorted."""
        return sorted(path for path in self.folder.glob(self.spec.tests) if path.is_file())

    @cached_property
    def sha256(self) -> str:
        """A hash over the file and the tests: what decides a grade. `starter/` and `solution/` do not."""
        digest = hashlib.sha256()
        for path in sorted({self.folder / FILE, *self.test_files}):
            digest.update(f"{path.name}\0".encode())
            digest.update(path.read_bytes())
            digest.update(b"\0")
        return digest.hexdigest()


def bundled_names() -> list[str]:
    """Return the names of the assignments that this package brings."""
    return sorted(path.parent.name for path in paths.bundled("assignments").glob(f"*/{FILE}"))
