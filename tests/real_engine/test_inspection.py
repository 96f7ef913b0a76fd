"""The reader in real containers: what it may reach, where it runs, and what a student's own Python can do to it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import pytest

from pytest_dockerlab import artifact as fetching
from pytest_dockerlab import sandbox
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.labels import new_run_id
from pytest_dockerlab.facts import Artifact
from pytest_dockerlab.images import names
from pytest_dockerlab.inspection import kind_of
from pytest_dockerlab.observer import Silent
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.stages import inspect
from pytest_dockerlab.stages.context import RunContext
from pytest_dockerlab.store import RunStore
from pytest_dockerlab.submission import Submission, SubmissionFile

pytestmark = [pytest.mark.engine, pytest.mark.images, pytest.mark.usefixtures("lab_images")]
SAMPLES = Path(__file__).parents[1] / "samples" / "artifacts"


@pytest.fixture
def context(tmp_path: Path):
    with DockerEngine() as engine:
        made = RunContext(
            submission=Submission(tmp_path, "student", SubmissionFile(), "ab" * 32),
            assignment=Assignment.load("mnist"),
            settings=Settings(submission=tmp_path),
            engine=engine,
            store=RunStore(tmp_path / "run"),
            observer=Silent(),
            run_id=new_run_id(),
            deadline=Deadline.after(300),
            accelerator=SimpleNamespace(close=lambda: None),
        )
        try:
            yield made
        finally:
            made.close()


def local(name: str) -> str:
    """The image that stands behind a name on this machine."""
    return names.resolve(name, *names.user_maps()) or name


def image(context: RunContext, dockerfile: str, tmp_path: Path, **files: bytes) -> str:
    """Build an image that goes with the context."""
    import tarfile

    from pytest_dockerlab import dockerfiles

    folder = tmp_path / "build"
    folder.mkdir(exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    tar = tmp_path / "context.tar"
    with tarfile.open(tar, "w", format=tarfile.GNU_FORMAT) as archive:
        for path in folder.iterdir():
            archive.add(path, path.name)
    bases = context.replace_bases(dockerfiles.parse(dockerfile).bases)
    tag, outcome, _ = context.build_image(
        "test", tar, "Dockerfile", bases, context.deadline.sooner(200), tmp_path / "build.log"
    )
    assert outcome.ok, outcome.error
    return tag


def looked_into(context: RunContext, tag: str, name: str) -> Artifact:
    path = context.store.file("artifact.bin")
    path.write_bytes((SAMPLES / name).read_bytes())
    kind, problem = kind_of(path)
    fact = Artifact(path=f"/lab/{name}", bytes=path.stat().st_size, kind=kind, problem=problem, file=path.name)
    return inspect.run(context, tag, fact, path.name)


def test_pytorch_files_are_read_in_our_own_image(context: RunContext):
    for name in ("state_dict.pt", "state_dict_legacy.pt", "torchscript.pt", "weights.safetensors"):
        details = looked_into(context, local("alpine:3.20"), name).details
        assert (details["read"], details["parameters"], details["where"]) == (True, 119, "our own image")


def test_without_our_image_the_training_image_reads(context: RunContext, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspect.recipes, "get", lambda _name: SimpleNamespace(repository="dockerlab/not-there"))
    details = looked_into(context, local("pytorch/pytorch:latest"), "nan.pt").details
    assert (details["nan"], details["where"]) == (["fc.weight: 24 of 80"], "the training image")
    details = looked_into(context, local("alpine:3.20"), "nan.pt").details
    assert (details["read"], details["why"]) == (False, "no image with Python is there")


def test_keras_without_h5py_is_said_not_to_be_read(context: RunContext):
    details = looked_into(context, local("python:3.11-slim"), "model.keras").details
    assert (details["read"], details["why"]) == (False, "h5py is not in this image")
    assert details["where"] == "the training image"


def test_keras_is_read_with_the_students_h5py(context: RunContext, tmp_path: Path):
    dockerfile = "FROM pytorch/pytorch:latest\nRUN pip3 install --no-deps h5py || pip install --no-deps h5py\n"
    try:
        tag = image(context, dockerfile, tmp_path)
    except AssertionError as error:
        pytest.skip(f"h5py can't be installed here: {error}")
    fact = looked_into(context, tag, "nan.keras")
    assert fact.details["nan"] == ["layers/dense/vars/0: 1 of 12"]
    assert looked_into(context, tag, "model.h5").details["parameters"] == 23


CAN = """
import json, os, socket, sys
def tried(what):
    try:
        what()
        return "could"
    except OSError as error:
        return type(error).__name__
