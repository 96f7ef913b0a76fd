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
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab import inspection
from pytest_dockerlab.facts import Artifact, from_json, to_json
from pytest_dockerlab.inspection.inside.kinds import MAX_DIRECTORY, kind_of
from pytest_dockerlab.inspection.inside.main import look_into

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
