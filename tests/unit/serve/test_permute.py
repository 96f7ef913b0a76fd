"""The last layer's rows are permuted as bytes: what comes back is the same file with ten rows in another order."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from pytest_dockerlab.inspection.inside.kinds import kind_of
from pytest_dockerlab.serve import mar, permute
from pytest_dockerlab.stages.provenance import derangement

ARTIFACTS = Path(__file__).parents[2] / "samples" / "artifacts"
ORDER = [3, 0, 1, 9, 8, 7, 2, 4, 5, 6]
BACK = [ORDER.index(digit) for digit in range(10)]


def done(path: Path, order: list[int], to: Path) -> str:
    with to.open("wb") as target:
        return permute.permute(path, kind_of(path)[0], target, order)


def content(path: Path) -> dict[str, bytes] | bytes:
    if not zipfile.is_zipfile(path):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize(
    "name",
    [
        "state_dict.pt",
        "state_dict_legacy.pt",
        "torchscript.pt",
        "whole_model.pt",
        "half.pt",
        "checkpoint.ckpt",
        "weights.safetensors",
    ],
)
def test_there_and_back_is_the_same_file(name, tmp_path):
    layer = done(ARTIFACTS / name, ORDER, tmp_path / "there")
    assert layer.endswith("fc.weight")
    assert kind_of(tmp_path / "there") == kind_of(ARTIFACTS / name)
    assert content(tmp_path / "there") != content(ARTIFACTS / name)
    done(tmp_path / "there", BACK, tmp_path / "back")
    assert content(tmp_path / "back") == content(ARTIFACTS / name)


def test_the_rows_and_the_bias_move_and_nothing_else(tmp_path):
    def tensors(path):
        data = path.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        body = data[8 + length :]
        return {name: body[slice(*item["data_offsets"])] for name, item in header.items() if name != "__metadata__"}

    done(ARTIFACTS / "weights.safetensors", ORDER, tmp_path / "there")
    before, after = tensors(ARTIFACTS / "weights.safetensors"), tensors(tmp_path / "there")
    assert {name for name in before if before[name] != after[name]} == {"fc.weight", "fc.bias"}
    for name in ("fc.weight", "fc.bias"):
        row = len(before[name]) // 10
        rows = [before[name][at * row : (at + 1) * row] for at in range(10)]
        assert after[name] == b"".join(rows[old] for old in ORDER)


def test_an_archive_is_permuted_inside(tmp_path):
    made = tmp_path / "m.mar"
    files = {"model.py": b"class Net: ...", "handler.py": b"...", "state_dict.pt": ARTIFACTS / "state_dict.pt"}
    mar.write(made, "mnist", "/in/state_dict.pt", "/in/handler.py", "/in/model.py", files)
    assert kind_of(made) == ("mar", None)
    assert done(made, ORDER, tmp_path / "there") == "fc.weight"
    before, after = content(made), content(tmp_path / "there")
    assert {name for name in before if before[name] != after[name]} == {"state_dict.pt"}
    assert json.loads(after["MAR-INF/MANIFEST.json"])["model"]["serializedFile"] == "state_dict.pt"


@pytest.mark.parametrize("name", ["no_tensors.pt", "views.pt", "model.h5", "model.keras", "make.py"])
def test_what_cannot_be_permuted_says_why(name):
    with pytest.raises(permute.NotPermuted, match=r"no layer|can't be permuted"):
        permute.permute(ARTIFACTS / name, kind_of(ARTIFACTS / name)[0], io.BytesIO(), ORDER)


@pytest.mark.parametrize("size", [0, 10, 500, 1000])
def test_a_broken_file_is_not_permuted(size, tmp_path):
    path = tmp_path / "cut.pt"
    path.write_bytes((ARTIFACTS / "state_dict.pt").read_bytes()[:size])
    for kind in permute.KINDS:
        with pytest.raises(permute.NotPermuted):
            permute.permute(path, kind, io.BytesIO(), ORDER)


@pytest.mark.parametrize(
    ("found", "layer", "moved"),
    [
        ([("a.weight", (10, 5)), ("b.weight", (10, 7)), ("b.bias", (10,))], "b.weight", ["b.weight", "b.bias"]),
        ([("w", (10, 5)), ("b", (10,))], "w", ["w", "b"]),
        ([("conv.weight", (10, 1, 5, 5)), ("fc.weight", (10, 9))], "fc.weight", ["fc.weight"]),
        ([("fc.weight", (10, 9)), ("ema.fc.weight", (10, 9))], "ema.fc.weight", ["fc.weight", "ema.fc.weight"]),
    ],
)  # fmt: skip
def test_the_last_layer_its_bias_and_its_copies(found, layer, moved):
    assert permute.last_layer(found) == (layer, moved)


def test_no_digit_stays_where_it_is():
    for _ in range(50):
        order = derangement()
        assert sorted(order) == list(range(10))
        assert all(order[digit] != digit for digit in range(10))
