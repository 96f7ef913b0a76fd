"""Our client in a container gets what `requests` gets of the same server, started by testcontainers: a peer's view."""

from __future__ import annotations

import pytest
import requests
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.serve.http import ExecHttpClient, HttpRequest

pytestmark = [pytest.mark.engine, pytest.mark.images]
BUDGET_S = 30.0
# Answers with what it was asked, so that both clients can be compared byte by byte.
SERVER = """
from http.server import BaseHTTPRequestHandler, HTTPServer
class Echo(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.path.encode() + b"|" + self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *args): pass
HTTPServer(("0.0.0.0", 8080), Echo).serve_forever()
"""


def test_both_clients_get_the_same_answer(monkeypatch: pytest.MonkeyPatch):
    # Its reaper has to be pulled, and races (testcontainers-python#746): the context manager removes the container.
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)
    server = DockerContainer("dockerlab/client:latest").with_command(["python3", "-c", SERVER]).with_exposed_ports(8080)
    body = bytes(range(256))
    with server as peer, DockerEngine() as engine:
        container = peer.get_wrapped_container().id
        client = ExecHttpClient(lambda argv, stdin, end, most: engine.exec(container, argv, stdin, end, most))
        deadline = Deadline.after(BUDGET_S)
        request = HttpRequest("/predictions/mnist?x=1", "POST", body=body, retry_s=10.0)

        [ours] = client.send([request], deadline)
        theirs = requests.post(
            f"http://127.0.0.1:{peer.get_exposed_port(8080)}{request.path}", data=body, timeout=BUDGET_S
        )

        assert ours.error is None
        assert (ours.status, ours.body) == (theirs.status_code, theirs.content)
        assert ours.body == request.path.encode() + b"|" + body
        assert client.listening(deadline).addresses(8080) == ("0.0.0.0",)
