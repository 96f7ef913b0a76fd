"""Real TorchServe in a container without a network, asked from our client container by exec."""

from __future__ import annotations

import functools
import shutil
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import docker
import pytest

from pytest_dockerlab import paths
from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.errors import EngineUnavailable
from pytest_dockerlab.serve.base import Line, Readiness, ServeOptions, server
from pytest_dockerlab.serve.http import ExecHttpClient, HttpRequest

pytestmark = [pytest.mark.engine, pytest.mark.images]

CLIENT = "dockerlab/client:latest"
TORCHSERVE = "dockerlab/standin-torchserve:latest"
MAIN = ("torchserve", "--start", "--foreground", "--ts-config", "config.properties", "--model-store", "model-store")


@pytest.fixture(scope="module")
def engine() -> Iterator[DockerEngine]:
    try:
        engine = DockerEngine()
    except EngineUnavailable as error:
        pytest.skip(str(error))
    with engine:
        for name in (CLIENT, TORCHSERVE):
            if engine.image(name) is None:
                pytest.skip(f"{name} is not on this engine; `dockerlab images build` makes it")
        yield engine


@pytest.fixture(scope="module")
def run_id() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture(scope="module")
def api(engine: DockerEngine, run_id: str) -> Iterator[docker.DockerClient]:
    client = docker.from_env(timeout=120)
    try:
        yield client
    finally:
        for thing in engine.owned(run_id):
            engine.remove_owned(thing)
        client.close()


# Trains nothing: it makes weights that tell the digits of the pool apart a little, fast, in the image's own torch. What
# matters here is the server; `grade` is tested with a real training run.
WEIGHTS = """
import sys, torch
sys.path.insert(0, "/w")
from model import Net
import numpy as np
data = np.load("/w/digits.npz")
x = torch.from_numpy(data["x"]).float().div(255).unsqueeze(1)
y = torch.from_numpy(data["y"]).long()
torch.manual_seed(0); torch.set_num_threads(2)
net = Net(); net.train()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for epoch in range(40):
    opt.zero_grad()
    shifted = torch.roll(x, shifts=(int(torch.randint(-2, 3, ())), int(torch.randint(-2, 3, ()))), dims=(2, 3))
    loss = torch.nn.functional.nll_loss(net(shifted), y); loss.backward(); opt.step()
torch.save(net.state_dict(), "/w/mnist_cnn.pt")
"""


