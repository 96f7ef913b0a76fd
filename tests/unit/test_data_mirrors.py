"""MNIST on the host: all of it from mirrors: real HTTP on 127.0.0.1, made-up images."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from pytest_dockerlab.data import idx, mirrors, mnist
from pytest_dockerlab.data.cli import data as data_group
from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.data.mnist import ensure_mnist, find_mnist
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import InfraError

TRAIN, TEST, DIGITS = 300, 60, 3  # of the made-up "full" set; so many of its training images are fixture digits


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own, and no mirror but those that a test starts."""
    monkeypatch.setenv("DOCKERLAB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv(mirrors.MIRRORS_VARIABLE, "http://127.0.0.1:9/")  # discard: nothing listens there
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "cache" / "data" / "mnist"


@dataclass
class Mirror:
    """A web server and what it was asked; `mode` says how it behaves."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    mode: str = "normal"  # normal, missing, wrong, endless, cut, no-range, silent
    cuts: int = 1

    def answer(self, request: http.server.BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append((request.path, wanted))
        body = self.files.get(request.path.removeprefix("/"))
        if body is None or self.mode == "missing":
            request.send_error(404)
            return
        if self.mode == "silent":
            time.sleep(3)
            return
        if self.mode == "wrong":
            body = bytes(len(body))
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.mode != "no-range" else 0
        request.send_response(206 if start else 200)
        if self.mode == "endless":
            request.end_headers()
            for _ in range(10_000):
                request.wfile.write(bytes(65536))
            return
        request.send_header("Content-Length", str(len(body) - start))
        request.end_headers()
        end = len(body)
        if self.mode in ("cut", "no-range") and "train-images" in request.path and self.cuts:
            self.cuts -= 1
            end = len(body) // 2
        request.wfile.write(body[start:end])


@pytest.fixture(scope="session")
def made_up() -> dict[str, bytes]:
    """The four files of a small made-up MNIST, with some of the fixture digits among its training images."""
    random = np.random.default_rng(7)
    train = random.integers(0, 256, (TRAIN, 28, 28), dtype=np.uint8)
    train[10 : 10 + DIGITS] = [digit.pixels for digit in load_digits()[:DIGITS]]
    test = random.integers(0, 256, (TEST, 28, 28), dtype=np.uint8)
    labels = random.integers(0, 10, TRAIN + TEST, dtype=np.uint8)
    return {
        "train-images-idx3-ubyte": b"\x00\x00\x08\x03" + _sizes(TRAIN, 28, 28) + train.tobytes(),
        "train-labels-idx1-ubyte": b"\x00\x00\x08\x01" + _sizes(TRAIN) + labels[:TRAIN].tobytes(),
        "t10k-images-idx3-ubyte": b"\x00\x00\x08\x03" + _sizes(TEST, 28, 28) + test.tobytes(),
        "t10k-labels-idx1-ubyte": b"\x00\x00\x08\x01" + _sizes(TEST) + labels[TRAIN:].tobytes(),
    }


def _sizes(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(4, "big") for number in numbers)


@pytest.fixture
def start_mirror(made_up: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Return a function that starts a mirror and adds it to the list of mirrors."""
    packed = {name: gzip.compress(content, mtime=0) for name, content in made_up.items()}
    remotes = {
        name: mirrors.Remote(len(content), hashlib.sha256(content).hexdigest(), len(made_up[name]))
        for name, content in packed.items()
    }
    monkeypatch.setattr(mirrors, "FILES", remotes)
    monkeypatch.setattr(mirrors, "PROBE_S", 1.0)
    servers: list[http.server.ThreadingHTTPServer] = []
    urls: list[str] = []

    def start(mode: str = "normal") -> Mirror:
        mirror = Mirror(files={f"{name}.gz": content for name, content in packed.items()}, mode=mode)

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                try:
                    mirror.answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def log_message(self, *args: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        servers.append(server)
        mirror.url = f"http://127.0.0.1:{server.server_port}/"
        urls.append(mirror.url)
        monkeypatch.setenv(mirrors.MIRRORS_VARIABLE, ", ".join(urls))
        return mirror

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def read(found: mnist.DataSet) -> dict[str, idx.Pixels]:
    raw = found.path / "MNIST" / "raw"
    return {
        name: (idx.parse_images if "images" in name else idx.parse_labels)((raw / name).read_bytes())
        for name in mnist.NAMES
    }


def test_full_comes_from_a_mirror_without_the_fixture_digits(
    start_mirror, made_up: dict[str, bytes], cache: Path
) -> None:
    mirror = start_mirror()
    found = ensure_mnist("full", lambda _line: None)
    assert (found.source, found.train, found.test) == ("full", TRAIN - DIGITS, TEST)
    whole = idx.parse_images(made_up["train-images-idx3-ubyte"])
    arrays = read(found)
    assert np.array_equal(arrays["train-images-idx3-ubyte"], np.delete(whole, range(10, 10 + DIGITS), axis=0))
    labels = idx.parse_labels(made_up["train-labels-idx1-ubyte"])
    assert np.array_equal(arrays["train-labels-idx1-ubyte"], np.delete(labels, range(10, 10 + DIGITS)))
    assert [path for path, _range in mirror.asked] == [f"/{name}.gz" for name in mirrors.FILES]
    assert mirror.url in json.loads((found.path / "manifest.json").read_text())["provenance"]
    assert not (cache / "downloads").exists()


@pytest.mark.parametrize("mode", ["missing", "wrong", "endless"])
def test_a_bad_mirror_is_passed_over(start_mirror, mode: str) -> None:
    start_mirror(mode)
    good = start_mirror()
    assert ensure_mnist("full", lambda _line: None).train == TRAIN - DIGITS
    assert good.asked


def test_a_download_that_was_cut_goes_on_where_it_was(start_mirror) -> None:
    mirror = start_mirror("cut")
    ensure_mnist("full", lambda _line: None)
    half = len(mirror.files["train-images-idx3-ubyte.gz"]) // 2
    asked = [wanted for path, wanted in mirror.asked if "train-images" in path]
    assert asked == [None, f"bytes={half}-"]


def test_a_mirror_that_ignores_ranges_is_read_from_the_start(start_mirror) -> None:
    start_mirror("no-range")
    assert ensure_mnist("full", lambda _line: None).test == TEST


def test_what_a_broken_run_loaded_is_not_loaded_again(start_mirror, cache: Path) -> None:
    mirror = start_mirror()
    kept = cache / "downloads"
    kept.mkdir(parents=True)
    (kept / "train-images-idx3-ubyte.gz.part").write_bytes(mirror.files["train-images-idx3-ubyte.gz"])
    ensure_mnist("full", lambda _line: None)
    assert not [path for path, _range in mirror.asked if "train-images" in path]


def test_no_mirror_is_our_fault_and_says_a_way_out(start_mirror) -> None:
    start_mirror("missing")
    with pytest.raises(InfraError, match="could not be downloaded") as caught:
        ensure_mnist("full", lambda _line: None)
    assert "--source subset" in (caught.value.fix or "")
    assert find_mnist() is None


def test_a_mirror_that_is_silent_ends_with_the_deadline(start_mirror) -> None:
    start_mirror("silent")
    begun = time.monotonic()
    with pytest.raises(InfraError, match="not done within 1 s"):
        ensure_mnist("full", lambda _line: None, deadline=Deadline.after(1.0))
    assert time.monotonic() - begun < 10


def test_auto_takes_all_of_it_where_a_mirror_answers(start_mirror) -> None:
    start_mirror("missing")
    good = start_mirror()
    said: list[str] = []
    assert ensure_mnist(say=said.append).source == "full"
    assert mirrors.host(good.url) in said[0]


def test_auto_takes_the_subset_where_none_does(start_mirror) -> None:
    start_mirror("wrong")
    said: list[str] = []
    assert ensure_mnist(say=said.append).source == "subset"
    assert "no mirror answers" in said[0]


def test_auto_takes_the_subset_where_a_mirror_breaks_down(start_mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    mirror = start_mirror()
    smallest = min(mirrors.FILES, key=lambda name: mirrors.FILES[name].bytes)
    mirror.files = {f"{smallest}.gz": mirror.files[f"{smallest}.gz"]}
    said: list[str] = []
    assert ensure_mnist(say=said.append).source == "subset"
    assert any("could not be downloaded" in line for line in said)


def test_auto_does_not_wait_for_a_mirror_that_hangs(start_mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as hung:  # accepts, and says nothing ever
        monkeypatch.setenv(mirrors.MIRRORS_VARIABLE, f"http://127.0.0.1:{hung.getsockname()[1]}")
        begun = time.monotonic()
        assert mirrors.answering(mirrors.mirrors(), Deadline.after(0.5)) is None
        assert time.monotonic() - begun < 5


def test_the_public_mirrors_are_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(mirrors.MIRRORS_VARIABLE)
    assert mirrors.mirrors() == mirrors.MIRRORS
    assert all(url.startswith("https://") and url.endswith("/") for url in mirrors.MIRRORS)
    assert {name: remote.unpacked_bytes for name, remote in mirrors.FILES.items()} == {
        "train-images-idx3-ubyte": 16 + 60_000 * 784,
        "train-labels-idx1-ubyte": 8 + 60_000,
        "t10k-images-idx3-ubyte": 16 + 10_000 * 784,
        "t10k-labels-idx1-ubyte": 8 + 10_000,
    }


def test_an_outage_ends_with_ten_and_no_traceback(start_mirror) -> None:
    start_mirror("missing")
    done = CliRunner().invoke(data_group, ["fetch", "mnist", "--source", "full"])
    assert done.exit_code == 10
    assert done.output.count("error: MNIST could not be downloaded") == 1
    assert "Traceback" not in done.output
