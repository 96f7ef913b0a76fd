"""A tiny assignment on the instructor's side, and submissions that try everything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_dockerlab.classroom.grading import Graded, Request, grade_path, regrade_path
from pytest_dockerlab.settings import resolve

PLUGIN = Path(__file__).with_name("fake_engine_plugin.py")
DOCKERFILE = 'FROM python:3.11-slim\nWORKDIR /app\nCOPY train.py .\nCMD ["python", "train.py"]\n'
CHECKS = {"dockerfile": 10, "build": 20, "train": 20, "loss": 30, "artifact": 20}
FIXTURES = {"dockerfile": "dockerfile", "build": "image", "train": "training", "loss": "loss", "artifact": "artifact"}


def write_assignment(folder: Path) -> Path:
    folder.mkdir(parents=True)
    lines = ["schema = 1", 'name = "tiny"', 'title = { en = "Tiny", zh = "小" }']
    tests = ["import pytest\nfrom pytest_dockerlab import checks\n"]
    for name, points in CHECKS.items():
        lines += ["[[checks]]", f'id = "{name}"', f"points = {points}", f'title = {{ en = "{name}", zh = "{name}" }}']
        fact = f"dockerlab_{FIXTURES[name]}"
        also = ", dockerlab_assignment" if name in ("loss", "artifact") else ""
        tests.append(
            f'@pytest.mark.dockerlab(check="{name}")\ndef test_{name}({fact}{also}):\n'
            f"    checks.{name}({fact}{also}).require()\n"
        )
    (folder / "assignment.toml").write_text("\n".join([*lines, "[train]", 'data = "none"']) + "\n")
    (folder / "test_tiny.py").write_text("\n".join(tests))
    return folder


class Classroom:
    """The instructor's side, and one student's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.assignment = write_assignment(root / "course" / "tiny")
        self.student = root / "students" / "mallory"
        self.canary = root / "canary"
        self.results_file = root / "out" / "results.json"
        self.log: list[str] = []
        self.config = root / "config"
        self.config.mkdir()
        self.write("Dockerfile", DOCKERFILE)
        self.write("train.py", "print('the fake engine never reads this')\n")

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.student / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    @property
    def code(self) -> str:
        """Python that shows that it was run."""
        return f"open({str(self.canary)!r}, 'a').write('ran')\n"

    @property
    def shell(self) -> str:
        return f"#!/bin/sh\necho ran >>'{self.canary}'\n"

    def says(self, output: bytes) -> None:
        """Have the training print this and fail."""
        (self.config / "says").write_bytes(output)

    def grade(self, path: Path | None = None, environ: dict[str, str] | None = None, **options: object) -> Graded:
        return self._run(grade_path, path, environ, options)

    def regrade(self, path: Path | None = None, **options: object) -> Graded:
        return self._run(regrade_path, path, None, options)

    def _run(self, function, path, environ, options) -> Graded:
        self.log.clear()
        request = {key: options.pop(key) for key in ("ref", "formats", "reader", "submitted_at") if key in options}
        cli = {"assignment": str(self.assignment), "results": str(self.results_file), **options}
        settings = resolve(cli, environ=environ or {})
        asked = Request(path or self.student, settings, **request)
        return function(asked, say=self.log.append, environ=environ, _plugins=(PLUGIN,))

    @property
    def results(self) -> dict[str, object]:
        return json.loads(self.results_file.read_text())

    @property
    def text(self) -> str:
        return "\n".join(self.log)


@pytest.fixture
def classroom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Classroom:
    made = Classroom(tmp_path)
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("DOCKERLAB_CONFIG_DIR", str(made.config))
    return made
