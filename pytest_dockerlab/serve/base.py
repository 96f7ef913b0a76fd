"""What a model server is to the harness: how to tell that it is ready, how to ask it a digit, how to read its answer.

Adding a server is one file: a module of this package with a `SERVER`, whose name `[serve] server` gives. A server does
no I/O of its own: it speaks through the `Line` that it is given, so it runs the same against a container, a process of
this machine, and a fake.
"""

from __future__ import annotations

import base64
import importlib
import json
import pkgutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Protocol

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.serve.answers import EXPECTED, Answer, read_answer
from pytest_dockerlab.serve.causes import Cause, lines_of
from pytest_dockerlab.serve.http import HttpAnswer, HttpClient, HttpRequest, Listening, multipart

# Why a server is not ready. Each is a code for `facts.Serving.reason`; the detail beside it says what was seen.
REASONS = {
    "exited": "the container ended",
    "not_listening": "the container runs and nothing listens in it",
    "other_port": "something listens, on another port",
    "localhost_only": "the port is bound to 127.0.0.1 inside the container",
    "token_auth": "TorchServe asks for a token",
    "no_model": "the server runs without any model",
    "model_name": "the server has models, under other names",
    "model_api_off": "the model has to be registered and the API for that is off",
    "archive_missing": "the archive that is to be loaded is not in the model store",
    "bad_archive": "the archive cannot be read, or lacks a file",
    "import_error": "the handler's imports fail",
    "state_dict": "the weights do not fit the model's class",
    "handler_error": "the handler raises an exception",
    "oom": "the memory is used up",
    "port_taken": "the port is taken inside the container",
    "java_missing": "TorchServe finds no Java",
    "bad_option": "the server refuses its command line",
    "worker_died": "the worker died, and nothing says why",
    "no_worker": "the model has no worker",
    "input_shape": "the model's input is nothing that a digit fits",
    "html": "an HTML page came back",
    "too_big": "the answer is larger than any answer should be",
    "redirect": "the server points elsewhere",
    "bad_answer": "the answer is no HTTP, or an error status",
    "unreadable": "the answer to the canary names no digit",
    "timeout": "no answer in time",
}

TURN_S = 1.5  # how long one exec waits inside the container before the host looks at the container and its log again
SEND = ("raw", "multipart", "json", "tensor")
SILENT = ("refused", "timeout", "reset", "empty", "not_sent")  # the errors of `HttpAnswer` with nothing of an answer


@dataclass(frozen=True)
class ServeOptions:
    """How a submission is served and asked: the assignment's word, and `[serve]` of dockerlab.toml where it may say."""

    port: int | None = None  # None: the server's usual one
    management_port: int | None = None
    model: str | None = "mnist"  # None: whatever single model there is
    archive: str | None = None  # an archive in the model store, to be registered where it isn't loaded
    path: str | None = None
    method: str = "POST"
    send: str = "raw"
    field: str = "data"  # the name of the form's or the JSON's field
    form: str = "auto"
    timeout_s: float = 15.0
    max_bytes: int = 65536

    def __post_init__(self) -> None:
        """Refuse what no server could do."""
        if self.send not in SEND:
            raise UsageError(f"send = {self.send!r} is not one of {', '.join(SEND)}")


@dataclass(frozen=True)
class Line:
    """All that a server is spoken to through."""

    client: HttpClient
    log_tail: Callable[[], str] = lambda: ""  # the end of what the container wrote, bounded by whoever keeps it
    alive: Callable[[], bool] = lambda: True  # whether the container runs


@dataclass(frozen=True)
class Asker:
    """One way to ask for a digit, and to read what comes back."""

    note: str
    make: Callable[[bytes], HttpRequest]  # the bytes of a PNG
    read: Callable[[HttpAnswer], Answer]


@dataclass(frozen=True)
class Readiness:
    """Whether a server answers a canary with a digit, or the code and the sentence for why not."""

    ready: bool
    reason: str | None = None
    detail: str | None = None
    seconds: float = 0.0  # of waiting, from the call on
    models: tuple[str, ...] = ()
    listening: tuple[str, ...] = ()
    answers: dict[str, str] = field(default_factory=dict)  # raw answers, kept as evidence: "ping", "models", "canary"
    askers: tuple[Asker, ...] = ()  # the first is the one to use; the others differ in how the image is normalised


class ModelServer(Protocol):
    """A kind of model server."""

    @property
    def name(self) -> str:
        """Return the name under which assignments and dockerlab.toml know it."""

    @property
    def port(self) -> int:
        """Return the port on which it usually answers predictions."""

    def open(self, line: Line, options: ServeOptions, canary: bytes, deadline: Deadline) -> Readiness:
        """Wait until the canary (the PNG of a digit) is answered with a digit; never longer than the deadline."""

    def explain(self, log: str) -> Cause | None:
        """Return why the server does not serve, where its log tells."""


def server(name: str) -> ModelServer:
    """Return the server of that name; raises `UsageError` that names the known ones."""
    found = servers()
    if name not in found:
        raise UsageError(f"server = {name!r} is not one of {', '.join(sorted(found))}")
    return found[name]


@cache
def servers() -> dict[str, ModelServer]:
    """Return the known servers by name: what the modules of this package call their `SERVER`."""
    package = importlib.import_module(str(__package__))
    modules = [importlib.import_module(f"{__package__}.{info.name}") for info in pkgutil.iter_modules(package.__path__)]
    return {module.SERVER.name: module.SERVER for module in modules if hasattr(module, "SERVER")}


