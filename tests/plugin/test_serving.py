"""The whole of the bundled MNIST assignment on the fake engine: training, a TorchServe that answers, digits."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.engine.fake import FakeProgram, Reply
from pytest_dockerlab.errors import EngineUnavailable
from pytest_dockerlab.report import schema

SERVE = """FROM pytorch/torchserve:latest
COPY model.pt handler.py /home/model-server/
CMD ["torchserve", "--start"]
"""
START = "torchserve --start"


class TorchServe:
    """A model server that knows the pool of digits by sight: the nearest one is its answer."""

    def __init__(self, digit=None, status=200):
        pool = load_digits()
        self.labels = [one.label for one in pool]
        self.pixels = np.stack([one.pixels.astype(float).ravel() for one in pool])
        self.pixels /= np.linalg.norm(self.pixels, axis=1, keepdims=True)
        self.digit = digit
        self.status = status
        self.asked = []

    def inference(self, method, path, headers, body):
        if path == "/ping":
            return Reply(body=b'{"status": "Healthy"}')
        self.asked.append((method, path, headers))
        if self.status != 200:
            return Reply(
                self.status, b'{"code": 503, "type": "InternalServerException", "message": "Prediction failed"}'
            )
        with Image.open(io.BytesIO(body)) as image:
            seen = np.asarray(image.convert("L"), dtype=float).ravel()
        nearest = self.labels[int(np.argmax(self.pixels @ seen))]
        answer = nearest if self.digit is None else self.digit
        return Reply(body=json.dumps(answer).encode(), headers={"Content-Type": "application/json"})

    def management(self, _method, _path, _headers, _body):
        return Reply(body=json.dumps({"models": [{"modelName": "mnist", "modelUrl": "mnist.mar"}]}).encode())

    def program(self, address="0.0.0.0", **changes):
        serves = {f"{address}:8080": self.inference, f"{address}:8081": self.management}
        return FakeProgram(output=b"Model server started.\n", runs_forever=True, serves=serves, **changes)


@pytest.fixture
def mnist(lab, lab_data):
    lab.engine.add_image("pytorch/torchserve:latest")
    lab.engine.add_image("dockerlab/client:latest")
    lab.write("serve/Dockerfile", SERVE)
    lab.write("serve/handler.py", "class Handler: ...\n")
    lab.assignment_folder = "mnist"
    return lab


@pytest.mark.parametrize("ready_s", [0.0, 0.3])
def test_digits_that_come_back_right(mnist, ready_s):
    served = TorchServe()
    mnist.engine.program(START, served.program(ready_s=ready_s))
    result = mnist.run()
    assert result.ret == 0, result.stdout.str()
    assert mnist.results["score"] == 100
    schema.validate(mnist.results)
    assert len(mnist.results["facts"]["predict"]["items"]) == 50
    assert mnist.engine.containers == {}


def test_the_server_gets_the_model_and_no_label(mnist):
    served = TorchServe()
    seen = {}

    def program(container):
        seen.update(container.files())
        seen["network"] = container.spec.network
        return served.program()

    mnist.engine.program(START, program)
    assert mnist.run().ret == 0
    assert seen["/home/model-server/model.pt"].data.startswith(b"PK")
    assert seen["network"].startswith("container:")
    assert not [name for name in seen if "labels" in name]
    assert all("label" not in str(headers) for _, _, headers in served.asked)


def test_a_server_that_always_says_7(mnist):
    mnist.engine.program(START, TorchServe(digit=7).program())
    result = mnist.run()
    assert result.ret == 1
    assert mnist.outcomes["serve"] == "passed"
    assert mnist.outcomes["predict"] == "failed"
    assert mnist.results["score"] == 80


def test_a_handler_that_raises(mnist):
    mnist.engine.program(START, TorchServe(status=503).program())
    assert mnist.run().ret == 1
    assert mnist.outcomes["serve"] == "failed"
    assert mnist.outcomes["predict"] == "blocked"
    assert mnist.results["facts"]["serve"]["reason"] == "handler_error"


def test_a_server_on_its_own_loopback_only(mnist):
    mnist.engine.program(START, TorchServe().program("127.0.0.1"))
    mnist.run()
    assert mnist.outcomes["serve"] == "failed"
    assert mnist.results["facts"]["serve"]["reason"] == "localhost_only"


def test_a_server_that_ends(mnist):
    mnist.engine.program(START, FakeProgram(output=b"Error: no such option\n", exit_code=2))
    mnist.run()
    assert mnist.outcomes["serve"] == "failed"
    assert mnist.results["facts"]["serve"]["exit_code"] == 2


def test_an_engine_that_goes_away_while_it_serves(mnist):
    mnist.engine.program(START, TorchServe().program())

    def gone(_container, _argv, stdin):
        if b'"op"' in stdin:
            raise EngineUnavailable("The engine went away.")

    mnist.engine.on_exec = gone
    result = mnist.run()
    assert result.ret == 10
    assert mnist.outcomes["serve"] == "infra"
    assert mnist.results["score"] is None
    assert mnist.engine.containers == {}


def test_nothing_that_serves(mnist):
    for path in (mnist.submission / "serve").iterdir():
        path.unlink()
    mnist.run()
    assert mnist.outcomes["artifact"] == "passed"
    assert mnist.outcomes["serve"] == "failed"
