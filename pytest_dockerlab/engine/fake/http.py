"""The fake's side of our HTTP client: what `serve/client.py` would have seen from inside a container."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from typing import Any

from pytest_dockerlab.engine.fake.programs import Reply, Serves

POLL_S = 0.01

# Returns what listens now: `address:port` -> what answers.
Listeners = Callable[[], Mapping[str, Serves]]


def is_client_job(argv: tuple[str, ...], stdin: bytes) -> bool:
    """Whether an exec is a job for `client.py`."""
    return bool(argv) and "python" in argv[0] and b'"op"' in stdin[:400]


def answer_job(stdin: bytes, listeners: Listeners) -> bytes:
    """Do a job of `client.py` against the servers of this engine; the JSON that it would write."""
    _, _, body = stdin.partition(b"\n")
    job = json.loads(body)
    if job["op"] == "probe":
        result: dict[str, Any] = _probe(job, listeners)
    else:
        until = time.monotonic() + float(job["budget_s"])
        result = {"answers": [_exchange(request, until, listeners) for request in job["requests"]]}
    return json.dumps(result).encode() + b"\n"


def _split(listener: str) -> tuple[str, int]:
    address, _, port = listener.rpartition(":")
    return (address.strip("[]") or "0.0.0.0", int(port))  # noqa: S104  # what a fake server is told to listen on


def _probe(job: Mapping[str, Any], listeners: Listeners) -> dict[str, Any]:
    sockets = sorted(_split(name) for name in listeners())
    ports = [port for port in job.get("ports") or [] if any(port == number for _, number in sockets)]
    return {"readable": True, "listening": [list(one) for one in sockets], "open": ports}


def _exchange(request: Mapping[str, Any], until: float, listeners: Listeners) -> dict[str, Any]:
    retry_until = min(until, time.monotonic() + float(request.get("retry_s") or 0))
    while True:
        answer = _once(request, listeners)
        outcome = answer.get("error") or str(answer.get("status"))
        if outcome not in request.get("retry_on", []) or time.monotonic() + POLL_S > retry_until:
            return answer
        time.sleep(POLL_S)


def _once(request: Mapping[str, Any], listeners: Listeners) -> dict[str, Any]:
    handler = next((serves for name, serves in listeners().items() if _split(name)[1] == request["port"]), None)
    if handler is None:
        return {"id": request["id"], "status": None, "headers": [], "error": "refused", "detail": "", "ms": 0.1}
    headers = {str(name).lower(): str(value) for name, value in request["headers"]}
    reply: Reply = handler(request["method"], request["path"], headers, base64.b64decode(request["body_b64"]))
    if reply.error is not None:
        return {"id": request["id"], "status": None, "headers": [], "error": reply.error, "detail": "", "ms": 1.0}
    body = reply.body[: request["max_bytes"]]
    cut = len(body) < len(reply.body)
    return {
        "id": request["id"],
        "status": reply.status,
        "headers": [[name, value] for name, value in reply.headers.items()],
        "body_b64": base64.b64encode(body).decode("ascii"),
        "ms": 1.0,
        "error": "too_big" if cut else None,
        "truncated": cut,
    }
