"""Run a command in a container with bytes on its stdin: the part of `docker exec -i` that docker-py leaves to us."""

from __future__ import annotations

import contextlib
import select
import socket
import struct
from collections.abc import Iterable, Iterator
from typing import Any

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import ExecResult

STDOUT, STDERR = 1, 2
HEADER = struct.Struct(">BxxxL")  # the engine's multiplexed stream: kind, three zero bytes, length
PIECE = 1 << 16


def run_exec(
    api: Any,
    container: str,
    argv: tuple[str, ...],
    stdin: bytes | Iterable[bytes],
    deadline: Deadline,
    max_output: int,
) -> ExecResult:
    """Run `argv`, send `stdin`, close it, collect what comes back until the end, the deadline or `max_output` bytes."""
    made = api.exec_create(container, list(argv), stdin=True, stdout=True, stderr=True, tty=False)
    wrapped = api.exec_start(made["Id"], socket=True, tty=False)
    connection: socket.socket = getattr(wrapped, "_sock", wrapped)
    streams = {STDOUT: bytearray(), STDERR: bytearray()}
    try:
        pieces = (piece for piece in ((stdin,) if isinstance(stdin, bytes) else stdin) if piece)
        ended, truncated = _talk(connection, pieces, streams, deadline, max_output)
    finally:
        with contextlib.suppress(OSError):
            wrapped.close()
            connection.close()
    code = api.exec_inspect(made["Id"]).get("ExitCode") if ended else None
    return ExecResult(
        exit_code=code,
        stdout=bytes(streams[STDOUT]),
        stderr=bytes(streams[STDERR]),
        truncated=truncated,
        timed_out=not ended and not truncated,
    )


def _talk(
    connection: socket.socket,
    stdin: Iterator[bytes],
    streams: dict[int, bytearray],
    deadline: Deadline,
    max_output: int,
) -> tuple[bool, bool]:
    """Write and read at once, so that neither side waits for the other; `(ended, truncated)`."""
    connection.setblocking(False)
    left = memoryview(next(stdin, b""))
    received = bytearray()
    while not deadline.passed:
        wait_to_write = [connection] if left else []
        readable, writable, _ = select.select([connection], wait_to_write, [], min(1.0, deadline.remaining_s))
        if writable:
            try:
                left = left[connection.send(left[:PIECE]) :]
            except BlockingIOError:
                pass
            except (BrokenPipeError, ConnectionResetError):  # nobody reads any more; what was written still counts
                left, stdin = memoryview(b""), iter(())
            left = left or memoryview(next(stdin, b""))
            if not left:
                with contextlib.suppress(OSError):  # TLS has no half-close; our client also reads a length
                    connection.shutdown(socket.SHUT_WR)
        if readable:
            try:
                data = connection.recv(PIECE)
            except BlockingIOError:
                continue
            except ConnectionResetError:
                return True, False
            if not data:
                return True, False
            received += data
            _demultiplex(received, streams)
            if sum(map(len, streams.values())) > max_output:
                return False, True
    return False, False


def _demultiplex(received: bytearray, streams: dict[int, bytearray]) -> None:
    while len(received) >= HEADER.size:
        kind, length = HEADER.unpack_from(received)
        if len(received) < HEADER.size + length:
            return
        streams.get(kind, bytearray()).extend(received[HEADER.size : HEADER.size + length])
        del received[: HEADER.size + length]