@pytest.fixture(scope="module")
def folder(api: docker.DockerClient, run_id: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A serving context of the reference solution with weights that were really fitted."""
    import numpy as np

    folder = tmp_path_factory.mktemp("serve")
    for path in paths.bundled("assignments", "mnist", "solution", "serve").iterdir():
        if path.is_file():
            shutil.copy(path, folder)
    digits = load_digits()
    np.savez(folder / "digits.npz", x=np.stack([d.pixels for d in digits]), y=np.array([d.label for d in digits]))
    (folder / "weights.py").write_text(WEIGHTS)
    folder.chmod(0o777)
    api.containers.run(
        TORCHSERVE,
        ["python3", "/w/weights.py"],
        entrypoint=[],
        remove=True,
        user="0",
        network_mode="none",
        labels={"dockerlab.run": run_id},
        volumes={str(folder): {"bind": "/w", "mode": "rw"}},
    )
    (folder / "digits.npz").unlink()
    return folder


@dataclass
class Running:
    line: Line
    container: Any
    client: str
    started: float


@pytest.fixture
def serve(
    engine: DockerEngine, api: docker.DockerClient, run_id: str, folder: Path
) -> Iterator[Callable[..., Running]]:
    made: list[str] = []

    def start(script: str, **options: Any) -> Running:
        """Start TorchServe's image with a shell script in a folder that holds the solution's serving files."""
        labels = {"dockerlab.run": run_id}
        client = api.containers.create(CLIENT, ["sleep", "300"], network_mode="none", labels=labels, init=True)
        made.append(client.id)
        client.start()
        container = api.containers.create(
            TORCHSERVE,
            ["sh", "-c", "mkdir -p model-store && cp /w/*.* . && " + script],
            entrypoint=[],
            network_mode=f"container:{client.id}",
            labels=labels,
            init=True,
            volumes={str(folder): {"bind": "/w", "mode": "ro"}},
            **options,
        )
        made.append(container.id)
        started = time.monotonic()
        container.start()

        def alive() -> bool:
            container.reload()
            return container.status == "running"

        line = Line(
            client=ExecHttpClient(functools.partial(engine.exec, client.id)),
            log_tail=lambda: container.logs(tail=400).decode("utf-8", "replace"),
            alive=alive,
        )
        return Running(line, container, client.id, started)

    yield start
    for container in reversed(made):
        engine.remove(container)


ARCHIVE = (
    "torch-model-archiver --model-name mnist --version 1.0 --model-file model.py --serialized-file mnist_cnn.pt "
    "--handler handler.py --export-path model-store"
)
NAIVE = f"{ARCHIVE} && exec {' '.join(MAIN)} --models mnist=mnist.mar"


def opened(running: Running, seconds: float = 60, **options: Any) -> Readiness:
    canary = load_digits()[0].png
    found = server("torchserve").open(running.line, ServeOptions(**options), canary, Deadline.after(seconds))
    print(found.reason, found.detail, f"{found.seconds} s")
    return found


def test_ready_by_a_canary_and_right_for_the_digits(serve) -> None:
    running = serve(NAIVE)
    found = opened(running)
    assert found.ready, found
    assert found.models == ("mnist",)
    assert "Healthy" in found.answers["ping"]
    asker = found.askers[0]
    digits = load_digits()
    requests = [asker.make(digit.png) for digit in digits]
    began = time.monotonic()
    answers = running.line.client.send(requests, Deadline.after(60), concurrency=4)
    print(f"{len(answers)} answers in {time.monotonic() - began:.2f} s, slowest {max(a.ms for a in answers):.0f} ms")
    got = [asker.read(answer).digit for answer in answers]
    assert sum(a == digit.label for a, digit in zip(got, digits, strict=True)) >= 90


def test_registers_synchronously_what_is_not_loaded(serve) -> None:
    running = serve(f"{ARCHIVE} && exec {' '.join(MAIN)}")
    found = opened(running, archive="mnist.mar")
    assert found.ready, found
    assert found.models == ("mnist",)
    print(f"start to canary {time.monotonic() - running.started:.2f} s")


@pytest.mark.parametrize(
    ("script", "reason", "says"),
    [
        (f"sed -i 's/^import torch/import nowhere/' handler.py; {NAIVE}",
         "import_error", "No module named 'nowhere'"),
        (f"sed -i 's/Linear(64, 10)/Linear(64, 11)/' model.py; {NAIVE}", "state_dict", "size mismatch for fc2"),
        (f"sed -i 's/.convert(.L.)/.nope()/' handler.py; {NAIVE}", "handler_error", "AttributeError: nope"),
        (f"sed -i /disable_token/d config.properties; {NAIVE}", "token_auth", "token"),
        (NAIVE.replace("mnist=mnist.mar", "digits=mnist.mar"), "model_name", "digits"),
        (f"exec {' '.join(MAIN)}", "no_model", "without any model"),
        (NAIVE.replace("mnist=mnist.mar", "mnist=other.mar"), "archive_missing", "other.mar"),
        (f"sed -i 's#0.0.0.0:8080#127.0.0.1:8080#' config.properties; {NAIVE}", "localhost_only", "127.0.0.1"),
        (f"sed -i 's#0.0.0.0:8080#0.0.0.0:9090#' config.properties; {NAIVE}", "other_port", "9090"),
        (f"mkdir /tmp/b; ln -s /usr/bin/python3 /tmp/b/python3; {ARCHIVE}; "
         f"PATH=/tmp/b:/usr/local/bin {' '.join(MAIN)}", "java_missing", "Java"),
        (f"python3 -m http.server 8081 >/dev/null 2>&1 & sleep 1; {NAIVE}", "port_taken", "8081"),
        (f"{' '.join(MAIN)} --no-such-option", "bad_option", "no-such-option"),
        ("exit 3", "exited", "ended"),
        ("exec tail -f /dev/null", "not_listening", "nothing listens"),
        (f"sed -i 's/return self.model.*/return [\"hello\"]/' handler.py; {NAIVE}", "unreadable", "hello"),
    ],
    ids=lambda value: value if isinstance(value, str) and value.islower() and len(value) < 20 else "",
)  # fmt: skip
def test_each_failure_has_its_reason_well_before_the_deadline(serve, script, reason, says) -> None:
    began = time.monotonic()
    found = opened(serve(script), seconds=8 if reason == "not_listening" else 60)
    assert (found.ready, found.reason) == (False, reason), found
    assert says in (found.detail or "")
    assert time.monotonic() - began < 30


def test_the_server_reaches_nothing_and_the_client_sees_its_sockets(serve) -> None:
    running = serve("exec python3 -m http.server 8080 --bind 127.0.0.1")
    [answer] = running.line.client.send([HttpRequest("/", retry_s=5, max_bytes=1000)], Deadline.after(10))
    assert answer.status == 200
    seen = running.line.client.listening(Deadline.after(5), (8080,))
    assert seen.localhost_only(8080)
    assert seen.accepting == (8080,)
    code, _ = running.container.exec_run(
        ["python3", "-c", "import socket; socket.create_connection(('172.17.0.1', 22), 2)"]
    )
    assert code != 0


def test_one_exec_is_fast_and_a_gigabyte_is_cut(serve) -> None:
    script = (
        "import http.server\n"
        "class H(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.send_header('Content-Length', str(1 << 30)); self.end_headers()\n"
        "        while True: self.wfile.write(b'7' * 65536)\n"
        "http.server.HTTPServer(('', 8080), H).serve_forever()\n"
    )
    running = serve(f'exec python3 -c "{script}"')
    request = HttpRequest("/", retry_s=5, max_bytes=100_000)
    [answer] = running.line.client.send([request], Deadline.after(10))
    assert (answer.error, len(answer.body), answer.truncated) == ("too_big", 100_000, True)
    times = []
    for _ in range(5):
        began = time.monotonic()
        running.line.client.send([request], Deadline.after(10))
        times.append(time.monotonic() - began)
    print(f"one exec with one request: {min(times) * 1000:.0f} ms")
    assert min(times) < 2
