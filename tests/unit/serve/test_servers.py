"""The servers against fakes of this machine: real HTTP through the real client script, and logs as they were seen."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.serve.base import REASONS, Line, ServeOptions, server, servers
from pytest_dockerlab.serve.causes import prediction_cause, torchserve_cause
from pytest_dockerlab.serve.fixes import FIXES
from pytest_dockerlab.serve.http import Listening, LocalHttpClient
from pytest_dockerlab.serve.triton import tensor, tensor_shape

CANARY = load_digits()[0].png
Route = Callable[[bytes], tuple[int, bytes]]


class Client(LocalHttpClient):
    """The real client; what listens is told, because this machine has sockets of its own."""

    def listening(self, deadline, ports=()) -> Listening:
        return Listening()


@pytest.fixture
def fake() -> Iterator[Callable[[dict[str, Route]], int]]:
    started: list[ThreadingHTTPServer] = []

    def start(routes: dict[str, Route]) -> int:
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                route = routes.get(f"{self.command} {self.path.partition('?')[0]}")
                status, out = route(body) if route else (404, b'{"code": 404, "type": "ResourceNotFoundException"}')
                self.send_response(status)
                self.send_header("Content-Length", str(len(out)))
                self.end_headers()
                self.wfile.write(out)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *args: object) -> None:
                pass

        httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        started.append(httpd)
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        return httpd.server_port

    yield start
    for httpd in started:
        httpd.shutdown()
        httpd.server_close()


def fixed(status: int, body: Any) -> Route:
    return lambda _: (status, body if isinstance(body, bytes) else json.dumps(body).encode())


def line(log: str = "", alive: bool = True) -> Line:
    return Line(Client(), lambda: log, lambda: alive)


def opened(name: str, port: int, log: str = "", seconds: float = 8, alive: bool = True, **options):
    options = {"port": port, "management_port": port, **options}
    return server(name).open(line(log, alive), ServeOptions(**options), CANARY, Deadline.after(seconds))


PING = {"GET /ping": fixed(200, {"status": "Healthy"})}
MODELS = {"GET /models": fixed(200, {"models": [{"modelName": "mnist", "modelUrl": "mnist.mar"}]})}
ERROR_503 = fixed(503, {"code": 503, "type": "InternalServerException", "message": "Prediction failed"})


def test_the_registry_knows_its_servers_and_names_them() -> None:
    assert set(servers()) >= {"torchserve", "triton", "http"}
    assert server("torchserve").port == 8080
    with pytest.raises(UsageError, match="http, torchserve, triton"):
        server("tomcat")


def test_every_reason_has_a_fix() -> None:
    assert set(REASONS) <= set(FIXES)


def test_torchserve_is_ready_once_a_canary_is_read(fake) -> None:
    seen: list[bytes] = []

    def predict(body: bytes) -> tuple[int, bytes]:
        seen.append(body)
        return (503, b'{"message": "no worker"}') if len(seen) < 3 else (200, b"7")

    found = opened("torchserve", fake({**PING, **MODELS, "POST /predictions/mnist": predict}))
    assert found.ready, found
    assert seen == [CANARY] * 3
    assert set(found.answers) == {"ping", "models", "canary"}
    assert found.askers[0].note == "POST /predictions/mnist, raw"


def test_torchserve_registers_where_it_may(fake) -> None:
    asked: list[bool] = []

    def register(_: bytes) -> tuple[int, bytes]:
        asked.append(True)
        return 200, b'{"status": "registered"}'

    routes = {**PING, "GET /models": fixed(200, {"models": []}), "POST /predictions/mnist": fixed(200, 3)}
    assert opened("torchserve", fake(routes)).reason == "no_model"
    found = opened("torchserve", fake({**routes, "POST /models": register}), archive="mnist.mar")
    assert found.ready
    assert asked
    off = fake({**routes, "POST /models": fixed(405, {"code": 405, "message": "Requested method is not allowed"})})
    assert opened("torchserve", off, archive="mnist.mar").reason == "model_api_off"
    missing = fake({**routes, "POST /models": fixed(404, {"code": 404, "message": "Model not found at: mnist.mar"})})
    assert opened("torchserve", missing, archive="mnist.mar").reason == "archive_missing"


TOKEN = {"code": 400, "type": "InvalidKeyException", "message": "Token Authorization failed."}


@pytest.mark.parametrize(
    ("routes", "log", "reason", "says"),
    [
        ({"GET /ping": fixed(400, TOKEN)}, "", "token_auth", "token"),
        ({**PING, "GET /models": fixed(200, {"models": [{"modelName": "digits"}]})}, "", "model_name", "digits"),
        ({**PING, **MODELS, "POST /predictions/mnist": ERROR_503}, "x MODEL_LOG - ValueError: bad shape\n",
         "handler_error", "ValueError: bad shape"),
        ({**PING, **MODELS, "POST /predictions/mnist": fixed(200, b"<!DOCTYPE html><title>Hi</title>")},
         "", "html", "Hi"),
        ({**PING, **MODELS, "POST /predictions/mnist": fixed(200, b"[" + b"1," * 90000 + b"1]")}, "", "too_big", "cut"),
        ({**PING, **MODELS, "POST /predictions/mnist": fixed(200, {"cat": 0.9, "dog": 0.1})}, "", "unreadable", "cat"),
        ({**PING, **MODELS, "POST /predictions/mnist": fixed(302, b"")}, "", "bad_answer", "302"),
        ({**PING, **MODELS}, "", "bad_answer", "404"),
    ],
)  # fmt: skip
def test_torchserve_is_not_ready_and_says_why(fake, routes, log, reason, says) -> None:
    found = opened("torchserve", fake(routes), log, seconds=5)
    assert (found.ready, found.reason) == (False, reason), found
    assert says in found.detail


def test_imagenet_names_are_served_and_left_to_the_verdict(fake) -> None:
    names = {"matchstick": 0.4, "hook": 0.3}
    found = opened("torchserve", fake({**PING, **MODELS, "POST /predictions/mnist": fixed(200, names)}))
    assert found.ready
    assert found.askers[0].read is not None


def test_a_container_that_ended_is_not_waited_for() -> None:
    began = time.monotonic()
    found = opened("torchserve", 1, "first\n\x1b[31mlast words\x1b[0m\n", seconds=30, alive=False)
    assert (found.reason, time.monotonic() - began < 5) == ("exited", True)
    assert "last words" in found.detail


def test_a_dead_worker_is_not_waited_for(fake) -> None:
    def hang(_: bytes) -> tuple[int, bytes]:
        time.sleep(20)
        return 200, b"7"

    began = time.monotonic()
    found = opened("torchserve", fake({**PING, **MODELS, "POST /predictions/mnist": hang}), IMPORT_LOG, seconds=30)
    assert (found.reason, time.monotonic() - began < 8) == ("import_error", True)


IMPORT_LOG = """
2026-11-22T01:32:39,996 [INFO ] W-9000-mnist_1.0-stdout MODEL_LOG -     import nowhere
2026-11-22T01:32:39,996 [INFO ] W-9000-mnist_1.0-stdout MODEL_LOG - ModuleNotFoundError: No module named 'nowhere'
2026-11-22T01:32:39,996 [INFO ] W-9000-mnist_1.0-stdout MODEL_LOG -
2026-11-22T01:32:39,997 [INFO ] W-9000-mnist_1.0-stdout MODEL_LOG - ModuleNotFoundError: No module named 'ts.torch_handler.handler'
2026-11-22T01:32:40,006 [DEBUG] W-9000-mnist_1.0 org.pytorch.serve.wlm.WorkerThread - Backend worker monitoring thread interrupted or backend worker process died., startupTimeout:60sec
"""  # noqa: E501
KEYS_LOG = """
2026-11-22T01:32:48,034 [INFO ] W-9000-mnist_1.0-stdout MODEL_LOG - RuntimeError: Error(s) in loading state_dict for Net:
2026-11-22T01:32:48,034 [INFO ] W-9000-mnist_1.0-stdout MODEL_LOG - \tMissing key(s) in state_dict: "norm1.weight".
2026-11-22T01:32:48,035 [INFO ] W-9000-mnist_1.0-stdout MODEL_LOG - Backend worker process died.
2026-11-22T01:32:48,035 [INFO ] W-9000-mnist_1.0-stdout MODEL_LOG - RuntimeError: 500 - Unknown exception
"""  # noqa: E501


@pytest.mark.parametrize(
    ("log", "reason", "says"),
    [
        (IMPORT_LOG, "import_error", "No module named 'nowhere'"),
        (KEYS_LOG, "state_dict", "norm1.weight"),
        ("x MODEL_LOG - FileNotFoundError: [Errno 2] No such file or directory: 'm.pt'\nWorker died",
         "bad_archive", "m.pt"),
        ("x MODEL_LOG - torch.cuda.OutOfMemoryError: CUDA out of memory.\nWorker died", "oom", "CUDA"),
        ("x - Backend worker process died.\n", "worker_died", "memory"),
        ("java not found, please make sure JAVA_HOME is set properly.", "java_missing", "Java"),
        ("torchserve: error: unrecognized arguments: --disable-token-auth", "bad_option", "--disable-token-auth"),
        ("java.io.IOException: Failed to bind to address: http://0.0.0.0:8080", "port_taken", "8080"),
        ("ModelNotFoundException: Model not found at: other.mar\n", "archive_missing", "other.mar"),
        ("Exception in thread main java.lang.OutOfMemoryError: Java heap space", "oom", "Java"),
        ("all is well\nx MODEL_LOG - ValueError: caught by the handler", None, ""),
        ("", None, ""),
    ],
)  # fmt: skip
def test_causes_in_torchserves_log(log, reason, says) -> None:
    cause = torchserve_cause(log)
    assert (cause.reason if cause else None) == reason
    assert cause is None or says in cause.sentence


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(max_size=60) | st.sampled_from(["x MODEL_LOG - ", "MODEL_LOG - AError: x", "Worker died", "\r"]))
)
def test_any_log(parts) -> None:
    for cause in (torchserve_cause("\n".join(parts)), prediction_cause("\n".join(parts))):
        assert cause is None or (cause.reason in REASONS and len(cause.sentence) < 1000)


def test_any_http_server_by_its_path_and_form(fake) -> None:
    port = fake({"PUT /classify": fixed(200, {"top": {"digit": 4}})})
    options = {"path": "/classify", "method": "PUT", "form": "json:top.digit"}
    assert opened("http", port, **options).ready
    assert opened("http", port, path="/classify", method="PUT", form="integer").reason == "unreadable"
    assert opened("http", port, "ValueError: no model\n", path="/nope").reason == "handler_error"
    assert opened("http", 1, "", seconds=2).reason == "not_listening"


@pytest.mark.parametrize(
    ("send", "mark"),
    [
        ("raw", CANARY),
        ("multipart", b'name="data"; filename="image.png"'),
        ("json", b'{"data": "iVBOR'),
        ("tensor", b"[[["),
    ],
)
def test_a_digit_is_sent_as_the_assignment_says(fake, send, mark) -> None:
    seen: list[bytes] = []

    def predict(body: bytes) -> tuple[int, bytes]:
        seen.append(body)
        return 200, b"7"

    assert opened("http", fake({"POST /predict": predict}), send=send).ready
    assert mark in seen[0]
    with pytest.raises(UsageError, match="raw, multipart"):
        ServeOptions(send="pigeon")


def kserve(shape: list[int], datatype: str = "FP32", output: Any = 7) -> dict[str, Route]:
    return {
        "GET /v2/health/ready": fixed(200, b""),
        "POST /v2/repository/index": fixed(200, [{"name": "mnist", "state": "READY"}]),
        "GET /v2/models/mnist": fixed(200, {"inputs": [{"name": "x", "datatype": datatype, "shape": shape}]}),
        "POST /v2/models/mnist/infer": fixed(200, {"outputs": [{"name": "y", "datatype": "INT64", "data": [output]}]}),
    }


def test_triton_by_its_metadata(fake) -> None:
    sent: list[Any] = []
    routes = kserve([-1, 1, 28, 28])

    def infer(body: bytes) -> tuple[int, bytes]:
        sent.append(json.loads(body)["inputs"][0])
        return 200, b'{"outputs": [{"name": "y", "data": [7]}]}'

    found = opened("triton", fake({**routes, "POST /v2/models/mnist/infer": infer}))
    assert found.ready, found
    assert found.models == ("mnist",)
    assert [asker.note.rpartition(", ")[2] for asker in found.askers] == ["(x/255-0.1307)/0.3081", "x/255", "x"]
    assert (sent[0]["name"], sent[0]["shape"], len(sent[0]["data"])) == ("x", [1, 1, 28, 28], 784)
    assert min(sent[0]["data"]) == pytest.approx(-0.4242, abs=1e-3)


@pytest.mark.parametrize(
    ("routes", "reason"),
    [
        (kserve([3, 224, 224]), "input_shape"),
        (kserve([-1, 784], "BOOL"), "input_shape"),
        (kserve([-1, 784], output="cat"), "unreadable"),
        ({**kserve([784]), "POST /v2/repository/index": fixed(200, [{"name": "a"}, {"name": "b"}])}, "model_name"),
        ({**kserve([784]), "GET /v2/models/mnist": fixed(400, {"error": "unknown model"})}, "no_model"),
        ({"GET /v2/health/ready": fixed(400, b"")}, "timeout"),
    ],
)
def test_triton_is_not_ready_and_says_why(fake, routes, reason) -> None:
    assert opened("triton", fake(routes), seconds=4).reason == reason


@pytest.mark.parametrize(
    ("shape", "filled"),
    [
        ([-1, 1, 28, 28], [1, 1, 28, 28]), ([1, 28, 28], [1, 28, 28]), ([28, 28], [28, 28]), ([-1, 784], [1, 784]),
        ([784], [784]), ([-1, -1, -1, -1], [1, 1, 28, 28]), ([-1, 28, 28, 1], [1, 28, 28, 1]),
        ([-1, 3, 28, 28], [1, 3, 28, 28]),
        ([-1, -1], [1, 784]), ([-1, 1, -1, -1], [1, 1, 28, 28]), ([3, 224, 224], None), ([], None), ("x", None),
        ([0, 784], None),
        ([True, 784], None), ([-1, 10], None), ([1] * 9, None),
    ],
)  # fmt: skip
def test_shapes_that_a_digit_fits(shape, filled) -> None:
    assert tensor_shape(shape) == filled


def test_channels_are_copies_and_integers_stay_what_they_are() -> None:
    grey = tensor(CANARY, [1, 28, 28], "UINT8", "raw")
    assert tensor(CANARY, [1, 3, 28, 28], "UINT8", "raw") == grey * 3
    assert tensor(CANARY, [1, 28, 28, 3], "UINT8", "raw")[:6] == [grey[0]] * 3 + [grey[1]] * 3
    assert max(tensor(CANARY, [784], "FP32", "unit")) <= 1
