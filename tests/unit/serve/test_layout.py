"""Layouts as students' repositories have them, by the list of files and the text of a few."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab.serve.dockerfile import scan
from pytest_dockerlab.serve.layout import KINDS, LayoutError, find_layout

SERVE = """
FROM pytorch/torchserve:0.12.0-cpu
COPY model.py handler.py config.properties mnist_cnn.pt ./
RUN torch-model-archiver --model-name mnist --serialized-file mnist_cnn.pt --handler handler.py
"""
MODEL = "import torch\nclass Net(nn.Module):\n    pass\n"
HANDLER = "class DigitHandler:\n    def handle(self, requests, context): ...\n"
SIDE = {"serve/model.py": MODEL, "serve/handler.py": HANDLER, "serve/config.properties": "", "train.py": MODEL}


def find(files, serve=None, **options):
    return find_layout(files, serve or {}, lambda name: files.get(name), **options)


def reason(files, serve=None, **options) -> str:
    with pytest.raises(LayoutError) as error:
        find(files, serve, **options)
    assert error.value.fix
    return error.value.reason


def test_a_serving_dockerfile_in_its_folder() -> None:
    layout = find({"serve/Dockerfile": SERVE, **SIDE}, artifact_name="mnist_cnn.pt")
    assert (layout.kind, layout.server, layout.dockerfile, layout.context) == (
        "dockerfile",
        "torchserve",
        "serve/Dockerfile",
        "serve",
    )
    assert layout.artifact_target == "serve/mnist_cnn.pt"


def test_the_solution_and_every_sample_have_a_layout() -> None:
    from pytest_dockerlab import paths

    seen = []
    for folder in [
        paths.bundled("assignments", "mnist", "solution"),
        *paths.bundled("fixtures", "submissions").iterdir(),
    ]:
        files = {
            path.relative_to(folder).as_posix(): path.read_text("utf-8", "replace")
            for path in folder.rglob("*")
            if path.is_file() and ".ruff_cache" not in path.parts
        }
        if "serve/Dockerfile" in files:
            layout = find(files, artifact_name="mnist_cnn.pt")
            assert layout.kind == "dockerfile", folder
            assert layout.artifact_target is not None
            assert layout.artifact_target.startswith("serve/"), folder
            seen.append(folder.name)
    assert "solution" in seen


def test_a_serving_dockerfile_in_the_folder_that_copies_from_the_root() -> None:
    text = (
        "FROM pytorch/torchserve:latest\nCOPY serve/handler.py serve/model.py output/mnist_cnn.pt /home/model-server/\n"
    )
    layout = find({"serve/Dockerfile": text, **SIDE})
    assert (layout.context, layout.artifact_target) == (".", "output/mnist_cnn.pt")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("Dockerfile.serve", "."), ("Dockerfile.infer", "."), ("Dockerfile.infer.cpu", "."),
        ("dockerfile.serving", "."),
        ("serve.Dockerfile", "."), ("Dockerfile.torchserve", "."), ("serving/Dockerfile", "serving"),
        ("inference/Dockerfile.cpu", "inference"), ("Dockerfile-serve", "."),
    ],
)  # fmt: skip
def test_conventional_names(name, folder) -> None:
    layout = find({name: "FROM x\nCOPY a.pt /a.pt\n", "Dockerfile": "FROM y", "train.py": ""})
    assert (layout.dockerfile, layout.context) == (name, folder)
    assert layout.artifact_target == ("a.pt" if folder == "." else f"{folder}/a.pt")


def test_the_variant_follows_the_machine() -> None:
    files = dict.fromkeys(("Dockerfile.infer.cpu", "Dockerfile.infer.gpu"), "FROM x\nCOPY a.pt /\n")
    assert find(files).dockerfile == "Dockerfile.infer.cpu"
    assert find(files, on_gpu=True).dockerfile == "Dockerfile.infer.gpu"
    assert find({"Dockerfile.infer.gpu": "FROM x\nCOPY a.pt /\n"}).dockerfile == "Dockerfile.infer.gpu"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("COPY *.pt /models/", "best.pt"),
        ("COPY ./model/*.pth /m/", "model/best.pt"),
        ('COPY ["out/a.pt", "/a.pt"]', "out/a.pt"),
        ("ADD --chown=1:1 out/a.pt /a.pt", "out/a.pt"),
        ("ARG MODEL=out/a.pt\nCOPY ${MODEL} /a.pt", "out/a.pt"),
        ("ENV MODEL=out/a.pt\nCOPY $MODEL /a.pt", "out/a.pt"),
        ("COPY ${MODEL:-out/b.pt} /a.pt", "out/b.pt"),
        ("COPY handler.py \\\n  # a comment\n  out/a.pt \\\n  /m/", "out/a.pt"),
        ("COPY checkpoints/ /ckpt/", "checkpoints/best.pt"),
        ("COPY . .\nRUN torch-model-archiver --serialized-file weights/a.pt --handler h.py", "weights/a.pt"),
        ("COPY a.pt b.pt /\n", None),
        ("COPY best.pt other.pt /\n", "best.pt"),
        ("COPY a.pt pretrained.pt /\n", "a.pt"),
        ("COPY --from=builder /out/a.pt /a.pt\nCOPY c.pt /", "c.pt"),
        ("RUN <<EOF\nCOPY z.pt /\nEOF\nCOPY a.pt /", "a.pt"),
    ],
)
def test_where_the_artifact_is_expected(text, target) -> None:
    files = {"Dockerfile.serve": f"FROM pytorch/torchserve\n{text}\n", "pretrained.pt": "", "handler.py": HANDLER}
    if target is None:
        assert reason(files, artifact_name="best.pt") == "artifact_place"
    else:
        assert find(files, artifact_name="best.pt").artifact_target == target


def test_the_place_can_be_declared() -> None:
    layout = find({"Dockerfile.serve": "FROM x\nCOPY . .\n"}, {"artifact": "weights/m.pt"})
    assert (layout.kind, layout.artifact_target) == ("dockerfile", "weights/m.pt")


def test_a_place_outside_the_submission_is_no_place() -> None:
    assert find({"Dockerfile.serve": "FROM x\nCOPY ../../a.pt /\n"}).artifact_target is None


def test_an_image_without_a_model_is_archived_by_us() -> None:
    text = "FROM ubuntu\nRUN git clone https://example.org/serve && pip install torchserve torch-model-archiver\n"
    layout = find({"Dockerfile.infer.cpu": text, "mnist_handler.py": HANDLER, "mnist.py": MODEL, "train.py": MODEL})
    assert (layout.kind, layout.handler, layout.model_file) == ("bare_image", "mnist_handler.py", "mnist.py")


def test_a_handler_and_a_model_file_alone() -> None:
    files = {**SIDE, "serve/index_to_name.json": "{}", "serve/helper.py": "", "serve/test_x.py": ""}
    layout = find(files)
    assert (layout.kind, layout.server, layout.handler, layout.model_file) == (
        "handler",
        "torchserve",
        "serve/handler.py",
        "serve/model.py",
    )
    assert layout.extra_files == ("serve/helper.py", "serve/index_to_name.json")


def test_a_model_class_under_any_name_beside_the_handler() -> None:
    files = {"handler.py": HANDLER, "lenet.py": "class LeNet(torch.nn.Module): ...", "train.py": "x = 1"}
    assert find(files).model_file == "lenet.py"
    assert find({"handler.py": HANDLER, "train.py": "x = 1"}).model_file is None


def test_an_archive_made_by_training() -> None:
    assert find({"train.py": ""}, artifact_name="mnist.mar").kind == "mar"


def test_triton_with_and_without_a_dockerfile() -> None:
    files = {"model_repository/mnist/config.pbtxt": 'backend: "onnxruntime"', "train.py": ""}
    layout = find(files, artifact_name="m.onnx")
    assert (layout.kind, layout.model_repository, layout.model, layout.artifact_target, layout.dockerfile) == (
        "triton",
        "model_repository",
        "mnist",
        "model_repository/mnist/1/model.onnx",
        None,
    )
    files["Dockerfile.serve"] = "FROM nvcr.io/nvidia/tritonserver:24.01-py3\nCOPY model_repository /models\n"
    layout = find(files)
    assert (layout.kind, layout.dockerfile, layout.context) == ("triton", "Dockerfile.serve", ".")


def test_any_http_server() -> None:
    text = (
        "FROM python:3.11\nRUN pip install fastapi uvicorn\nCOPY app.py model.pt /\nCMD uvicorn app:app --port 8000\n"
    )
    layout = find({"serve/Dockerfile": text, "serve/app.py": ""})
    assert (layout.kind, layout.server, layout.artifact_target) == ("http", "http", "serve/model.pt")


def test_what_dockerlab_toml_names_wins() -> None:
    files = {"deploy/x/Dockerfile.mine": "FROM x\nCOPY a.pt /\n", "serve/Dockerfile": SERVE, **SIDE}
    layout = find(files, {"dockerfile": "deploy/x/Dockerfile.mine", "context": ".", "server": "http", "port": None})
    assert (layout.kind, layout.dockerfile, layout.context, layout.artifact_target) == (
        "http",
        "deploy/x/Dockerfile.mine",
        ".",
        "a.pt",
    )


@pytest.mark.parametrize(
    ("files", "serve", "expected"),
    [
        ({"train.py": ""}, {}, "none"),
        ({}, {}, "none"),
        ({"serve/Dockerfile": "", "Dockerfile.infer": ""}, {}, "ambiguous"),
        ({"a/handler.py": HANDLER, "b/handler.py": HANDLER}, {}, "ambiguous"),
        ({"a/m/config.pbtxt": "", "b/m/config.pbtxt": ""}, {}, "ambiguous"),
        ({"r/m/config.pbtxt": "", "r/n/config.pbtxt": ""}, {}, "ambiguous"),
        ({"train.py": ""}, {"dockerfile": "nope/Dockerfile"}, "missing"),
        ({"train.py": ""}, {"handler": "nope.py"}, "missing"),
        ({"train.py": ""}, {"server": "triton"}, "missing"),
        ({"train.py": ""}, {"model_repository": "models"}, "missing"),
        ({"train.py": ""}, {"server": "http"}, "none"),
    ],
)
def test_what_cannot_be_told_says_which_key_tells_it(files, serve, expected) -> None:
    assert reason(files, serve) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=300) | st.lists(st.sampled_from(
    ["FROM a", "COPY", "COPY a.pt", 'COPY ["a.pt"', "COPY <<EOF /x", "EOF",
     "ADD . .", "\\", "ARG A=$A", "COPY ${A} x", "#"]
), max_size=9).map("\n".join))  # fmt: skip
def test_any_dockerfile_is_scanned_and_any_layout_is_one_of_the_kinds(text) -> None:
    scan(text)
    try:
        layout = find({"serve/Dockerfile": text, "handler.py": text})
    except LayoutError:
        return
    assert layout.kind in KINDS
