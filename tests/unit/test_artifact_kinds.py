"""What a model file is and what is in it, read from files that the real frameworks wrote (tests/samples/artifacts)."""

from __future__ import annotations

import ast
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab import artifact, checks, inspection
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.engine.fake import FakeEngine, FakeFile, FakeProgram
from pytest_dockerlab.facts import Artifact, from_json, to_json
from pytest_dockerlab.inspection.inside.kinds import MAX_DIRECTORY, kind_of
from pytest_dockerlab.inspection.inside.main import look_into
from pytest_dockerlab.sandbox import probe, training

SAMPLES = Path(__file__).parents[1] / "samples" / "artifacts"
KINDS = {
    "state_dict.pt": "pytorch-zip",
    "half.pt": "pytorch-zip",
    "checkpoint.ckpt": "pytorch-zip",
    "whole_model.pt": "pytorch-zip",
    "state_dict_legacy.pt": "pytorch-legacy",
    "torchscript.pt": "torchscript",
    "weights.safetensors": "safetensors",
    "model.keras": "keras",
    "model.h5": "hdf5",
}
NEED_H5PY = ("model.keras", "model.h5")


def look(path: Path) -> dict[str, object]:
    kind, problem = kind_of(path)
    assert problem is None
    return look_into(path, kind)


def file(tmp_path: Path, data: bytes, name: str = "file") -> Path:
    path = tmp_path / name
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(("name", "kind"), KINDS.items())
def test_the_kind_is_told_by_content(name: str, kind: str, tmp_path: Path):
    copy = file(tmp_path, (SAMPLES / name).read_bytes(), "no-suffix")
    assert kind_of(copy) == (kind, None)


@pytest.mark.parametrize("name", [name for name in KINDS if name not in NEED_H5PY])
def test_tensors_are_read_without_a_framework(name: str):
    seen = look(SAMPLES / name)
    assert seen["read"] is True
    assert (seen["tensor_count"], seen["parameters"]) == (9, 119)
    shapes = {tuple(tensor["shape"]) for tensor in seen["tensors"]}
    assert {(2, 1, 3, 3), (10, 8), (10,), ()} <= shapes
    assert seen["nan_tensors"] == 0
    # BatchNorm's four vectors are constant in an untrained network; the others are not.
    assert (seen["constant_tensors"], seen["float_tensors"]) == (4, 8)


@pytest.mark.parametrize("name", NEED_H5PY)
def test_keras_files_are_read_with_h5py_or_said_not_to_be(name: str):
    seen = look(SAMPLES / name)
    try:
        import h5py  # noqa: F401
    except ImportError:
        assert (seen["read"], seen["problem"], seen["why"]) == (False, None, "h5py is not in this image")
    else:
        assert (seen["tensor_count"], seen["parameters"]) == (4, 23)


def test_nan_and_infinity_are_counted_and_named():
    seen = look(SAMPLES / "nan.pt")
    assert (seen["nan"], seen["inf"]) == (["fc.weight: 24 of 80"], ["conv.bias: 1 of 2"])
    assert look(SAMPLES / "bf16_nan.pt")["nan"] == ["bf16: 1 of 3"]


def test_views_are_read_where_they_lie():
    seen = look(SAMPLES / "views.pt")
    assert [(tensor["name"], tensor["shape"]) for tensor in seen["tensors"]] == [("view", [3, 2]), ("whole", [12])]
    assert seen["constant_tensors"] == 0


def test_all_zeros_and_no_tensors():
    zeros = look(SAMPLES / "zeros.pt")
    assert zeros["constant_tensors"] == zeros["float_tensors"] == 8
    assert look(SAMPLES / "no_tensors.pt")["tensor_count"] == 0


def test_an_optimizer_is_no_part_of_the_model():
    names = [tensor["name"] for tensor in look(SAMPLES / "checkpoint.ckpt")["tensors"]]
    assert names[0] == "state_dict.conv.weight"
    assert not any("optimizer" in name for name in names)


def varint(number: int) -> bytes:
    out = b""
    while number > 0x7F:
        out += bytes([number & 0x7F | 0x80])
        number >>= 7
    return out + bytes([number])


