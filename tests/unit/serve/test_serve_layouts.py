"""What is put into a serving container, and what an assignment may say of serving; no engine."""

from __future__ import annotations

import dataclasses
import io
import tarfile
from types import SimpleNamespace

import pytest
from PIL import Image
from pydantic import ValidationError

from pytest_dockerlab import checks
from pytest_dockerlab.assignment import AssignmentFile, ServeTable
from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.facts import Prediction, Predictions, Provenance
from pytest_dockerlab.serve import draw, tritonmodel
from pytest_dockerlab.stages import harness, predict
from pytest_dockerlab.stages.serve_layouts import _model_store, _within


@pytest.mark.parametrize(
    ("cmd", "store"),
    [
        (("torchserve", "--start", "--model-store", "model-store"), "home/m/model-store"),
        (("torchserve", "--start", "--model-store=/models/"), "models"),
        (("/bin/sh", "-c", "torchserve --start --model-store /models && tail -f /dev/null"), "models"),
        (("torchserve", "--start"), None),
        (("bash",), None),
        ((), None),
        (("torchserve", "--model-store"), "home/m"),
    ],
)
def test_the_model_store_is_the_one_that_the_command_names(cmd, store):
    assert _model_store(ImageConfig("id", 0, workdir="/home/m", cmd=cmd)) == store


@pytest.mark.parametrize(
    ("target", "folder", "inside"),
    [("serve/m.pt", "serve", "m.pt"), ("serve/m.pt", ".", "serve/m.pt"), ("m.pt", "serve", "m.pt")],
)
def test_the_artifact_lands_in_the_build_context(target, folder, inside):
    assert _within(target, folder) == inside


def test_what_is_put_in_owns_no_folder_but_ours(tmp_path):
    seen = {}
    engine = SimpleNamespace(put=lambda _container, folder, data: seen.update(folder=folder, data=data.read()))
    files = {"dockerlab/a/b.txt": b"x", "home/m/store/m.mar": b"y"}
    context = SimpleNamespace(engine=engine, store=SimpleNamespace(folder=tmp_path))
    harness.put(context, "c", files, writable=("dockerlab/out",))
    with tarfile.open(fileobj=io.BytesIO(seen["data"])) as tar:
        modes = {member.name: (member.isdir(), member.mode) for member in tar}
        assert all(member.mtime > 315_532_800 for member in tar if member.isreg())  # a zip file can't say 1970
    assert seen["folder"] == "/"
    assert modes == {
        "dockerlab": (True, 0o755),
        "dockerlab/out": (True, 0o777),
        "dockerlab/a": (True, 0o755),
        "dockerlab/a/b.txt": (False, 0o644),
        "home/m/store/m.mar": (False, 0o644),
    }


@pytest.mark.parametrize("text", [b'platform: "pytorch_libtorch"', b'backend:"pytorch"'])
def test_a_libtorch_model_becomes_a_python_one(text):
    files = {"m/config.pbtxt": text + b"\nmax_batch_size: 8", "m/1/model.pt": b"weights"}
    found = tritonmodel.adapted(files, "m")
    assert found["m/config.pbtxt"] == b'backend: "python"\nmax_batch_size: 8'
    assert found["m/1/model.py"] == tritonmodel.MODEL
    compile(tritonmodel.MODEL, "model.py", "exec")
    assert tritonmodel.adapted({"m/config.pbtxt": b'backend: "python"'}, "m") == {
        "m/config.pbtxt": b'backend: "python"'
    }


def test_an_unknown_form_of_answers_is_refused_when_the_assignment_is_loaded():
    assert ServeTable(form="json:result[0].digit").form == "json:result[0].digit"
    with pytest.raises(ValidationError, match="probabilities"):
        ServeTable(form="yaml")


def test_provenance_needs_a_check_of_its_own():
    title = {"en": "x", "zh": "x"}
    table = {"schema": 1, "name": "m", "title": title, "checks": [{"id": "serve", "points": 1, "title": title}]}
    with pytest.raises(ValidationError, match='id "provenance"'):
        AssignmentFile.model_validate({**table, "integrity": {"provenance": True}})
    more = [*table["checks"], {"id": "provenance", "points": 1, "title": title}]
    AssignmentFile.model_validate({**table, "checks": more, "integrity": {"provenance": True}})


@pytest.mark.parametrize(
    ("fact", "passed", "says"),
    [
        (
            Provenance("compared", layer="fc.weight", followed=49, compared=50, asked=50),
            True,
            "49 of 50 answers followed",
        ),
        (Provenance("compared", layer="fc.weight", followed=45, compared=50, asked=50), True, "45 of 50"),
        (Provenance("compared", layer="fc.weight", followed=44, compared=50, asked=50), False, "do not come"),
        (Provenance("compared", layer="fc.weight", unmoved=50, compared=50, asked=50), False, "50 stayed the same"),
        (Provenance("compared", layer="fc.weight"), False, "0 of 0"),
        # Nonsense for all but one digit, and that one followed.
        (Provenance("compared", layer="fc.weight", followed=1, compared=1, asked=50), False, "1 of 1"),
        (Provenance("not_checked", "a model file of the kind keras can't be permuted"), False, "Not checked"),
        (Provenance("not_ready", "it ended", "fc.weight"), False, "does not start any more"),
    ],
)
def test_the_verdict_over_the_provenance(fact, passed, says):
    found = checks.provenance(fact)
    assert (found.passed, says in found.message) == (passed, True), found
    assert "provenance.json" in found.evidence


def test_a_page_of_all_digits_with_the_answers():
    questions = draw.draw(load_digits(), "seed", 13)
    items = [Prediction(one.name, one.label, one.label if at % 2 else None, "") for at, one in enumerate(questions)]
    with Image.open(io.BytesIO(predict.sheet(questions, items))) as page:
        assert page.size == (10 * predict.CELL, 2 * predict.CELL)
        colours = {colour for _, colour in page.getcolors(1 << 16)}
    assert any(red > 150 and green < 80 and blue < 80 for red, green, blue in colours)  # the unanswered ones


def test_other_ways_of_asking_are_said():
    items = tuple(Prediction(f"q{at}", at % 10, at % 10, "") for at in range(50))
    from pytest_dockerlab.assignment import Assignment

    fact = Predictions(items, asked="POST /x, x/255", tried=("POST /x, raw: 5 of 50",))
    message = checks.predict(fact, Assignment.load("mnist")).message
    assert "Best asked by POST /x, x/255; tried as well: POST /x, raw: 5 of 50." in message
    assert "Best asked" not in checks.predict(dataclasses.replace(fact, tried=()), Assignment.load("mnist")).message
