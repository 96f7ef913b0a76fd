"""The images as an engine runs them. The first test to run builds what is missing: about three minutes, once."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest
from click.testing import CliRunner

from pytest_dockerlab.cli import main
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.connect import connect
from pytest_dockerlab.errors import ImageUnavailable, UsageError
from pytest_dockerlab.images import recipes, registry, standins
from pytest_dockerlab.images.build import build, tag_latest
from pytest_dockerlab.images.names import resolve, user_maps
from pytest_dockerlab.images.recipes import RECIPES, Recipe
from pytest_dockerlab.images.standins import Source

pytestmark = pytest.mark.engine


@pytest.fixture(scope="module")
def client() -> Iterator[docker.DockerClient]:
    client = connect(read_idle_s=120)
    yield client
    client.close()


@pytest.fixture(autouse=True)
def own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKERLAB_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


@pytest.fixture(scope="module")
def tags(client: docker.DockerClient, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCKERLAB_CONFIG_DIR", str(tmp_path_factory.mktemp("config")))
        return standins.ensure([], client, print, Source.STANDINS)


def sh(client: docker.DockerClient, tag: str, script: str, **options: object) -> str:
    """Run a shell script in a container of the image; a status other than 0 raises with what it wrote."""
    output = client.containers.run(tag, ["-c", script], entrypoint="sh", remove=True, stderr=True, **options)
    return output.decode(errors="replace")


def test_every_recipe_has_its_labels_and_both_tags(client: docker.DockerClient, tags: dict[str, str]) -> None:
    assert list(tags) == list(RECIPES)
    for name, tag in tags.items():
        image = client.images.get(tag)
        assert image.labels[recipes.IMAGE_LABEL] == name
        assert image.labels[recipes.STANDIN_LABEL] == ",".join(RECIPES[name].stands_in_for)
        assert image.id == client.images.get(f"{RECIPES[name].repository}:latest").id


def test_a_second_ensure_builds_nothing(client: docker.DockerClient, tags: dict[str, str], own_config: Path) -> None:
    lines: list[str] = []
    assert standins.ensure([], client, lines.append, Source.STANDINS) == tags
    assert not [line for line in lines if "building" in line]
    header, _, entries = (own_config / "standins.toml").read_text().partition("[images]")
    assert "dockerlab images remove" in header
    assert '"pytorch/pytorch:*"' in entries


def test_the_map_leads_from_a_students_from_line_to_a_stand_in(
    client: docker.DockerClient, tags: dict[str, str]
) -> None:
    standins.ensure([], client, print, Source.STANDINS)
    maps = user_maps()
    assert resolve("pytorch/pytorch:2.4.1-cuda12.1-cudnn9-runtime", *maps) == tags["torch"]
    assert resolve("pytorch/torchserve:0.12.0-cpu", *maps) == tags["torchserve"]
    assert resolve("docker.io/library/python:3.11-slim", *maps) == tags["python"]
    assert resolve("nvidia/cuda:12.4.1-runtime-ubuntu22.04", *maps) == tags["cuda"]
    assert resolve("ubuntu", *maps) == tags["base"]
    assert resolve("tensorflow/tensorflow:latest", *maps) is None


@pytest.mark.parametrize("name", ["python", "torch", "torchserve"])
def test_python_and_pip_are_there_by_their_short_names(
    client: docker.DockerClient, tags: dict[str, str], name: str
) -> None:
    output = sh(client, tags[name], "python -V && pip --version && pip list --format=freeze", network_mode="none")
    assert "Python 3.11" in output


def test_a_students_pip_install_works(client: docker.DockerClient, tags: dict[str, str]) -> None:
    ask = "import importlib.metadata as m; print(m.version('enum-compat'))"
    script = f'pip install -q --no-cache-dir enum-compat==0.0.3 && python -c "{ask}"'
    assert "0.0.3" in sh(client, tags["python"], script)


def test_a_students_apt_get_works(client: docker.DockerClient, tags: dict[str, str]) -> None:
    script = (
        "apt-get update -qq && apt-get install -y -qq --no-install-recommends unzip >/dev/null && unzip -v | head -n 1"
    )
    assert "UnZip" in sh(client, tags["base"], script)


@pytest.mark.parametrize("name", ["torch", "cuda", "torchserve"])
def test_torch_and_torchvision_compute(client: docker.DockerClient, tags: dict[str, str], name: str) -> None:
    script = (
        "import torch, torchvision, numpy;"
        "x = torch.from_numpy(numpy.ones((1, 1, 28, 28), dtype='float32'));"
        "print('sum', torchvision.transforms.functional.hflip(torch.nn.functional.relu(x)).sum().item())"
    )
    assert "sum 784.0" in sh(client, tags[name], f'python3 -c "{script}"', network_mode="none")


def test_the_cuda_stand_in_has_no_python_but_all_that_a_student_installs(
    client: docker.DockerClient, tags: dict[str, str]
) -> None:
    output = sh(client, tags["cuda"], "command -v python; pip3 install torch torchvision", network_mode="none")
    assert "Requirement already satisfied: torch in" in output
    assert "Requirement already satisfied: torchvision in" in output
    assert "/python\n" not in output
    assert client.images.get(tags["torch"]).attrs["Config"]["WorkingDir"] == "/workspace"


def test_torchserve_looks_like_the_official_image(client: docker.DockerClient, tags: dict[str, str]) -> None:
    config = client.images.get(tags["torchserve"]).attrs["Config"]
    assert config["User"] == "model-server"
    assert config["WorkingDir"] == "/home/model-server"
    assert config["Entrypoint"] == ["/usr/local/bin/dockerd-entrypoint.sh"]
    assert config["Cmd"] == ["serve"]
    assert {"8080/tcp", "8081/tcp", "8082/tcp"} <= set(config["ExposedPorts"])
    output = sh(
        client,
        tags["torchserve"],
        "torchserve --version && torch-model-archiver --help | head -n 1 && cat config.properties"
        " && touch model-store/x && python -c 'import captum.attr, torchvision'"
        " && test -x /usr/local/bin/dockerd-entrypoint.sh",
        network_mode="none",
    )
    assert "0.12.0" in output
    assert "inference_address=http://0.0.0.0:8080" in output


def test_torchserve_serves_and_its_container_stays(client: docker.DockerClient, tags: dict[str, str]) -> None:
    container = client.containers.run(tags["torchserve"], detach=True, network_mode="none")
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/ping', timeout=5).read())"
    try:
        answer = None
        for _ in Deadline.after(60).poll(0.5):
            answer = container.exec_run(["python", "-c", ask])
            if answer.exit_code == 0:
                break
        assert answer is not None
        assert b"Healthy" in answer.output
        container.reload()
        assert container.status == "running"
    finally:
        container.remove(force=True, v=True)


def test_the_alpine_stand_in_has_a_shell_and_no_python(client: docker.DockerClient, tags: dict[str, str]) -> None:
    output = sh(client, tags["alpine"], "ls -d /bin/sh; echo hi | wc -c; command -v python3 apk || echo none")
    assert output.split() == ["/bin/sh", "3", "none"]


def test_the_client_waits_and_ends_at_once(client: docker.DockerClient, tags: dict[str, str]) -> None:
    container = client.containers.run(tags["client"], detach=True, network_mode="none")
    try:
        answer = container.exec_run(["python3", "-c", "import http.client, json, ssl, base64; print('ok')"])
        assert answer.output.strip() == b"ok"
        container.stop(timeout=30)
        container.reload()
        assert container.attrs["State"]["ExitCode"] == 0  # 137 where SIGTERM was not heard
    finally:
        container.remove(force=True, v=True)


def test_where_a_registry_answers_the_real_images_take_over(
    client: docker.DockerClient, tags: dict[str, str], own_config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_config.mkdir()
    (own_config / "standins.toml").write_text("[images]\n")
    real = {name: replace(RECIPES[name], real=tags["python"]) for name in recipes.NEEDED}  # is there: not pulled
    monkeypatch.setattr(recipes, "RECIPES", {**RECIPES, **real})
    monkeypatch.setattr(standins, "registry_answers", lambda _: True)
    ours = None
    try:
        pulled = standins.ensure([], client, print)
        ours = pulled.pop("client")
        assert pulled == {"torch": tags["python"], "torchserve": tags["python"]}
        assert ours.startswith("dockerlab/client:")
        assert ours != tags["client"]
        assert not (own_config / "standins.toml").exists()
    finally:
        tag_latest(client, RECIPES["client"], tags["client"])
        if ours is not None:
            client.images.remove(ours)


def test_a_registry_that_does_not_answer_is_given_up_and_named(client: docker.DockerClient) -> None:
    started = time.monotonic()
    assert registry.registry_answers(client, "localhost:1/nothing:1") is False
    assert time.monotonic() - started < 2 * registry.PROBE_S
    with pytest.raises(ImageUnavailable, match=r"Pulling localhost:1/nothing:1 failed"):
        registry.pull(client, "localhost:1/nothing:1", Deadline.after(60), print)


class Broken(Recipe):
    def files(self) -> dict[str, bytes]:
        return {"Dockerfile": b"ARG BASE\nFROM ${BASE}\nRUN echo this is why && exit 3\n"}


def test_a_failed_build_shows_its_last_lines_and_leaves_no_container(
    client: docker.DockerClient, tags: dict[str, str]
) -> None:
    before = {container.id for container in client.containers.list(all=True)}
    with pytest.raises(ImageUnavailable, match=r"(?s)non-zero code: 3.*\| this is why"):
        build(client, Broken("broken"), "dockerlab/standin-broken:x", tags["alpine"], {}, Deadline.after(60), print)
    ours = {"dockerlab/standin-broken:x", tags["alpine"]}
    left = [c for c in client.containers.list(all=True) if c.id not in before and ours & set(c.image.tags)]
    assert left == []


def test_an_unknown_name_builds_nothing(client: docker.DockerClient) -> None:
    with pytest.raises(UsageError, match="no image recipe"):
        standins.ensure(["torch", "nope"], client, pytest.fail, Source.STANDINS)


def test_the_command_line_shows_all_and_says_what_is_wrong(tags: dict[str, str]) -> None:
    run = CliRunner().invoke
    listed = run(main, ["images", "list", "--json"])
    assert {image["tag"] for image in json.loads(listed.stdout)["images"]} == set(tags.values())
    assert all(tag in run(main, ["images", "list"]).stdout for tag in tags.values())
    wrong = run(main, ["images", "ensure", "--standins", "nope"])
    assert wrong.exit_code == 4
    assert "no image recipe 'nope'" in wrong.stderr
    gone = run(main, ["images", "list"], env={"DOCKER_HOST": "unix:///nowhere.sock"})
    assert gone.exit_code == 10
    assert "No container engine answers" in gone.stderr
