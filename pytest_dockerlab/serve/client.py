"""The client that runs inside our client container: one JSON job in, one JSON result out.

It is handed to `python3 -I -S -c` as source, so it needs nothing in the image but Python 3.9 and its standard library,
and can never be of another version than the harness. The job comes on stdin as a line with its length in bytes and
then that many bytes of JSON, so that it also ends on engines whose exec cannot half-close a connection.

    {"op": "http", "requests": [{"id", "method", "path", "port", "headers", "body_b64", "timeout_s", "max_bytes",
                                 "retry_s", "retry_on"}], "concurrency": 4, "budget_s": 30, "max_total": 8388608}
    {"op": "probe", "ports": [8080]}

What is guaranteed, whatever the server does: a request takes at most `timeout_s` in all (not per read), the whole job
takes at most about `budget_s`, no more than `max_bytes` of a body and 64 KiB of headers are held, a redirect is
reported and never followed, and every request gets a result with either a status or an error code:

refused, timeout, reset (hung up before a whole answer), empty (hung up without a byte), bad_http, headers_too_big,
bad_chunk, incomplete (the body ended early), too_big (the body was cut), bad_request (ours), not_sent (no time left).

`http.client` is not used: its time limit is one per read, so a byte a second keeps it busy for ever.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import sys
import threading
import time
from typing import Any, Dict, List, Optional, Tuple  # noqa: UP035  (Python 3.9 evaluates the aliases below)

MAX_JOB = 64 * 1024 * 1024
MAX_REQUESTS = 2000
MAX_CONCURRENCY = 32
MAX_BODY = 8 * 1024 * 1024
MAX_HEAD = 64 * 1024
MAX_HEADERS = 100
MAX_LISTENING = 256
MAX_INTERIM = 8  # `100 Continue` and its kin, before the answer
POLL_S = 0.05

Result = Dict[str, Any]  # noqa: UP006
Headers = List[Tuple[str, str]]  # noqa: UP006
Timeout = socket.timeout

LOST: Result = {"status": None, "headers": [], "error": "timeout", "detail": "the client gave up"}
NOT_SENT: Result = {"status": None, "headers": [], "error": "not_sent", "detail": "no time left"}
TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,200}\Z")


class Failed(Exception):
    """An exchange failed; `code` is one of the error codes above."""

    def __init__(self, code: str, detail: str = "") -> None:
        """Keep the code and one line of detail."""
        super().__init__(code)
        self.code = code
        self.detail = detail[:200]


class Wire:
    """A socket of which every read and write ends by one deadline."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        """Wrap a connected socket."""
        self.sock = sock
        self.deadline = deadline
        self.buffer = bytearray()
        self.seen = 0
        self.ended = False

    def _arm(self) -> None:
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Failed("timeout", "the time for this request is over")
        self.sock.settimeout(left)

    def send(self, data: bytes) -> None:
        """Send all of `data`, a piece at a time, so that a server that reads nothing cannot outlast the deadline."""
        view = memoryview(data)
        while view:
            self._arm()
            try:
                sent = self.sock.send(view[:65536])
            except Timeout:
                raise Failed("timeout", "the server does not read the request") from None
            except OSError:
                # It may have answered before it had read everything (413, 401): the answer is worth more.
                return
            view = view[sent:]

    def fill(self, most: int = 65536) -> bool:
        """Read once into the buffer; false at the end of the stream."""
        if self.ended:
            return False
        self._arm()
        try:
            data = self.sock.recv(most)
        except Timeout:
            raise Failed("timeout", "no whole answer in time" if self.seen else "no answer in time") from None
        except OSError as error:
            raise Failed("reset", str(error)) from None
        if not data:
            self.ended = True
            return False
        self.seen += len(data)
        self.buffer += data
        return True

    def line(self, most: int) -> bytes:
        """Return one line without its end; raises `headers_too_big` when it is longer than `most`."""
        start = 0
        while True:
            at = self.buffer.find(b"\n", start)
            if at > most or (at < 0 and len(self.buffer) > most):
                raise Failed("headers_too_big", f"a line of more than {most} bytes")
            if at >= 0:
                line = bytes(self.buffer[:at])
                del self.buffer[: at + 1]
                return line[:-1] if line.endswith(b"\r") else line
            start = len(self.buffer)
            if not self.fill():
                raise Failed("reset" if self.seen else "empty", "hung up before the answer was complete")

    def take(self, most: int) -> bytes:
        """Return at least one and at most `most` bytes; nothing at the end of the stream."""
        if not self.buffer and not self.fill(min(65536, most)):
            return b""
        data = bytes(self.buffer[:most])
        del self.buffer[:most]
        return data


def read_head(wire: Wire) -> Tuple[int, Headers]:  # noqa: UP006
    """Return the status and the headers of the final answer; interim answers are skipped."""
    for _ in range(MAX_INTERIM):
        first = wire.line(8192)
        match = re.match(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |$)", first)
        if match is None:
            raise Failed("bad_http", "the first line is " + ascii(first[:80].decode("latin-1")))
        headers: Headers = []
        left = MAX_HEAD
        while True:
            line = wire.line(left)
            left -= len(line) + 2
            if not line:
                break
            if left <= 0 or len(headers) >= MAX_HEADERS:
                raise Failed("headers_too_big", f"more than {MAX_HEADERS} headers or {MAX_HEAD} bytes of them")
            name, colon, value = line.partition(b":")
            if colon and not name.startswith((b" ", b"\t")):
                headers.append((name.decode("latin-1").strip()[:200], value.decode("latin-1").strip()[:2000]))
        status = int(match.group(1))
        if status >= 200:
            return status, headers
    raise Failed("bad_http", "interim answers without end")


def field(headers: Headers, name: str) -> Optional[str]:  # noqa: UP045
    """Return the first header of that name."""
    for key, value in headers:
        if key.lower() == name:
            return value
    return None


def read_exactly(wire: Wire, length: int, body: bytearray, most: int) -> None:
    """Append `length` bytes of the stream to `body`, or fail once `body` is longer than `most`."""
    while length > 0:
        data = wire.take(min(65536, length))
        if not data:
            raise Failed("incomplete", "the body ended early")
        length -= len(data)
        body += data
        if len(body) > most:
            raise Failed("too_big", f"more than {most} bytes")


def read_chunks(wire: Wire, body: bytearray, most: int) -> None:
    """Read a chunked body. Each chunk adds a byte at least, so `most` bounds the framing too."""
    while True:
        line = wire.line(1024)
        size = re.match(rb"\s*([0-9a-fA-F]{1,15})\s*(?:;|\Z)", line)
        if size is None:
            raise Failed("bad_chunk", "the size of a chunk is " + ascii(line[:40].decode("latin-1")))
        length = int(size.group(1), 16)
        if length == 0:
            return  # trailers are of no interest, and the connection is not used again
        read_exactly(wire, length, body, most)
        if wire.line(1024):
            raise Failed("bad_chunk", "a chunk is longer than its size")


def read_body(wire: Wire, method: str, status: int, headers: Headers, body: bytearray, most: int) -> None:
    """Read the body into `body`, which keeps what came when this fails."""
    if method == "HEAD" or status in (204, 304):
        return
    if "chunked" in (field(headers, "transfer-encoding") or "").lower():
        read_chunks(wire, body, most)
        return
    length = field(headers, "content-length")
    if length is None:
        while True:  # until the server hangs up
            data = wire.take(65536)
            if not data:
                return
            body += data
            if len(body) > most:
                raise Failed("too_big", f"more than {most} bytes, and the server goes on")
    if re.match(r"[0-9]{1,18}\Z", length) is None:
        raise Failed("bad_http", "Content-Length is " + ascii(length[:40]))
    read_exactly(wire, int(length), body, most)


def encode(request: Result) -> Tuple[str, bytes]:  # noqa: UP006
    """Return the method and the bytes to send; raises `bad_request` for what would break the framing."""
    method, path = str(request.get("method", "GET")), str(request.get("path", "/"))
    if TOKEN.match(method) is None or re.match(r"/[\x21-\x7e]*\Z", path) is None or len(path) > 8000:
        raise Failed("bad_request", f"{method[:20]!r} {path[:100]!r}")
    body = base64.b64decode(request.get("body_b64") or "")
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{int(request['port'])}", "Connection: close"]
    for name, value in request.get("headers") or []:
        if TOKEN.match(name) is None or re.search(r"[^\t\x20-\x7e\x80-\xff]", value):
            raise Failed("bad_request", f"header {name[:40]!r}")
        lines.append(f"{name}: {value}")
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    return method, "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def connect(port: int, deadline: float) -> socket.socket:
    """Connect to the server: the namespace is shared with it, so it is on the loopback, IPv4 or IPv6."""
    refused = Failed("refused", f"nothing listens on port {port}")
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        left = deadline - time.monotonic()
        if left <= 0:
            raise Failed("timeout", "the time for this request is over")
        try:
            sock = socket.socket(family, socket.SOCK_STREAM)
        except OSError:
            continue  # no IPv6 here
        try:
            sock.settimeout(left)
            sock.connect((host, port))
        except Timeout:
            sock.close()
            raise Failed("timeout", "no connection in time") from None
        except (OSError, OverflowError):
            sock.close()
            continue
        if sock.getsockname() == sock.getpeername():  # on Linux a socket can connect to itself: nothing listens
            sock.close()
            continue
        return sock
    raise refused


def once(request: Result, until: float) -> Result:
    """Make one exchange; never raises."""
    began = time.monotonic()
    deadline = min(until, began + float(request.get("timeout_s", 10)))
    most = max(0, min(MAX_BODY, int(request.get("max_bytes", 65536))))
    body = bytearray()
    result: Result = {"id": request.get("id"), "status": None, "headers": [], "error": None, "detail": ""}
    sock = None
    try:
        method, data = encode(request)
        sock = connect(int(request["port"]), deadline)
        wire = Wire(sock, deadline)
        wire.send(data)
        result["status"], result["headers"] = read_head(wire)
        read_body(wire, method, result["status"], result["headers"], body, most)
    except Failed as failed:
        result["error"], result["detail"] = failed.code, failed.detail
    except Exception as error:  # noqa: BLE001  one broken request must not take the other answers with it
        result["error"], result["detail"] = "bad_http", f"{type(error).__name__}: {error}"[:200]
    finally:
        if sock is not None:
            sock.close()
    result["ms"] = round((time.monotonic() - began) * 1000, 3)
    result["truncated"] = len(body) > most
    result["body"] = bytes(body[:most])
    return result


def exchange(request: Result, until: float) -> Result:
    """Make one exchange, again while the outcome is in `retry_on` and `retry_s` is not over."""
    stop = min(until, time.monotonic() + float(request.get("retry_s", 0)))
    again = {str(item) for item in request.get("retry_on") or ["refused"]}
    tries = 0
    while True:
        result = once(request, until)
        tries += 1
        result["tries"] = tries
        outcome = str(result["error"] or result["status"])
        if outcome not in again or time.monotonic() + POLL_S >= stop:
            return result
        time.sleep(POLL_S)


def http(job: Result) -> Result:
    """Run the requests, `concurrency` at a time; the answers come in the order of the requests."""
    requests = job["requests"][:MAX_REQUESTS]
    until = time.monotonic() + float(job.get("budget_s", 60))
    answers: List[Any] = [None] * len(requests)  # noqa: UP006
    lock = threading.Lock()
    state = {"next": 0, "left": int(job.get("max_total", MAX_BODY))}

    def work() -> None:
        while True:
            with lock:
                index = state["next"]
                state["next"] += 1
            if index >= len(requests):
                return
            if time.monotonic() >= until:
                answers[index] = {**NOT_SENT, "id": requests[index].get("id")}
                continue
            result = exchange(requests[index], until)
            body = result.pop("body")
            with lock:  # all answers together are bounded as well, their headers included
                state["left"] -= len(json.dumps(result["headers"]))
                if state["left"] < 0:
                    result["headers"] = []
                keep = max(0, min(len(body), state["left"]))
                state["left"] -= keep
            if keep < len(body):
                result["truncated"], result["error"] = True, result["error"] or "too_big"
            result["body_b64"] = base64.b64encode(body[:keep]).decode("ascii")
            answers[index] = result

    workers = max(1, min(MAX_CONCURRENCY, int(job.get("concurrency", 1)), len(requests) or 1))
    threads = [threading.Thread(target=work, daemon=True) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.1, until - time.monotonic() + 2))
    for index, request in enumerate(requests):
        if answers[index] is None:
            answers[index] = {**LOST, "id": request.get("id")}
    return {"answers": answers}


def parse_address(text: str) -> Tuple[str, int]:  # noqa: UP006
    """Return the address and port of `0100007F:1F90`, as the kernel writes them: words in the machine's byte order."""
    words, _, port = text.partition(":")
    raw = b"".join(int(words[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(words), 8))
    if len(raw) == 4:
        return socket.inet_ntop(socket.AF_INET, raw), int(port, 16)
    if raw[:12] == b"\0" * 10 + b"\xff\xff":  # how Java binds IPv4 addresses
        return socket.inet_ntop(socket.AF_INET, raw[12:]), int(port, 16)
    return socket.inet_ntop(socket.AF_INET6, raw), int(port, 16)


def probe(job: Result) -> Result:
    """List the TCP sockets that listen in this network namespace, and which of `ports` take a connection."""
    found = set()
    readable = False
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(name) as table:  # noqa: PTH123  (pathlib costs 10 ms of the start)
                readable = True
                for line in table.readlines(4 * 1024 * 1024)[1:]:
                    columns = line.split()
                    if len(columns) > 3 and columns[3] == "0A":
                        found.add(parse_address(columns[1]))
        except (OSError, ValueError):
            continue
    opened = []
    for port in (job.get("ports") or [])[:64]:
        try:
            connect(int(port), time.monotonic() + 1).close()
            opened.append(port)
        except Failed:
            continue
    return {"readable": readable, "listening": sorted(found)[:MAX_LISTENING], "open": opened}


def main() -> int:
    """Read the job, do it, write the result."""
    size = sys.stdin.buffer.readline(32)
    try:
        length = int(size)
    except ValueError:
        length = -1
    if not 0 <= length <= MAX_JOB:
        print(json.dumps({"error": "the job's length is missing or out of bounds"}))
        return 2
    job = json.loads(sys.stdin.buffer.read(length))
    result = probe(job) if job.get("op") == "probe" else http(job)
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()
    return 0


if __name__ == "__main__":
    # Threads that are still inside a read are daemons: they do not hold the process up.
    sys.exit(main())