def digit_request(options: ServeOptions, path: str, port: int, png: bytes) -> HttpRequest:
    """Return the request for one digit. `raw` is what `curl -T` sends; a form-encoded type makes TorchServe fail."""
    if options.send == "multipart":
        # The name says nothing: a handler that reads labels from file names has nothing to read.
        content_type, body = multipart(options.field, "image.png", png)
    elif options.send in ("json", "tensor"):
        value: object = base64.b64encode(png).decode("ascii")
        if options.send == "tensor":
            value = [[[round(pixel / 255, 4) for pixel in row] for row in pixels(png)]]
        content_type, body = "application/json", json.dumps({options.field: value}).encode("ascii")
    else:
        content_type, body = "application/octet-stream", png
    return HttpRequest(
        path=path,
        method=options.method,
        port=port,
        headers=(("Content-Type", content_type), ("Accept", "*/*")),
        body=body,
        timeout_s=options.timeout_s,
        max_bytes=options.max_bytes,
    )


def pixels(png: bytes) -> list[list[int]]:
    """Return the 28x28 grey values of a digit of ours."""
    import io

    import numpy as np
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        rows: list[list[int]] = np.asarray(image.convert("L").resize((28, 28))).tolist()
    return rows


def reader(form: str) -> Callable[[HttpAnswer], Answer]:
    """Return what reads an HTTP answer in a form; an error status or a broken answer is no digit, whatever it says."""

    def read(answer: HttpAnswer) -> Answer:
        if answer.error is not None:
            return Answer(None, answer.error, f"{_broken(answer)}; expected {EXPECTED}.")
        meant = read_answer(answer.body, answer.content_type, form)
        if answer.ok:
            return meant
        how = meant.how if meant.how in ("html", "empty") else "error"
        return Answer(None, how, f"The server answers with status {answer.status}: {answer.text(200)}")

    return read


def _broken(answer: HttpAnswer) -> str:
    known = {
        "refused": "Nothing listens on the port",
        "timeout": "No whole answer came in time",
        "reset": "The server hung up before its answer was complete",
        "empty": "The server accepted the connection and hung up without a word",
        "too_big": f"The answer was cut at {len(answer.body)} bytes",
        "incomplete": "The answer ended before its announced length",
        "not_sent": "No time was left to ask",
    }
    return known.get(answer.error or "", f"The answer is no proper HTTP ({answer.error}: {answer.detail})")


def wait_for(
    line: Line,
    request: HttpRequest,
    deadline: Deadline,
    until: Callable[[HttpAnswer], bool],
    hopeless: Callable[[], Cause | None],
) -> tuple[HttpAnswer, Cause | None]:
    """Ask again until an answer is what we wait for; ends early, with the cause, once there is no hope.

    The asking goes on inside the container, so it notices within 50 ms; every `TURN_S` the host looks at the log.
    At the deadline it returns what was last seen of the server: a try that the deadline cut short shows nothing of it.
    """
    patience_s = TURN_S
    last: HttpAnswer | None = None
    while True:
        # Longer from turn to turn: a first prediction can take seconds, and asking anew would queue up behind it.
        [answer] = line.client.send([replace(request, retry_s=TURN_S, timeout_s=patience_s)], deadline)
        patience_s = min(request.timeout_s, patience_s * 2)
        if last is not None and deadline.passed and answer.error in ("timeout", "not_sent"):
            answer = last
        last = answer
        if until(answer):
            return answer, None
        cause = hopeless()
        if cause is None and not line.alive():
            cause = _exited(line)
        if cause is not None or deadline.passed:
            return answer, cause
        time.sleep(min(0.05, deadline.remaining_s))


def judge_canary(answer: HttpAnswer, meant: Answer) -> Cause | None:
    """Return why the answer to a canary shows no server that reads digits, or `None` where it is a right-shaped one.

    ImageNet's names are such a shape: the server serves, and the verdict over the digits names the matter.
    """
    if answer.ok and (meant.digit is not None or meant.how == "imagenet"):
        return None
    if answer.redirect is not None:
        return Cause("redirect", f"The server answers {answer.status} and points to {answer.redirect[:100]!r}.")
    if answer.error in ("timeout", "not_sent"):
        return Cause("timeout", meant.sentence)
    if meant.how in ("html", "too_big"):
        return Cause(meant.how, meant.sentence)
    return Cause("unreadable" if answer.ok else "bad_answer", meant.sentence)


def _exited(line: Line) -> Cause:
    last = next((text.strip() for text in reversed(lines_of(line.log_tail())) if text.strip()), None)
    told = f" Its last line: {last[:200]}" if last else " It wrote nothing."
    return Cause("exited", f"The container ended before the server answered.{told}")


def nothing_there(line: Line, port: int, listening: Listening) -> Cause:
    """Return why no answer came: nothing listens, or something does on another port."""
    if not line.alive():
        return _exited(line)
    if listening.addresses(port):
        return Cause("timeout", f"Port {port} is open and no answer came in time.")
    if listening.sockets:
        seen = ", ".join(listening.shown()[:6])
        return Cause("other_port", f"Nothing listens on port {port}; what listens: {seen}.")
    return Cause("not_listening", f"The container runs, and nothing listens in it, on port {port} or any other.")


def localhost_only(port: int, listening: Listening) -> Cause | None:
    """Return the cause where the port is bound to the container's own loopback only."""
    if not listening.localhost_only(port):
        return None
    seen = ", ".join(listening.addresses(port))
    return Cause(
        "localhost_only",
        f"Port {port} is bound to {seen} inside the container: a published port would accept and hang up.",
    )
