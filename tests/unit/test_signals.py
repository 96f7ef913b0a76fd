"""SIGTERM and SIGHUP unwind as Ctrl-C does; a second signal ends at once; what was before comes back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from pytest_dockerlab.engine.signals import SIGNALS, Terminated, orderly_termination

PROGRAM = """
    import sys, time
    from pytest_dockerlab.engine.signals import orderly_termination
    try:
        with orderly_termination():
            try:
                print("ready", flush=True)
                time.sleep(60)
            finally:
                print("unwinding", flush=True)
                time.sleep({cleanup_s})
                print("unwound", flush=True)
    except KeyboardInterrupt as error:
        print(type(error).__name__, flush=True)
        sys.exit(2)
"""


def start(cleanup_s: float, **more: object) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(PROGRAM.format(cleanup_s=cleanup_s))],
        stdout=subprocess.PIPE,
        text=True,
        **more,  # type: ignore[call-overload]
    )
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("sign", SIGNALS, ids=lambda sign: sign.name)
def test_every_finally_runs(sign: signal.Signals) -> None:
    process = start(0)
    process.send_signal(sign)
    output, _ = process.communicate(timeout=20)
    assert output.split() == ["unwinding", "unwound", "Terminated"]
    assert process.returncode == 2


def test_the_same_signal_twice_in_a_row_is_one_wish() -> None:
    process = start(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.stdout is not None
    assert process.stdout.readline() == "unwinding\n"
    process.send_signal(signal.SIGTERM)  # as `timeout` does
    output, _ = process.communicate(timeout=20)
    assert output.split() == ["unwound", "Terminated"]


def test_a_second_signal_ends_at_once() -> None:
    process = start(60)
    process.send_signal(signal.SIGINT)
    assert process.stdout is not None
    assert process.stdout.readline() == "unwinding\n"
    time.sleep(1.2)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=20)
    assert output == ""
    assert process.returncode == -signal.SIGTERM


def test_what_is_ignored_stays_ignored() -> None:
    process = start(0, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))  # as nohup does
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 2
    assert process.stdout is not None
    process.stdout.close()


def test_the_former_handlers_come_back() -> None:
    before = {sign: signal.getsignal(sign) for sign in SIGNALS}
    with orderly_termination():
        assert signal.getsignal(signal.SIGTERM) != before[signal.SIGTERM]
    assert {sign: signal.getsignal(sign) for sign in SIGNALS} == before
    with pytest.raises(Terminated, match="SIGTERM") as raised, orderly_termination():
        os.kill(os.getpid(), signal.SIGTERM)
    assert raised.value.signum == signal.SIGTERM
    assert {sign: signal.getsignal(sign) for sign in SIGNALS} == before


def test_in_another_thread_nothing_changes() -> None:
    seen: list[object] = []

    def work() -> None:
        with orderly_termination():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]
