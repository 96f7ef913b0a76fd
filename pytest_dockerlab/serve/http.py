"""HTTP to a student's server, sent from inside our client container.

`HttpClient` is what the rest of `serve` speaks to. `ExecHttpClient` runs `client.py` by an engine's exec in a container
that shares its network namespace with the server; `LocalHttpClient` runs the same script here, for tests and for
servers on this machine. What a server does wrong is in the `HttpAnswer`; what our side does wrong is an `InfraError`.
"""

from __future__ import annotations

import base64
import json
import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import InfraError

MAX_JOB = 8 * 1024 * 1024  # bytes of requests in one exec; more are sent in several
MAX_BODIES = 8 * 1024 * 1024  # bytes of answers in one exec
MAX_OUTPUT = 16 * 1024 * 1024  # the same in base64, with headers
START_S = 5.0  # the client's own start, the engine's exec included, on a busy machine


@dataclass(frozen=True)
class HttpRequest:
    """One request to the server. The time limit is for the whole exchange, not for each read."""

    path: str = "/"
    method: str = "GET"
    port: int = 8080
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    timeout_s: float = 10.0
    max_bytes: int = 65536
    id: str = ""
    retry_s: float = 0.0  # ask again for so long, inside the container, while the outcome is one of `retry_on`
    retry_on: tuple[str, ...] = ("refused",)  # error codes, or statuses as text


@dataclass(frozen=True)
class HttpAnswer:
    """What came back. `error` is a code of `client.py` or `None`; `status` is `None` where no answer was understood."""

    id: str = ""
    status: int | None = None
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""
    ms: float | None = None
    error: str | None = None
    detail: str = ""
    truncated: bool = False

    @property
    def ok(self) -> bool:
        """Whether a whole answer came, with a status of 200 to 299."""
        return self.error is None and self.status is not None and 200 <= self.status < 300

    @property
    def outcome(self) -> str:
        """Return the error code, or the status as text."""
        return self.error or str(self.status)

    def header(self, name: str) -> str | None:
        """Return the first header of that name."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), None)

    @property
    def content_type(self) -> str:
        """Return the media type without its parameters, in lower case."""
        return (self.header("content-type") or "").partition(";")[0].strip().lower()

    @property
    def redirect(self) -> str | None:
        """Return where the server points elsewhere; redirects are never followed."""
        return self.header("location") if self.status in (301, 302, 303, 307, 308) else None

    def text(self, limit: int = 400) -> str:
        """Return the start of the body for a person: any byte is accepted, control codes are made visible."""
        shown = self.body[: limit * 4].decode("utf-8", errors="replace")
        clean = "".join(c if c.isprintable() or c in "\n\t" else f"\\x{ord(c):02x}" for c in shown)
        return clean if len(clean) <= limit and not self.truncated else clean[: limit - 1] + "…"

    def json(self) -> Any:
        """Return the body as JSON, or `None` where it isn't any."""
        try:
            return json.loads(self.body)
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Listening:
    """The TCP sockets that listen in the server's network namespace."""

    sockets: tuple[tuple[str, int], ...] = ()  # (address, port)
    readable: bool = True  # false where the kernel's table cannot be read; then `sockets` says nothing
    accepting: tuple[int, ...] = ()  # of the ports that were asked for, those that take a connection

    def addresses(self, port: int) -> tuple[str, ...]:
        """Return the addresses on which `port` listens."""
        return tuple(address for address, number in self.sockets if number == port)

    def localhost_only(self, port: int) -> bool:
        """Whether `port` listens, and only where nothing outside the container can reach it."""
        here = self.addresses(port)
        return bool(here) and all(address.startswith("127.") or address == "::1" for address in here)

    def shown(self) -> tuple[str, ...]:
        """Return `address:port`, for facts and messages."""
        return tuple(f"[{address}]:{port}" if ":" in address else f"{address}:{port}" for address, port in self.sockets)


class HttpClient(Protocol):
    """Sends requests to the server of one submission."""

    def send(self, requests: Sequence[HttpRequest], deadline: Deadline, *, concurrency: int = 1) -> list[HttpAnswer]:
        """Return an answer for each request, in order; after the deadline the error is `not_sent`."""

    def listening(self, deadline: Deadline, ports: Sequence[int] = ()) -> Listening:
        """Return what listens in the server's network namespace."""


class ExecOutcome(Protocol):
    """What an engine's exec returns (`engine.base.ExecResult`)."""

    @property
    def exit_code(self) -> int | None: ...
    @property
    def stdout(self) -> bytes: ...
    @property
    def stderr(self) -> bytes: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def timed_out(self) -> bool: ...


# argv, stdin, deadline, max_output: `functools.partial(engine.exec, client_container)` is one.
Exec = Callable[[tuple[str, ...], bytes, Deadline, int], ExecOutcome]


@cache
def client_source() -> str:
    """Return the source of `client.py`, which is handed to the Python inside the client container."""
    return Path(__file__).with_name("client.py").read_text("utf-8")


def _batches(requests: Sequence[HttpRequest]) -> Iterator[list[HttpRequest]]:
    """Split so that no job is over its bounds, in what is sent and in what may come back."""
    batch: list[HttpRequest] = []
    out = back = 0
    for request in requests:
        more_out, more_back = len(request.body) + 1024, request.max_bytes
        if batch and (out + more_out > MAX_JOB or back + more_back > MAX_BODIES):
            yield batch
            batch, out, back = [], 0, 0
        batch.append(request)
        out, back = out + more_out, back + more_back
    if batch:
        yield batch


