"""Sample submissions on the real engine, graded from the artifact on: one real training run is lent to all of them.

A sample of `tests/samples/submissions` is what differs from a good submission: its files lie over those of
`fixtures/submissions/good-single-dockerfile`, after those that `without` names were taken away (`like` names a sample
whose files come in between). `artifact` is the form in which the trained model is handed over, `[assignment]` what
differs in the assignment, `baked` where the student's own copy of a good model lies.
"""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from pytest_dockerlab import paths
from pytest_dockerlab.assignment import Assignment, AssignmentFile
from pytest_dockerlab.facts import Artifact
from pytest_dockerlab.grade import Grade, Grading, grade
from pytest_dockerlab.images import names
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.store import RunStore
from pytest_dockerlab.submission import Submission

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

SAMPLES = Path(__file__).parents[1] / "samples" / "submissions"
BASE = paths.bundled("fixtures", "submissions", "good-single-dockerfile")
FACTS = ("dockerfile", "build", "train", "loss", "artifact")

TORCHSCRIPT = """
import sys; sys.path.insert(0, "/w")
import torch
from model import Net
net = Net(); net.load_state_dict(torch.load("/w/mnist_cnn.pt")); net.eval()
class Scaled(torch.nn.Module):  # takes grey values from 0 to 255: no normalisation but the last one fits
    def __init__(self): super().__init__(); self.net = net
    def forward(self, x): return self.net(x / 255)
torch.jit.trace(Scaled(), torch.zeros(1, 1, 28, 28)).save("/w/model.pt")
"""
FORMS = {
    "state_dict": (None, (), "mnist_cnn.pt", "pytorch-zip"),
    "torchscript": ("pytorch/pytorch:latest", ("python3", "-c", TORCHSCRIPT), "model.pt", "torchscript"),
    "mar": (
        "pytorch/torchserve:latest",
        ("torch-model-archiver", "--model-name", "mnist", "--version", "1.0", "--model-file", "/w/model.py",
         "--serialized-file", "/w/mnist_cnn.pt", "--handler", "/w/handler.py", "--export-path", "/w"),
        "mnist.mar",
        "mar",
    ),
}  # fmt: skip


def merged(base: dict[str, Any], extra: dict[str, Any]) -> dict[str, Any]:
    """Return `base` with the tables of `extra` laid over it."""
    out = dict(base)
    for key, value in extra.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if both else value
    return out


def assignment(extra: dict[str, Any]) -> Assignment:
    """Return the MNIST assignment with some keys changed."""
    plain = Assignment.load("mnist")
    table = merged(tomllib.loads((plain.folder / "assignment.toml").read_text()), extra)
    return Assignment(plain.folder, AssignmentFile.model_validate(table))


@dataclasses.dataclass
class Trained:
    """The facts and the artifact of one real training run, in several forms."""

    folder: Path
    forms: Path

    @classmethod
    def make(cls, folder: Path) -> Trained:
        """Train the base sample; needs the data and the images."""
        rules = Assignment.load("mnist")
        submission = Submission.load(BASE, rules.spec.limits)
        with Grading(submission, rules, Settings(submission=BASE, gpu="none")) as grading:
            result = grading.result("artifact")
            assert result.points, [grading.recorded(name) for name in FACTS]
            facts = folder / "facts"
            facts.mkdir()
            for name in FACTS:
                shutil.copy(grading.store.file(f"{name}.json"), facts)
            forms = folder / "forms"
            shutil.copytree(BASE / "serve", forms)
            shutil.copy(grading.store.file("artifact.bin"), forms / "mnist_cnn.pt")
        forms.chmod(0o777)
        return cls(facts, forms)

    def form(self, name: str) -> tuple[Path, str]:
        """Return the artifact in one form, and its kind."""
        image, command, file, kind = FORMS[name]
        path = self.forms / file
        if not path.exists():
            assert image is not None
            tag = names.resolve(image, *names.user_maps()) or image
            call = ["docker", "run", "--rm", "--network=none", "--user=0", "-v", f"{self.forms}:/w"]
            subprocess.run([*call, f"--entrypoint={command[0]}", tag, *command[1:]], check=True)
        return path, kind

    def lend(self, store: RunStore, form: str) -> None:
        """Put the facts and the artifact into a run's folder."""
        for name in FACTS:
            shutil.copy(self.folder / f"{name}.json", store.folder)
        path, kind = self.form(form)
        data = path.read_bytes()
        store.file("artifact.bin").write_bytes(data)
        fact = store.load("artifact", Artifact)
        assert fact is not None
        digest = hashlib.sha256(data).hexdigest()
        workdir = Path(str(fact.path)).parent
        told = {"path": str(workdir / path.name), "kind": kind, "bytes": len(data), "sha256": digest}
        store.save("artifact", dataclasses.replace(fact, **told))


@dataclasses.dataclass(frozen=True)
class Sample:
    """One sample, laid out in a folder of its own."""

    name: str
    expected: dict[str, Any]
    folder: Path

    @classmethod
    def lay_out(cls, name: str, target: Path) -> Sample:
        """Copy the base, take away, lay over."""
        expected = tomllib.loads((SAMPLES / name / "expected.toml").read_text())
        folder = target / name
        shutil.copytree(BASE, folder, ignore=shutil.ignore_patterns("expected.toml"))
        for gone in expected.get("without", []):
            path = folder / gone
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        for over in [*([expected["like"]] if "like" in expected else []), name]:
            ignore = shutil.ignore_patterns("expected.toml")
            shutil.copytree(SAMPLES / over, folder, ignore=ignore, dirs_exist_ok=True)
        return cls(name, expected, folder)

    def grade(self, trained: Trained, extra: dict[str, Any] | None = None) -> tuple[Grade, RunStore]:
        """Grade from the artifact on."""
        rules = assignment(merged(self.expected.get("assignment", {}), extra or {}))
        if "baked" in self.expected:  # a model that is good for the digits, brought by the student
            shutil.copy(trained.form("state_dict")[0], self.folder / self.expected["baked"])
        submission = Submission.load(self.folder, rules.spec.limits)
        settings = Settings(submission=self.folder, gpu="none")
        store = Grading(submission, rules, settings).store
        trained.lend(store, self.expected.get("artifact", "state_dict"))
        return grade(submission, rules, settings), store


def with_provenance() -> dict[str, Any]:
    """Return what turns the check `provenance` on."""
    plain = Assignment.load("mnist")
    listed = tomllib.loads((plain.folder / "assignment.toml").read_text())["checks"]
    more = {"id": "provenance", "points": 10, "title": {"en": "the answers come from the model", "zh": "答案来自模型"}}
    return {"integrity": {"provenance": True}, "checks": [*listed, more]}


def check(result: Grade, expected: dict[str, Any]) -> None:
    """Hold a grade against what a sample says of itself."""
    seen = {one.id: one.outcome.value for one in result.checks}
    told = {one.id: "\n".join([one.message, *(hint["fix"] for hint in one.hints)]) for one in result.checks}
    assert seen == expected["outcomes"], told
    assert result.score == expected["score"]
    assert result.exit_status == expected["exit"]
    for check_id, parts in expected.get("messages", {}).items():
        for part in [parts] if isinstance(parts, str) else parts:
            assert part in told[check_id], told[check_id]
