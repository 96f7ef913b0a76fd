"""A tiny lab on a fake engine: a submission, an assignment and `pytest --dockerlab`, in a tenth of a second."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

# pytester forgets the modules that an in-process run imported; numpy can't be imported twice, and the rest is slow.
import numpy  # noqa: F401
import pytest
import scipy.stats  # noqa: F401

from pytest_dockerlab import fixtures, pipeline
from pytest_dockerlab.engine.fake import FakeEngine, FakeProgram
from pytest_dockerlab.report import schema, terminal  # noqa: F401
from pytest_dockerlab.serve import torchserve  # noqa: F401
from pytest_dockerlab.train import loss, trend  # noqa: F401

# Not loaded into the inner runs: a cache in the working folder, and a second of imports.
QUIET = ("-p", "no:cacheprovider", "-p", "no:hypothesispytest")
CHECKS = {"dockerfile": 10, "build": 20, "train": 20, "loss": 30, "artifact": 20}
TESTS = {
    "dockerfile": "def test_dockerfile(dockerlab_dockerfile):\n    checks.dockerfile(dockerlab_dockerfile).require()",
    "build": "def test_build(dockerlab_image):\n    checks.build(dockerlab_image).require()",
    "train": "def test_train(dockerlab_training):\n    checks.train(dockerlab_training).require()",
    "loss": "def test_loss(dockerlab_loss, dockerlab_assignment):\n"
    "    checks.loss(dockerlab_loss, dockerlab_assignment).require()",
    "artifact": "def test_artifact(dockerlab_artifact, dockerlab_assignment):\n"
    "    checks.artifact(dockerlab_artifact, dockerlab_assignment).require()",
}
DOCKERFILE = 'FROM python:3.11-slim\nWORKDIR /app\nCOPY train.py .\nCMD ["python", "train.py"]\n'
LOSSES = b"".join(b"Epoch %d loss: %.4f\n" % (step, 2.3 * 0.8**step) for step in range(20))


def model(text: str = "weights") -> bytes:
    """The bytes of a file that looks like PyTorch's."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", text)
    return buffer.getvalue()


class Lab:
    """What a test of the plugin holds in its hands."""

    def __init__(self, pytester: pytest.Pytester, engine: FakeEngine) -> None:
        self.pytester = pytester
        self.engine = engine
        self.root = pytester.path
        self.submission = self.root / "student"
        self.assignment_folder = self.root / "assignments" / "tiny"
        self.results_file = self.root / "results.json"
        self.good_submission()
        self.assignment()

    def good_submission(self) -> None:
        self.write("Dockerfile", DOCKERFILE)
        self.write("train.py", "print('the fake engine never reads this')\n")

    def write(self, name: str, text: str) -> Path:
        path = self.submission / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def assignment(self, extra: str = "", tests: str | None = None, checks: dict[str, int] | None = None) -> Path:
        """Write the assignment: the checks up to the artifact, no data."""
        checks = CHECKS if checks is None else checks
        self.assignment_folder.mkdir(parents=True, exist_ok=True)
        lines = ["schema = 1", 'name = "tiny"', 'title = { en = "Tiny", zh = "小" }']
        for name, points in checks.items():
            lines += ["[[checks]]", f'id = "{name}"', f"points = {points}"]
            lines += [f'title = {{ en = "{name}", zh = "{name}" }}']
        if "[train]" not in extra:
            lines += ["[train]", 'data = "none"']
        (self.assignment_folder / "assignment.toml").write_text("\n".join([*lines, extra]) + "\n")
        if tests is None:
            parts = ["import pytest\nfrom pytest_dockerlab import checks"]
            parts += [f'@pytest.mark.dockerlab(check="{name}")\n{TESTS[name]}' for name in checks]
            tests = "\n\n\n".join(parts) + "\n"
        (self.assignment_folder / "test_tiny.py").write_text(tests)
        return self.assignment_folder

    def run(self, *args: object, named: bool = True) -> pytest.RunResult:
        """Run `pytest --dockerlab` in this process, with results in `results.json`."""
        options: list[object] = ["--dockerlab", *QUIET, "--dockerlab-results", self.results_file]
        if named:
            options += ["--dockerlab-submission", self.submission, "--dockerlab-assignment", self.assignment_folder]
        return self.pytester.runpytest_inprocess(*map(str, options), *map(str, args), no_reraise_ctrlc=True)

    @property
    def results(self) -> dict[str, object]:
        return json.loads(self.results_file.read_text())

    @property
    def outcomes(self) -> dict[str, str]:
        return {check["id"]: check["outcome"] for check in self.results["checks"]}


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing that another test stored is seen."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("DOCKERLAB_CACHE", str(folder))
    monkeypatch.setattr(pipeline, "RETRY_PAUSE_S", 0.01)
    return folder


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    """The engine that the plugin finds: it has one base image, and a training that goes well."""
    engine = FakeEngine()
    engine.add_image("python:3.11-slim", {"/usr/bin/python": b"\x7fELF"})
    engine.program("python train.py", FakeProgram(output=LOSSES, files={"model.pt": model()}))
    monkeypatch.setattr(fixtures, "open_engine", lambda: engine)
    return engine


@pytest.fixture
def lab(pytester: pytest.Pytester, engine: FakeEngine) -> Lab:
    return Lab(pytester, engine)
