"""A line per stage in the terminal while it runs, with the loss as it falls."""

from __future__ import annotations

import threading
import time

import pytest
from _pytest.capture import CaptureManager

from pytest_dockerlab.facts import LossPoint, Series
from pytest_dockerlab.report.escape import one_line

EVERY_S = 0.2  # how often a line is painted again on a terminal
EVERY_PLAIN_S = 10.0  # how often a loss is printed where lines can't be painted again (CI logs)

BEGINS = {
    "dockerfile": "looking for the Dockerfile",
    "build": "building the image",
    "train": "training",
    "serve": "starting the server",
    "predict": "asking for digits",
}


class PytestProgress:
    """An `Observer` that writes through pytest's terminal, past its capturing."""

    def __init__(self, config: pytest.Config) -> None:
        """Find out whether lines can be painted again."""
        self._config = config
        self._lock = threading.Lock()
        self._stage = ""
        self._first: float | None = None
        self._count = 0
        self._painted = 0.0
        self._open_line = False

    @property
    def _writer(self) -> tuple[object, bool]:
        reporter = self._config.pluginmanager.get_plugin("terminalreporter")
        return reporter, bool(reporter and reporter.isatty)

    def _write(self, text: str, *, again: bool = False, **markup: bool) -> None:
        reporter, live = self._writer
        if reporter is None or self._config.option.verbose < 0:
            return
        capture = self._config.pluginmanager.get_plugin("capturemanager")
        with self._lock:
            writer = reporter._tw  # type: ignore[attr-defined]

            def out() -> None:
                if live and self._open_line:
                    writer.write("\r\x1b[2K")
                elif not self._open_line:
                    reporter.ensure_newline()  # type: ignore[attr-defined]
                if again and live:
                    writer.write(text[: writer.fullwidth - 1], flush=True, **markup)
                else:
                    writer.line(text, **markup)
                self._open_line = again and live

            if isinstance(capture, CaptureManager):
                with capture.global_and_fixture_disabled():
                    out()
            else:
                out()

    def begin(self, stage: str, detail: str) -> None:
        """Show what starts."""
        self._stage, self._first, self._count, self._painted = stage, None, 0, time.monotonic()
        if stage in BEGINS:
            self._write(f"  {stage:<10} {BEGINS[stage]} {detail}".rstrip() + " …", again=True)

    def output(self, stage: str, line: str) -> None:
        """Show the newest line of a build."""
        if time.monotonic() - self._painted >= EVERY_S and self._writer[1]:
            self._painted = time.monotonic()
            self._write(f"  {stage:<10} {one_line(line.strip())}", again=True)

    def loss(self, point: LossPoint) -> None:
        """Show the loss as it falls."""
        if point.series is not Series.TRAIN:
            return
        self._count += 1
        if self._first is None:
            self._first = point.value
        every = EVERY_S if self._writer[1] else EVERY_PLAIN_S
        if time.monotonic() - self._painted >= every:
            self._painted = time.monotonic()
            at = f", {point.at_s:.0f} s" if point.at_s is not None else ""
            self._write(
                f"  train      loss {self._first:.4g} -> {point.value:.4g} ({self._count} readings{at})", again=True
            )

    def end(self, stage: str, sentence: str, *, ok: bool, seconds: float, reused: bool) -> None:
        """Show how it ended."""
        mark = "ok  " if ok else "FAIL"
        spent = "stored" if reused else f"{seconds:.1f} s"
        first_line = one_line(sentence.splitlines()[0] if sentence else "")
        self._write(f"  {stage:<10} {mark} {spent:>8}  {first_line}", green=ok, red=not ok)

    def note(self, text: str) -> None:
        """Show a remark."""
        self._write(f"  note       {one_line(text)}", yellow=True)