def field(number: int, data: bytes | int) -> bytes:
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def onnx(values: list[float]) -> bytes:
    raw = struct.pack(f"<{len(values)}f", *values)
    tensor = field(1, 2) + field(1, len(values) // 2) + field(2, 1) + field(8, b"fc.weight") + field(9, raw)
    return field(1, 8) + field(2, b"pytorch") + field(7, field(2, b"main_graph") + field(5, tensor))


def test_onnx_is_read_as_protobuf(tmp_path: Path):
    path = file(tmp_path, onnx([1, 2, 3, float("nan"), 5, 6]))
    seen = look(path)
    assert seen["tensors"] == [{"name": "fc.weight", "shape": [2, 3], "dtype": "float32"}]
    assert seen["nan"] == ["fc.weight: 1 of 6"]
    assert look_into(file(tmp_path, onnx([1.0] * 60)[:-9]), "onnx")["problem"] == "truncated"


def test_the_weights_in_a_model_archive_are_found(tmp_path: Path):
    path = tmp_path / "mnist.mar"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps({"model": {"serializedFile": "w.pt"}}))
        archive.writestr("w.pt", (SAMPLES / "state_dict.pt").read_bytes())
    seen = look(path)
    assert (seen["inner"], seen["tensor_count"]) == ({"file": "w.pt", "kind": "pytorch-zip"}, 9)


# -- broken files, each with its own word


@pytest.mark.parametrize("name", [*KINDS])
@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_a_file_that_was_cut_off_is_told(name: str, share: float, tmp_path: Path):
    whole = (SAMPLES / name).read_bytes()
    path = file(tmp_path, whole[: max(12, int(len(whole) * share))])
    kind, problem = kind_of(path)
    if problem is None:
        problem = look_into(path, kind)["problem"]
    assert problem == "truncated"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf\n<!DOCTYPE html><html><body>404</body></html>", "html"),
        (b"<HTML><head><title>Not found</title>", "html"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n", "text"),
        ("训练完成\n".encode(), "text"),
        (bytes(5000), "zeros"),
        (bytes(range(1, 256)) * 3, "unknown"),
        (b"PK\x03\x04", "truncated"),
        (b"\x89HDF\r\n\x1a\n" + bytes(4), "truncated"),
        ((1 << 30).to_bytes(8, "little") + b"{" + b"[" * 5000, "truncated"),
        ((5000).to_bytes(8, "little") + b"{" + b"[" * 6000, "unknown"),
        ((12).to_bytes(8, "little") + b'{"a":{"b":1}}', "unknown"),
    ],
)
def test_what_is_no_model_is_named(data: bytes, problem: str, tmp_path: Path):
    assert kind_of(file(tmp_path, data))[1] == problem


@pytest.mark.parametrize("offsets", ["null", "[]", "[0]", '["a","b"]', "[0,9]", "[5,1]", "[-4,-1]", "{}", "[0,1e400]"])
def test_hostile_safetensors_headers(offsets: str, tmp_path: Path):
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":%s}}' % offsets.encode()
    path = file(tmp_path, len(header).to_bytes(8, "little") + header + bytes(8))
    kind, problem = kind_of(path)
    assert kind == "safetensors"
    assert problem == "truncated" or look_into(path, kind)["problem"] == "truncated"


def test_a_zip_directory_of_gigabytes_is_not_read(tmp_path: Path):
    path = file(tmp_path, b"PK\x03\x04")
    end = struct.pack("<4sHHHHLLH", b"PK\x05\x06", 0, 0, 65535, 65535, MAX_DIRECTORY + 1, 4, 0)
    with path.open("r+b") as out:
        out.seek(MAX_DIRECTORY + 5)
        out.write(end)
    assert kind_of(path) == ("zip", "truncated")


class Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("form", ["zip", "plain"])
def test_a_pickle_that_would_run_a_command_is_named_and_never_run(protocol: int, form: str, tmp_path: Path):
    canary = tmp_path / "ran"
    data = pickle.dumps({"w": Bomb(canary)}, protocol)
    path = tmp_path / "bomb.pt"
    if form == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
    else:
        path.write_bytes(data)
    kind = "pytorch-zip" if form == "zip" else "pickle"
    name = f"{os.system.__module__}.system"
    assert name in inspection.static_names(path, kind)
    assert name in look_into(path, kind)["globals"]
    assert inspection.runs_commands([name]) == [name]
    assert not canary.exists()


