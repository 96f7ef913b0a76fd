"""All of MNIST from public mirrors: resumable, checked by sha256, within a deadline."""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import InfraError

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
MIRRORS_VARIABLE = "DOCKERLAB_MNIST_MIRRORS"  # other mirrors, parted by spaces or commas: a campus server, a test


@dataclass(frozen=True)
class Remote:
    """A file as every mirror has it. The sum is the reason why a mirror needs no trust."""

    bytes: int
    sha256: str
    unpacked_bytes: int


FILES = {
    "train-images-idx3-ubyte": Remote(
        9_912_422, "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 47_040_016
    ),
    "train-labels-idx1-ubyte": Remote(
        28_881, "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 60_008
    ),
    "t10k-images-idx3-ubyte": Remote(
        1_648_877, "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 7_840_016
    ),
    "t10k-labels-idx1-ubyte": Remote(4_542, "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 10_008),
}

PROBE_S = 4.0  # how long `auto` waits for a mirror before it takes the subset
CONNECT_S = 5.0
IDLE_S = 20.0  # no byte for so long: this mirror is stuck
ROUNDS = 3  # how often the list of mirrors is gone through, for one file
SAY_EVERY_S = 3.0
_CHUNK = 64 * 1024

Say = Callable[[str], None]


def mirrors() -> tuple[str, ...]:
    """Return the mirrors to try, in order."""
    own = os.environ.get(MIRRORS_VARIABLE, "").replace(",", " ").split()
    return tuple(url.rstrip("/") + "/" for url in own) or MIRRORS


def host(mirror: str) -> str:
    """Return what a mirror is called in messages."""
    return urlsplit(mirror).netloc or mirror


def answering(urls: tuple[str, ...], deadline: Deadline) -> str | None:
    """Return the first mirror that delivers the smallest file, with the right content; `None`: none does in time.

    Each is asked in a thread of its own, which is left behind where it hangs: looking up a name has no timeout.
    """
    answers: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    smallest = min(FILES, key=lambda name: FILES[name].bytes)

    def ask(url: str) -> None:
        try:
            limit = max(0.1, deadline.remaining_s)
            with requests.get(f"{url}{smallest}.gz", timeout=limit, stream=True, headers=_HEADERS) as response:
                data = response.raw.read(FILES[smallest].bytes + 1, decode_content=False)
            answers.put(url if hashlib.sha256(data).hexdigest() == FILES[smallest].sha256 else None)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError, ValueError):
            answers.put(None)

    for url in urls:
        threading.Thread(target=ask, args=(url,), daemon=True, name="dockerlab-mirror").start()
    for _ in urls:
        try:
            found = answers.get(timeout=max(0.01, deadline.remaining_s))
        except queue.Empty:
            return None
        if found:
            return found
    return None


_HEADERS = {"Accept-Encoding": "identity"}  # the bytes as they are stored: they are what the sum is about


class _WrongContent(Exception):
    """What came is not the file."""


def _session() -> requests.Session:
    session = requests.Session()
    busy = (429, 500, 502, 503, 504)
    retry = urllib3.Retry(total=2, connect=1, read=0, backoff_factor=0.5, status_forcelist=busy, raise_on_status=False)
    session.mount("https://", HTTPAdapter(max_retries=retry))
    session.mount("http://", HTTPAdapter(max_retries=retry))
    session.headers.update(_HEADERS)
    return session


def download(folder: Path, urls: tuple[str, ...], say: Say, deadline: Deadline) -> dict[str, bytes]:
    """Return the four files, unpacked. What was loaded stays in `folder`, so that a broken run goes on where it was."""
    folder.mkdir(parents=True, exist_ok=True)
    files: dict[str, bytes] = {}
    with _session() as session:
        for name, remote in FILES.items():
            part = folder / f"{name}.gz.part"
            _one(session, name, remote, part, urls, say, deadline)
            files[name] = _unpack(part.read_bytes(), remote)
    return files


def _one(
    session: requests.Session,
    name: str,
    remote: Remote,
    part: Path,
    urls: tuple[str, ...],
    say: Say,
    deadline: Deadline,
) -> None:
    """Make `part` the whole file, from whichever mirror gives it."""
    problems: list[str] = []
    for _round in range(ROUNDS):
        for url in urls:
            if _complete(part, remote):
                return
            if deadline.passed:
                problems.append(f"not done within {deadline.budget_s:.0f} s")
                break
            try:
                _append(session, f"{url}{name}.gz", remote, part, say, deadline)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                problems.append(f"{host(url)}: {str(error)[:200]}")  # what came so far is kept
            except _WrongContent as error:
                problems.append(f"{host(url)}: {error}")
                part.unlink(missing_ok=True)
    if _complete(part, remote):
        return
    raise InfraError(
        f"MNIST could not be downloaded ({name}.gz; {'; '.join(problems[-len(urls) :]) or 'no mirror to ask'}).",
        fix="Check the network and try again (it goes on where it stopped), name another mirror in "
        f"{MIRRORS_VARIABLE}, or take the small set: dockerlab data fetch mnist --source subset",
    )


def _complete(part: Path, remote: Remote) -> bool:
    if not part.is_file() or part.stat().st_size != remote.bytes:
        return False
    return hashlib.sha256(part.read_bytes()).hexdigest() == remote.sha256


def _append(session: requests.Session, url: str, remote: Remote, part: Path, say: Say, deadline: Deadline) -> None:
    """Ask for what is missing in `part` and add it. The size is bounded whatever the server sends."""
    have = part.stat().st_size if part.is_file() else 0
    if have >= remote.bytes:  # all of it, and the sum was wrong
        have = 0
    timeout = (min(CONNECT_S, max(0.1, deadline.remaining_s)), min(IDLE_S, max(0.1, deadline.remaining_s)))
    headers = {"Range": f"bytes={have}-"} if have else {}
    with session.get(url, stream=True, timeout=timeout, headers=headers) as response:
        response.raise_for_status()
        resumed = response.status_code == requests.codes.partial_content
        have = have if resumed else 0
        name, started, said = part.name.removesuffix(".part"), time.monotonic(), 0.0
        with part.open("ab" if resumed else "wb") as file:
            for chunk in response.raw.stream(_CHUNK, decode_content=False):
                have += len(chunk)
                if have > remote.bytes:
                    raise _WrongContent(f"{name} is larger than {remote.bytes} bytes")
                file.write(chunk)
                if deadline.passed:
                    raise requests.Timeout("out of time")
                if time.monotonic() - max(started, said) > SAY_EVERY_S:
                    said = time.monotonic()
                    say(f"MNIST: {name} {have / 1e6:.1f} of {remote.bytes / 1e6:.1f} MB from {host(url)}")
    if have < remote.bytes:
        raise requests.ConnectionError(f"{name} ended after {have} of {remote.bytes} bytes")
    if not _complete(part, remote):
        raise _WrongContent(f"{name} has another content than expected")


def _unpack(data: bytes, remote: Remote) -> bytes:
    unpacker = zlib.decompressobj(wbits=31)  # gzip
    unpacked = unpacker.decompress(data, remote.unpacked_bytes + 1)
    if len(unpacked) != remote.unpacked_bytes:
        raise InfraError(f"A file of MNIST unpacks to another size than {remote.unpacked_bytes} bytes.")
    return unpacked
