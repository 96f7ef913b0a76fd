"""Model files are found in what a run wrote, folders and volumes too; what the check says of their contents."""

from __future__ import annotations

import io
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from pytest_dockerlab import artifact, checks
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.engine.fake import FakeEngine, FakeFile, FakeProgram
from pytest_dockerlab.engine.files import ContainerFiles
from pytest_dockerlab.facts import Artifact
from pytest_dockerlab.inspection.inside.main import look_into
from pytest_dockerlab.sandbox import probe, training

SAMPLES = Path(__file__).parents[1] / "samples" / "artifacts"


def files(engine: FakeEngine, container: str) -> ContainerFiles:
    return ContainerFiles(engine, container, Deadline.after(60), 1 << 30)


def collected(
    tmp_path: Path, program: FakeProgram, patterns: tuple[str, ...] = ("*.pt",), **config: object
) -> Artifact:
    engine = FakeEngine()
    image = ImageConfig("", 0, workdir="/app", cmd=("train",), **config)
    engine.add_image("lab", {"/app/old.pt": (SAMPLES / "state_dict.pt").read_bytes()}, image)
    engine.program("train", program)
    spec = training("lab", image, Assignment.load("mnist").spec.limits, {})
    container, unused = engine.create(spec), engine.create(probe("lab", {}))
    assert engine.start(container) is None
    return artifact.collect(
        files(engine, container), files(engine, unused), image, patterns, 1 << 20, tmp_path / "artifact.bin"
    )


def folder(name: str) -> dict[str, bytes]:
    root = SAMPLES / "savedmodel"
    return {f"{name}/{path.relative_to(root)}": path.read_bytes() for path in root.rglob("*") if path.is_file()}


@pytest.mark.parametrize("patterns", [("*.pt", "saved_model.pb"), ("exported*",)])
def test_a_savedmodel_folder_is_one_artifact(tmp_path: Path, patterns: tuple[str, ...]):
    found = collected(tmp_path, FakeProgram(files=folder("exported_model")), patterns)
    assert (found.path, found.kind, found.state) == ("/app/exported_model", "savedmodel", "new")
    seen = look_into(tmp_path / "artifact.bin", "savedmodel")
    # Keras writes each of its four variables into two lists of an export.
    assert (seen["read"], seen["tensor_count"], seen["parameters"]) == (True, 8, 46)
    files = artifact.parts("savedmodel", tmp_path / "artifact.bin", "model")
    assert sorted(files) == sorted(folder("model"))
    assert files["model/saved_model.pb"].read_bytes() == (SAMPLES / "savedmodel/saved_model.pb").read_bytes()


def test_a_savedmodel_without_all_its_variables_is_cut_off(tmp_path: Path):
    files = folder("exported")
    name = next(name for name in files if "variables.data" in name)
    collected(tmp_path, FakeProgram(files={**files, name: files[name][:20]}), ("exported",))
    assert look_into(tmp_path / "artifact.bin", "savedmodel")["problem"] == "truncated"


def test_an_artifact_in_a_volume_is_found(tmp_path: Path):
    model = (SAMPLES / "state_dict.pt").read_bytes()
    found = collected(tmp_path, FakeProgram(files={"/out/a/model.pt": model}), volumes=("/out",))
    assert (found.path, found.state, found.kind) == ("/out/a/model.pt", "new", "pytorch-zip")


def test_a_file_that_the_image_put_into_its_volume_is_not_the_runs(tmp_path: Path):
    found = collected(tmp_path, FakeProgram(), volumes=("/app",))
    assert found.path is None
    assert next((one.path, one.state) for one in found.candidates) == ("/app/old.pt", "unchanged")


def test_only_the_chosen_file_is_read(tmp_path: Path):
    files = {f"checkpoint-{at}.pt": (SAMPLES / "state_dict.pt").read_bytes() for at in range(80)}
    found = collected(tmp_path, FakeProgram(files=files))
    assert found.path == "/app/checkpoint-0.pt"
    assert len(found.candidates) == 50
    assert [one.state for one in found.candidates] == ["new", *["other"] * 49]


def test_an_old_file_is_taken_where_the_assignment_only_warns(tmp_path: Path):
    engine = FakeEngine()
    image = ImageConfig("", 0, workdir="/app", cmd=("train",))
    engine.add_image("lab", {"/app/old.pt": (SAMPLES / "state_dict.pt").read_bytes()}, image)
    container, unused = engine.create(probe("lab", {})), engine.create(probe("lab", {}))
    target = tmp_path / "artifact.bin"
    found = artifact.collect(
        files(engine, container), files(engine, unused), image, ("*.pt",), 1 << 20, target, require_new=False
    )
    assert (found.path, found.state, target.is_file()) == ("/app/old.pt", "in_image", True)


def test_a_tar_that_only_looks_like_ours_is_a_file(tmp_path: Path):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("model/../../evil"))
    found = collected(tmp_path, FakeProgram(files={"model.pt": buffer.getvalue()}))
    assert (found.kind, found.problem) == ("unknown", "unknown")


def test_special_files_have_words_of_their_own(tmp_path: Path):
    words = {"fifo": "a pipe or a device", "device": "a pipe or a device", "link": "a link", "folder": "a folder"}
    for kind, word in words.items():
        found = collected(tmp_path, FakeProgram(files={"model.pt": FakeFile(kind=kind, target="/etc/passwd")}))
        said = checks.artifact(replace(found, candidates=found.candidates[:1]), Assignment.load("mnist"))
        assert not said.passed
        assert word in said.message


# -- what the check says of the contents


@pytest.mark.parametrize(
    ("details", "words"),
    [
        ({"runs": ["posix.system"]}, "names posix.system: loading it would run that"),
        ({"read": True, "tensor_count": 0}, "holds no tensor at all"),
        (
            {"read": True, "tensor_count": 9, "float_tensors": 8, "constant_tensors": 8},
            "each of its 8 tensors holds one value only",
        ),
    ],
)
def test_each_trouble_has_a_message(details: dict[str, object], words: str):
    fact = Artifact(path="/app/m.pt", bytes=9, kind="pytorch-zip", file="artifact.bin", details=details)
    said = checks.artifact(fact, Assignment.load("mnist"))
    assert not said.passed
    assert words in said.message
    assert said.fix


def test_what_was_not_read_fails_nobody():
    for details in ({}, {"read": False, "why": "h5py is not in this image"}):
        fact = Artifact(path="/app/m.h5", bytes=9, kind="hdf5", file="artifact.bin", details=details)
        assert checks.artifact(fact, Assignment.load("mnist")).passed


def test_nan_is_a_note():
    details = {"read": True, "tensor_count": 9, "parameters": 119, "nan_tensors": 1, "nan": ["fc.weight: 24 of 80"]}
    fact = Artifact(path="/app/m.pt", bytes=9, kind="pytorch-zip", file="artifact.bin", details=details)
    said = checks.artifact(fact, Assignment.load("mnist"))
    assert said.passed  # the loss and the digits judge it
    assert "1 of 9 tensors hold NaN (fc.weight: 24 of 80)" in said.notes[0]


def test_a_whole_model_passes_with_a_note():
    details = {"read": True, "tensor_count": 2, "parameters": 5, "unusual": ["model.Net"]}
    fact = Artifact(path="/app/m.pt", bytes=9, kind="pytorch-zip", file="artifact.bin", details=details)
    said = checks.artifact(fact, Assignment.load("mnist"))
    assert said.passed
    assert "2 tensors with 5 parameters" in said.message
    assert "model.Net" in said.notes[0]
