"""The client script against servers that misbehave, run as it runs in a container: by source, in its own process."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.serve import client as script
from pytest_dockerlab.serve.http import (
    ExecHttpClient,
    HttpAnswer,
    HttpRequest,
    LocalHttpClient,
    _Ran,
    multipart,
)

CLIENT = LocalHttpClient()


@pytest.fixture
def raw_server() -> Iterator[Callable[[Callable[[socket.socket], None]], int]]:
    """Start a server that hands each connection, its request read, to a function; the port."""
    sockets: list[socket.socket] = []

    def start(behave: Callable[[socket.socket], None]) -> int:
        listener = socket.create_server(("127.0.0.1", 0))
        sockets.append(listener)

        def one(connection: socket.socket) -> None:
            with connection:
                try:
                    connection.recv(65536)
                    behave(connection)
                except OSError:
                    pass

        def serve() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=one, args=(connection,), daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        return int(listener.getsockname()[1])

    yield start
    for listener in sockets:
        listener.close()


def ask(port: int, **options: object) -> HttpAnswer:
    values: dict[str, object] = {"timeout_s": 2.0, "id": "x", **options}
    [answer] = CLIENT.send([HttpRequest(port=port, **values)], Deadline.after(10))  # type: ignore[arg-type]
    return answer


def replying(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def endless(head: bytes, piece: bytes, pause_s: float = 0) -> Callable[[socket.socket], None]:
    def behave(connection: socket.socket) -> None:
        connection.sendall(head)
        until = time.monotonic() + 20
        while time.monotonic() < until:
            connection.sendall(piece)
            time.sleep(pause_s)

    return behave


OK = b"HTTP/1.1 200 OK\r\n"

BROKEN = {
    "nothing": (replying(b""), "empty"),
    "garbage": (replying(b"SSH-2.0-OpenSSH\r\n\r\n"), "bad_http"),
    "http 0.9": (replying(b"<html>hello</html>\n"), "bad_http"),
    "hangs up in the head": (replying(OK + b"Content-Le"), "reset"),
    "hangs up in the body": (replying(OK + b"Content-Length: 10\r\n\r\n123"), "incomplete"),
    "length is a word": (replying(OK + b"Content-Length: ten\r\n\r\n123"), "bad_http"),
    "length is negative": (replying(OK + b"Content-Length: -1\r\n\r\n123"), "bad_http"),
    "chunk size is a word": (replying(OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n"), "bad_chunk"),
    "chunk is too long": (replying(OK + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n0\r\n\r\n"), "bad_chunk"),
    "chunks without an end": (replying(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"), "reset"),
    "one long header": (endless(OK + b"X: ", b"a" * 65536), "headers_too_big"),
    "a flood of headers": (endless(OK, b"X: a\r\n" * 1000), "headers_too_big"),
    "interim answers for ever": (endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n"), "bad_http"),
    "a body without end": (endless(OK + b"\r\n", b"a" * 65536), "too_big"),
    "a body of 1 GB": (endless(OK + b"Content-Length: 1073741824\r\n\r\n", b"a" * 65536), "too_big"),
    "chunks of 1 GB": (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n40000000\r\n", b"a" * 65536), "too_big"),
    "chunks of a byte": (endless(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n" * 999), "too_big"),
    "drips its head": (endless(b"HTTP", b"/", 0.3), "timeout"),
    "drips its body": (endless(OK + b"Content-Length: 999\r\n\r\n", b"a", 0.3), "timeout"),
    "says nothing": (lambda _: time.sleep(20), "timeout"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_answer_has_its_own_code_within_the_time_limit(raw_server, name) -> None:
    behave, code = BROKEN[name]
    began = time.monotonic()
    answer = ask(raw_server(behave), max_bytes=10_000)
    assert answer.error == code
    assert not answer.ok
    assert len(answer.body) <= 10_000
    assert answer.truncated is (code == "too_big")
    assert time.monotonic() - began < 4


def test_the_time_limit_is_for_the_whole_exchange_and_not_for_a_read(raw_server) -> None:
    answer = ask(raw_server(endless(OK + b"\r\n", b"a", 0.1)), timeout_s=1.0)
    assert answer.error == "timeout"
    assert answer.status == 200
    assert answer.body.startswith(b"aaa")
    assert answer.ms is not None
    assert 950 < answer.ms < 1900


@pytest.mark.parametrize(
    ("data", "body"),
    [
        (OK + b"Content-Length: 1\r\n\r\n7trailing", b"7"),
        (OK + b"\r\n7\n", b"7\n"),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n1;a=b\r\n7\r\n2\r\n89\r\n0\r\nX: y\r\n\r\n", b"789"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + OK + b"Content-Length: 1\r\n\r\n7", b"7"),
        (b"HTTP/1.0 200\nContent-Length: 1\n\n7", b"7"),
    ],
)
def test_whole_answers_are_read(raw_server, data, body) -> None:
    answer = ask(raw_server(replying(data)))
    assert (answer.error, answer.status, answer.body, answer.ok) == (None, 200, body, True)


def test_a_body_of_exactly_the_bound_is_not_cut(raw_server) -> None:
    answer = ask(raw_server(replying(OK + b"Content-Length: 5\r\n\r\n12345")), max_bytes=5)
    assert (answer.error, answer.body, answer.truncated) == (None, b"12345", False)


def test_a_redirect_is_reported_and_not_followed(raw_server) -> None:
    answer = ask(
        raw_server(replying(b"HTTP/1.1 302 Found\r\nLocation: http://example.org/\r\nContent-Length: 0\r\n\r\n"))
    )
    assert (answer.status, answer.redirect, answer.ok) == (302, "http://example.org/", False)


def test_an_early_refusal_is_read_although_the_body_was_not_taken(raw_server) -> None:
    port = raw_server(replying(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"))
    assert ask(port, method="POST", body=b"x" * 100).status == 413


def test_nothing_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert ask(port).error == "refused"


@pytest.mark.parametrize("path", ["/a b", "/a\r\nX: y", "no-slash", "/é", "/" + "a" * 9000])
def test_a_path_cannot_break_the_framing(path) -> None:
    assert ask(1, path=path).error == "bad_request"


def test_retries_inside_the_container_until_something_listens(raw_server) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    def later() -> None:
        time.sleep(0.5)
        with socket.create_server(("127.0.0.1", port)) as listener:
            for _ in range(2):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(b"HTTP/1.1 503 Busy\r\n\r\n" if _ == 0 else OK + b"\r\nup")

    thread = threading.Thread(target=later, daemon=True)
    thread.start()
    answer = ask(port, retry_s=5.0, retry_on=("refused", "503"))
    thread.join(5)
    assert (answer.status, answer.body) == (200, b"up")


class Echo(BaseHTTPRequestHandler):
    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.1)
        self.send_response(200)
        self.send_header("Content-Type", "Application/JSON; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def echo() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_many_requests_come_back_in_order_and_concurrently(echo) -> None:
    requests = [
        HttpRequest(
            "/predictions/mnist", "PUT", echo, (("Content-Type", "application/octet-stream"),), bytes([n]) * 300
        )
        for n in range(40)
    ]
    began = time.monotonic()
    answers = CLIENT.send(requests, Deadline.after(20), concurrency=8)
    assert [answer.body for answer in answers] == [request.body for request in requests]
    assert {answer.content_type for answer in answers} == {"application/json"}
    assert time.monotonic() - began < 3  # one at a time they take 4 s


def test_what_is_too_much_for_one_job_is_sent_in_several(echo, monkeypatch) -> None:
    monkeypatch.setattr("pytest_dockerlab.serve.http.MAX_JOB", 5000)
    requests = [HttpRequest("/", "PUT", echo, body=b"x" * 2000, id=str(n)) for n in range(4)]
    answers = CLIENT.send(requests, Deadline.after(10))
    assert [(answer.id, len(answer.body)) for answer in answers] == [(str(n), 2000) for n in range(4)]


def test_after_the_deadline_the_rest_is_not_sent(raw_server) -> None:
    port = raw_server(lambda _: time.sleep(20))
    began = time.monotonic()
    answers = CLIENT.send([HttpRequest(port=port, timeout_s=60)] * 3, Deadline.after(1))
    assert [answer.error for answer in answers] == ["timeout", "not_sent", "not_sent"]
    assert time.monotonic() - began < 3


def test_a_passed_deadline_sends_nothing() -> None:
    assert CLIENT.send([HttpRequest()], Deadline.after(0))[0].error == "not_sent"


def test_all_answers_together_are_bounded(raw_server, monkeypatch) -> None:
    monkeypatch.setattr("pytest_dockerlab.serve.http.MAX_BODIES", 25_000)
    port = raw_server(replying(OK + b"Content-Length: 10000\r\n\r\n" + b"a" * 10_000))
    request = HttpRequest(port=port, max_bytes=10_000)
    answers = CLIENT.send([request] * 2, Deadline.after(5))
    assert [answer.error for answer in answers] == [None, None]
    flood = raw_server(replying(OK + b"X: \xff" * 1 + b"\xff" * 1900 + b"\r\n" + b"\r\n"))
    monkeypatch.setattr("pytest_dockerlab.serve.http.MAX_BODIES", 9_000)
    answers = CLIENT.send([HttpRequest(port=flood, max_bytes=10)], Deadline.after(5))
    assert answers[0].headers == ()  # its header alone is over the bound


def test_what_listens_is_told_with_its_addresses() -> None:
    with socket.create_server(("127.0.0.1", 0)) as here, socket.create_server(("0.0.0.0", 0)) as anywhere:
        local, public = here.getsockname()[1], anywhere.getsockname()[1]
        seen = CLIENT.listening(Deadline.after(5), (local, public, 1))
    assert seen.readable
    assert seen.localhost_only(local)
    assert not seen.localhost_only(public)
    assert not seen.localhost_only(1)
    assert set(seen.accepting) == {local, public}
    assert f"127.0.0.1:{local}" in seen.shown()


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("0100007F:1F90", ("127.0.0.1", 8080)),
        ("00000000:0050", ("0.0.0.0", 80)),
        ("00000000000000000000000000000000:1F90", ("::", 8080)),
        ("00000000000000000000000001000000:1F90", ("::1", 8080)),
        ("0000000000000000FFFF00000100007F:1F90", ("127.0.0.1", 8080)),
    ],
)
def test_the_kernels_addresses(text, address, monkeypatch) -> None:
    monkeypatch.setattr(script.sys, "byteorder", "little")
    assert script.parse_address(text) == address


@pytest.mark.parametrize(
    "ran",
    [
        _Ran(None, b"", timed_out=True),
        _Ran(0, b"{}", truncated=True),
        _Ran(127, b"", b"python3: not found"),
        _Ran(0, b"not json"),
        _Ran(0, b'{"answers": []}'),
    ],
)
def test_what_our_own_side_does_wrong_is_infra(ran) -> None:
    client = ExecHttpClient(lambda argv, stdin, deadline, max_output: ran)
    with pytest.raises(InfraError):
        client.send([HttpRequest()], Deadline.after(1))


def test_the_script_refuses_a_job_without_a_length() -> None:
    from pytest_dockerlab.serve.http import client_source, run_here

    for junk in (b"", b"junk\n", b"-5\n", b"99999999999\n"):
        assert run_here((*CLIENT.python, client_source()), junk, Deadline.after(5), 1000).exit_code == 2


def test_text_for_a_person_is_bounded_and_harmless() -> None:
    answer = HttpAnswer(body=b"\x1b[31mred\xff" + b"a" * 1000)
    shown = answer.text(50)
    assert len(shown) <= 50
    assert "\x1b" not in shown


def test_multipart_is_read_back_by_the_standard_library() -> None:
    import email

    kind, body = multipart("data", "0.png", b"\x89PNG\r\n\x00")
    message = email.message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + body)
    [part] = message.get_payload()
    assert part.get_payload(decode=True) == b"\x89PNG\r\n\x00"
    assert part.get_param("name", header="content-disposition") == "data"