def test_whole_models_name_their_classes():
    names = inspection.static_names(SAMPLES / "whole_model.pt", "pytorch-zip")
    assert inspection.unusual(names) == ["model.Net"]
    assert inspection.runs_commands(names) == []
    assert inspection.unusual(inspection.static_names(SAMPLES / "state_dict.pt", "pytorch-zip")) == []


class Whole:
    """A model's class, as the older form keeps it: with its source text beside it."""


class OldPickler(pickle.Pickler):
    done = False

    def persistent_id(self, obj: object) -> object:
        if obj is Whole and not self.done:
            self.done = True
            return ("module", Whole, "model.py", "class Whole: ...")
        return None


def test_a_whole_model_in_the_older_form_names_its_class(tmp_path: Path):
    buffer = io.BytesIO()
    for value in (0x1950A86A20F9469CFC6C, 1001, {}):
        pickle.dump(value, buffer, 2)
    OldPickler(buffer, 2).dump(Whole())
    pickle.dump([], buffer, 2)
    path = file(tmp_path, buffer.getvalue())
    assert kind_of(path) == ("pytorch-legacy", None)
    seen = look_into(path, "pytorch-legacy")
    assert (seen["read"], seen["tensor_count"]) == (True, 0)
    assert inspection.unusual(seen["globals"]) == [f"{Whole.__module__}.Whole"]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_no_mutation_of_a_file_breaks_the_reader(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory):
    name = data.draw(st.sampled_from(sorted(KINDS)))
    mutated = bytearray((SAMPLES / name).read_bytes())
    for at, value in data.draw(
        st.lists(st.tuples(st.integers(0, len(mutated) - 1), st.integers(0, 255)), min_size=1, max_size=12)
    ):
        mutated[at] = value
    path = file(tmp_path_factory.mktemp("mutated"), bytes(mutated))
    kind, problem = kind_of(path)
    inspection.static_names(path, kind)
    if problem is None:
        seen = look_into(path, kind)
        assert "read" in inspection.parse(json.dumps(seen).encode())


@settings(max_examples=200, deadline=None)
@given(
    answer=st.one_of(st.binary(max_size=300), st.recursive(st.none() | st.text(), st.lists).map(repr).map(str.encode))
)
def test_any_answer_of_the_container_is_taken_as_hostile(answer: bytes):
    assert inspection.parse(answer)["read"] is False


@pytest.mark.parametrize(
    "answer",
    [
        {"read": True, "tensor_count": -1},
        {"read": True, "parameters": 1 << 70},
        {"read": True, "nan": ["x"] * 6},
        {"read": True, "tensors": [{"name": "w" * 201, "shape": [], "dtype": "f"}]},
        {"read": True, "problem": "<script>"},
        {"read": "yes"},
    ],
)
def test_answers_out_of_bounds_are_no_answers(answer: dict[str, object]):
    assert inspection.parse(json.dumps(answer).encode()) == {
        "read": False,
        "why": "what the reader said can't be understood",
    }


def test_a_lone_surrogate_in_an_answer_reaches_no_file():
    details = inspection.parse(b'{"read": true, "globals": ["a\\ud800"], "extra": 1}')
    assert details["globals"] == ["a?"]
    assert from_json(Artifact, to_json(Artifact(details=details))).details == details


def test_the_reader_runs_on_python_3_8():
    for path in sorted((Path(inspection.__file__).parent / "inside").glob("*.py")):
        ast.parse(path.read_text(), feature_version=(3, 8))


def test_the_bundle_runs_as_a_program_of_its_own():
    reader, model = inspection.bundle(), (SAMPLES / "state_dict.pt").read_bytes()
    boot = inspection.BOOT.replace("/tmp/", "./")
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-I", "-c", boot, "pytorch-zip"],
            input=len(reader).to_bytes(8, "little") + reader + model,
            cwd=folder,
            capture_output=True,
            check=True,
        )
    assert inspection.parse(done.stdout)["parameters"] == 119


# -- finding and fetching, on an engine in memory


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
    return artifact.collect(engine, container, unused, image, patterns, 1 << 20, tmp_path / "artifact.bin")


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
    found = artifact.collect(engine, container, unused, image, ("*.pt",), 1 << 20, target, require_new=False)
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
