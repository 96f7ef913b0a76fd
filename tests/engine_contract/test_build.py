"""Builds, on every engine and with both of Docker's builders."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
from pathlib import Path

import pytest

from pytest_dockerlab.context import tar_of
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import BuildRequest
from pytest_dockerlab.engine.fake import FakeProgram
from pytest_dockerlab.engine.labels import RUN
from pytest_dockerlab.errors import InfraError


def test_a_dockerfile_becomes_an_image(builder):
    tag, outcome, log = builder.build(
        f"FROM {builder.image}\n"
        "WORKDIR /app\n"
        "ENV LESSON=mnist\n"
        "COPY train.py serve/ ./\n"
        'ENTRYPOINT ["sh"]\n'
        'CMD ["train.py", "--epochs", "1"]\n',
        {"train.py": b"print(1)\n", "serve/handler.py": b"pass\n"},
    )
    assert outcome.ok, outcome.error
    assert outcome.error is None
    assert outcome.timed_out is False
    assert outcome.seconds >= 0
    config = builder.engine.image(tag)
    assert config is not None
    assert outcome.image_id == config.image_id
    assert config.workdir == "/app"
    assert config.env["LESSON"] == "mnist"
    assert config.entrypoint == ("sh",)
    assert config.cmd == ("train.py", "--epochs", "1")
    assert any("COPY" in step.name for step in outcome.steps)
    assert any("COPY" in line for line in log)


def test_what_was_copied_is_in_the_image(builder, content_of):
    tag, outcome, _ = builder.build(
        f"FROM {builder.image}\nCOPY train.py /app/\nCOPY train.py /app/other.py\n", {"train.py": b"print(1)\n"}
    )
    assert outcome.ok, outcome.error
    container = builder.create("true", image=tag)
    assert content_of(builder.engine.read(container, "/app/train.py")) == b"print(1)\n"
    assert content_of(builder.engine.read(container, "/app/other.py")) == b"print(1)\n"


def test_our_labels_win_over_the_dockerfiles(builder):
    tag, outcome, _ = builder.build(f"FROM {builder.image}\nLABEL {RUN}=forged course=ml\n")
    assert outcome.ok, outcome.error
    labels = builder.engine.image(tag).labels
    assert labels[RUN] == builder.run_id
    assert labels["course"] == "ml"


def test_a_step_that_fails_is_named(builder):
    builder.says("echo before && exit 3", FakeProgram(output=b"before\n", exit_code=3))
    tag, outcome, log = builder.build(f"FROM {builder.image}\nRUN echo before && exit 3\nRUN echo never\n")
    assert not outcome.ok
    assert outcome.timed_out is False
    assert outcome.image_id is None
    assert "exit 3" in outcome.error
    assert "code: 3" in outcome.error or "status 3" in outcome.error
    assert any("before" in line for line in log)
    assert not any(line.endswith("never") and "echo" not in line for line in log)
    assert builder.engine.image(tag) is None


def test_a_failed_build_leaves_no_container(builder):
    builder.build(f"FROM {builder.image}\nRUN exit 3\n")
    assert [one for one in builder.engine.owned(builder.run_id) if one.kind == "container"] == []


@pytest.mark.podman_lacks("layers")
@pytest.mark.parametrize("end", ["RUN exit 3", "RUN sleep 60", "CMD true"], ids=["failed", "timed out", "built"])
def test_a_build_leaves_no_image_without_a_name(builder, end):
    if builder.fake:
        pytest.skip("all of the fake's images have names")

    def nameless() -> set[str]:
        return {image["Id"] for image in builder.engine._api.images(filters={"dangling": True})}

    before = nameless()
    word = secrets.token_hex(8)  # in no cache, so that the layers are this build's own
    first = f"FROM {builder.image} AS first\nRUN echo {word} > /a\n"
    second = f"FROM {builder.image}\nCOPY --from=first /a /b\nRUN echo {word}\n{end}\n"
    tag, _, _ = builder.build(first + second, within_s=8)
    builder.engine.remove_image(tag)
    assert nameless() - before == set()


def test_a_file_that_is_not_there(builder):
    _, outcome, _ = builder.build(f"FROM {builder.image}\nCOPY trian.py /app/\n", {"train.py": b""})
    assert not outcome.ok
    assert "trian.py" in outcome.error


def test_a_word_that_is_no_instruction(builder):
    _, outcome, _ = builder.build(f"FROM {builder.image}\nRUNN true\n")
    assert not outcome.ok
    assert "RUNN" in outcome.error


def test_the_deadline_stops_the_step(builder, seconds):
    _, outcome, log = builder.build(
        f"FROM {builder.image}\nRUN echo here\nRUN sleep 60\n", within_s=1 if builder.fake else 8
    )
    assert outcome.timed_out
    assert not outcome.ok
    assert seconds() < 30
    assert any("here" in line for line in log)
    assert builder.engine.image(builder.images[-1]) is None


@pytest.mark.podman_lacks("build-stop")
def test_nothing_of_the_step_runs_on_after_the_deadline(builder):
    if builder.fake or not Path("/proc/self/cmdline").exists():
        pytest.skip("no processes of an engine to look at")
    seconds = str(10_000 + secrets.randbelow(10_000))  # a command that nobody else runs
    _, outcome, _ = builder.build(f"FROM {builder.image}\nRUN sleep {seconds}\n", within_s=6)
    assert outcome.timed_out
    left = []
    for _ in Deadline.after(10).poll(0.5):
        left = [pid for pid, argv in processes() if argv[:2] == ["sleep", seconds]]
        if not left:
            break
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == []


def processes():
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            yield int(entry.parent.name), entry.read_text(errors="replace").split("\0")


def test_a_base_image_is_replaced(builder):
    before = builder.engine.image("course.invalid/base:1")
    _, outcome, _ = builder.build(
        "FROM course.invalid/base:1\nRUN true\n", replaced={"course.invalid/base:1": builder.image}
    )
    assert outcome.ok, outcome.error
    assert before is None
    assert builder.engine.image("course.invalid/base:1") is None


def test_a_base_image_in_a_second_stage_is_replaced(builder):
    _, outcome, _ = builder.build(
        f"FROM course.invalid/base:1 AS maker\nWORKDIR /made\nCOPY a.txt .\n"
        f"FROM {builder.image}\nCOPY --from=maker /made/a.txt /a.txt\n",
        {"a.txt": b"a"},
        replaced={"course.invalid/base:1": builder.image},
    )
    assert outcome.ok, outcome.error


def test_another_name_for_the_dockerfile(builder):
    tag, outcome, _ = builder.build(f"FROM {builder.image}\nWORKDIR /gpu\n", name="docker/Dockerfile.gpu")
    assert outcome.ok, outcome.error
    assert builder.engine.image(tag).workdir == "/gpu"


def test_no_dockerfile(builder):
    context = builder.folder / "context.tar"
    context.write_bytes(tar_of({"readme": b""}))
    request = BuildRequest(context, "Dockerfile", f"dockerlab-contract/none:{builder.run_id}", builder.labels)
    outcome = builder.engine.build(request, Deadline.after(60), lambda _line: None)
    assert not outcome.ok
    assert "Dockerfile" in outcome.error


def test_what_a_step_prints_is_in_the_log(builder):
    builder.says("printf 'one\\ntwo'", FakeProgram(output=b"one\ntwo"))
    # The ENV makes it another build than an earlier one, whose steps would be taken from the cache without a word.
    _, outcome, log = builder.build(f"FROM {builder.image}\nENV RUN={builder.run_id}\nRUN printf 'one\\ntwo'\n")
    assert outcome.ok, outcome.error
    said = [line.split(" ", 1)[-1] if line.startswith("#") else line for line in log]
    assert said.index("one") < said.index("two")


def test_a_built_image_is_ours(builder):
    tag, outcome, _ = builder.build(f"FROM {builder.image}\nWORKDIR /x\n")
    assert outcome.ok
    [image] = [one for one in builder.engine.owned(builder.run_id) if one.kind == "image"]
    assert image.labels[RUN] == builder.run_id
    assert image.name == tag
    builder.engine.remove_owned(image)
    assert builder.engine.image(tag) is None
    builder.engine.remove_owned(image)


@pytest.mark.parametrize(
    "step",
    ["RUN <<EOF\ntouch /made\nEOF", "RUN --mount=type=cache,target=/c touch /made", "COPY --link a /made"],
    ids=lambda step: step[:9],
)
def test_what_only_buildkit_builds(builder, step):
    """Built, or refused by name: never built wrongly."""
    if builder.fake:
        pytest.skip("the fake has no such syntax")
    dockerfile = f"FROM {builder.image}\n{step}\n"
    if builder.name == "classic":
        with pytest.raises(InfraError, match="classic builder"):
            builder.build(dockerfile, {"a": b""})
        return
    refused = ""
    try:
        tag, outcome, _ = builder.build(dockerfile, {"a": b""})
    except InfraError as error:
        refused = error.message
    if refused:
        assert builder.name == "podman"  # 4.3.1 builds `--mount`, later versions more
        assert "Podman" in refused
        return
    assert outcome.ok, outcome.error
    assert builder.engine.read(builder.create("true", image=tag), "/made") is not None