def _wire(request: HttpRequest, budget_s: float) -> dict[str, Any]:
    return {
        "id": request.id,
        "method": request.method,
        "path": request.path,
        "port": request.port,
        "headers": [list(pair) for pair in request.headers],
        "body_b64": base64.b64encode(request.body).decode("ascii"),
        "timeout_s": min(request.timeout_s, budget_s),
        "max_bytes": request.max_bytes,
        "retry_s": min(request.retry_s, budget_s),
        "retry_on": list(request.retry_on),
    }


def _answer(raw: Mapping[str, Any], request: HttpRequest) -> HttpAnswer:
    return HttpAnswer(
        id=request.id,
        status=raw.get("status"),
        headers=tuple((str(name), str(value)) for name, value in raw.get("headers") or ()),
        body=base64.b64decode(raw.get("body_b64") or ""),
        ms=raw.get("ms"),
        error=raw.get("error"),
        detail=str(raw.get("detail") or ""),
        truncated=bool(raw.get("truncated")),
    )


@dataclass(frozen=True)
class ExecHttpClient:
    """The client of `client.py`, run by `run`: in our container, or anywhere else."""

    run: Exec
    python: tuple[str, ...] = ("python3", "-I", "-S", "-c")  # no site, no user folder: 20 ms less, and nothing but ours

    def send(self, requests: Sequence[HttpRequest], deadline: Deadline, *, concurrency: int = 1) -> list[HttpAnswer]:
        """Send the requests, `concurrency` at a time. Never later than the deadline, plus the exec's own start."""
        answers: list[HttpAnswer] = []
        for batch in _batches(requests):
            budget_s = deadline.remaining_s
            if budget_s <= 0:
                answers += [HttpAnswer(id=request.id, error="not_sent", detail="no time left") for request in batch]
                continue
            job = {
                "op": "http",
                "requests": [_wire(request, budget_s) for request in batch],
                "concurrency": concurrency,
                "budget_s": budget_s,
                "max_total": MAX_BODIES,
            }
            raw = self._job(job, budget_s).get("answers")
            if not isinstance(raw, list) or len(raw) != len(batch):
                raise InfraError("The HTTP client in our container answered with something else than its answers.")
            answers += [_answer(one, request) for one, request in zip(raw, batch, strict=True)]
        return answers

    def listening(self, deadline: Deadline, ports: Sequence[int] = ()) -> Listening:
        """Return what listens in the network namespace of the container."""
        raw = self._job({"op": "probe", "ports": list(ports)}, max(1.0, min(len(ports) + 1.0, deadline.remaining_s)))
        return Listening(
            sockets=tuple((str(address), int(port)) for address, port in raw.get("listening") or ()),
            readable=bool(raw.get("readable")),
            accepting=tuple(int(port) for port in raw.get("open") or ()),
        )

    def _job(self, job: Mapping[str, Any], budget_s: float) -> dict[str, Any]:
        """Run one job. The exec gets a little longer than the job, whose own limit is the one that should end it."""
        data = json.dumps(job).encode("ascii")
        argv = (*self.python, client_source())
        result = self.run(argv, b"%d\n%b" % (len(data), data), Deadline.after(budget_s + START_S), MAX_OUTPUT)
        why = result.stderr[-300:].decode("utf-8", errors="replace").strip()
        if result.timed_out or result.truncated:
            what = "did not end in time" if result.timed_out else "wrote more than it may"
            raise InfraError(f"The HTTP client in our container {what}. {why}".strip())
        try:
            answer = json.loads(result.stdout)
        except ValueError:
            answer = None
        if result.exit_code != 0 or not isinstance(answer, dict):
            raise InfraError(
                f"The HTTP client in our container failed with status {result.exit_code}: {why or 'no output'}",
                fix="Rebuild our images with `dockerlab images build`.",
            )
        return answer


@dataclass(frozen=True)
class _Ran:
    exit_code: int | None
    stdout: bytes
    stderr: bytes = b""
    truncated: bool = False
    timed_out: bool = False


def run_here(argv: tuple[str, ...], stdin: bytes, deadline: Deadline, max_output: int) -> ExecOutcome:
    """Run a command on this machine, with the shape of an engine's exec."""
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, timeout=deadline.remaining_s, check=False)
    except subprocess.TimeoutExpired as expired:
        return _Ran(None, expired.stdout or b"", expired.stderr or b"", timed_out=True)
    return _Ran(done.returncode, done.stdout[:max_output], done.stderr, truncated=len(done.stdout) > max_output)


@dataclass(frozen=True)
class LocalHttpClient(ExecHttpClient):
    """The same script on this machine: for unit tests, and for a server that runs here."""

    run: Exec = field(default=run_here)
    python: tuple[str, ...] = (sys.executable, "-I", "-S", "-c")


def multipart(name: str, filename: str, data: bytes, content_type: str = "image/png") -> tuple[str, bytes]:
    """Return the content type and the body of a form with one file, as `curl -F name=@file` sends it."""
    boundary = "dockerlab-" + secrets.token_hex(12)
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
        f"Content-Type: {content_type}\r\n\r\n"
    )
    return f"multipart/form-data; boundary={boundary}", head.encode() + data + f"\r\n--{boundary}--\r\n".encode()