sys.stdin.buffer.read()
print(json.dumps({"read": True, "why": " ".join([
    "root=" + tried(lambda: open("/lab-was-here", "w")),
    "tmp=" + tried(lambda: open("/tmp/x", "w")),
    "full=" + tried(lambda: open("/tmp/y", "wb").write(bytes(1 << 28))),
    "net=" + ",".join(name for _, name in socket.if_nameindex()),
    "out=" + tried(lambda: socket.create_connection(("192.0.2.1", 80), 2)),
    "uid=%d" % os.getuid(),
])}))
"""


def test_the_container_reaches_nothing(context: RunContext, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(inspect.inspection, "BOOT", CAN)
    details = looked_into(context, local("alpine:3.20"), "state_dict.pt").details
    assert details["why"] == "root=OSError tmp=could full=OSError net=lo out=OSError uid=65534"


def test_the_spec_has_no_network_no_mounts_and_a_read_only_root(context: RunContext):
    spec = inspect.container_spec(context, "student", "python3", 1000)
    assert (spec.network, spec.read_only, spec.mounts, spec.cap_add) == ("none", True, (), ())
    assert (spec.cap_drop, spec.security_opt, spec.user) == (("ALL",), ("no-new-privileges",), "65534:65534")
    assert spec.env["NVIDIA_VISIBLE_DEVICES"] == "void"
    assert dataclasses.replace(spec, memory_bytes=0, tmpfs={}, env={}, entrypoint=None, command=None, init=False) == (
        dataclasses.replace(
            sandbox.client("student", context.labels("inspect"), inspect.BUDGET_S),
            memory_bytes=0, tmpfs={}, env={}, entrypoint=None, command=None, init=False,
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("python", "why"),
    [
        (
            "while :; do echo yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy; done",
            "the reader wrote more than is taken",
        ),
        ('cat >/dev/null; echo \'{"read": true, "parameters": "many"}\'', "what the reader said can't be understood"),
        ("sleep 60", "not done within 5 s"),
        ("exit 3", None),
    ],
    ids=["endless", "liar", "sleeper", "quitter"],
)
def test_a_python_of_the_students_own_gets_nowhere(
    context: RunContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, python: str, why: str | None
):
    monkeypatch.setattr(inspect, "BUDGET_S", 5.0)
    script = f'#!/bin/sh\ncase "$*" in *time.sleep*) exec sleep 100;; esac\n{python}\n'
    tag = image(
        context,
        "FROM alpine:3.20\nCOPY python3 /bin/python3\nRUN chmod +x /bin/python3\n",
        tmp_path,
        python3=script.encode(),
    )
    details = looked_into(context, tag, "model.keras").details  # of a kind that only the student's image could read
    assert details["read"] is False
    if why:
        assert details["why"] == why
    # What plain Python reads is not asked of it.
    assert looked_into(context, tag, "state_dict.pt").details["parameters"] == 119


def test_a_model_in_a_volume_and_a_savedmodel_folder(context: RunContext, tmp_path: Path):
    import io
    import tarfile

    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        archive.add(SAMPLES / "savedmodel", "exported")
    tag = image(
        context,
        "FROM alpine:3.20\nWORKDIR /lab\nCOPY model.bin /out/old.pt\nCOPY model.bin packed.tar ./\nVOLUME /out\n"
        'CMD ["sh", "-c", "cp model.bin /out/model.pt && tar xf packed.tar"]\n',
        tmp_path,
        **{"model.bin": (SAMPLES / "state_dict.pt").read_bytes(), "packed.tar": packed.getvalue()},
    )
    config, engine = context.image(tag), context.engine
    limits = context.assignment.spec.limits
    container = context.create(sandbox.training(tag, config, limits, context.labels("train")))
    unused = context.create(sandbox.probe(tag, context.labels("probe")))
    assert engine.mounts(container) == ["/out"]
    assert engine.start(container) is None
    while engine.state(container).running:
        pass
    target = context.store.file("artifact.bin")
    run, before = context.files(container, 1 << 30), context.files(unused, 1 << 30)
    found = fetching.collect(run, before, config, ("*.pt",), limits.artifact, target)
    states = {one.path: one.state for one in found.candidates}
    assert (found.path, found.state, states["/out/old.pt"]) == ("/out/model.pt", "new", "other")
    found = fetching.collect(
        context.files(container, 1 << 30),
        context.files(unused, 1 << 30),
        config,
        ("saved_model.pb",),
        limits.artifact,
        target,
    )
    assert (found.path, found.kind) == ("/lab/exported", "savedmodel")
    fact = inspect.run(context, tag, found, target.name)
    assert (fact.details["parameters"], fact.problem) == (46, None)
