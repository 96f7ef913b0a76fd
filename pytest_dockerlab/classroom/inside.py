"""The child's side of `dockerlab grade`: takes what the parent hands over, and says no more than it may.

What is secret (where the hidden digits are, the secret of the draw) comes through a pipe that is read to its end and
closed before any test is imported: it stands in no environment, in no command line and in no file.
"""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from pytest_dockerlab.classroom.audience import MARK
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.facts import LossPoint
from pytest_dockerlab.observer import Observer
from pytest_dockerlab.store import write_atomic

if TYPE_CHECKING:
    from pytest_dockerlab.session import DockerLabSession

MAX_HANDED = 1 << 20
HIDDEN = pytest.StashKey[tuple[bool, bool]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the number of the pipe."""
    parser.addoption("--dockerlab-handed", type=int, default=None, help="for `dockerlab grade` itself")


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Read the pipe, before anything else is loaded."""
    number = early_config.known_args_namespace.dockerlab_handed
    if number is None:
        return
    with os.fdopen(number, "rb") as pipe:
        handed: dict[str, Any] = json.loads(pipe.read(MAX_HANDED))
    from pytest_dockerlab.session import HANDED

    fields: dict[str, Any] = {
        "secret": handed["secret"],
        "commit": handed["commit"],
        "exclude": frozenset(map(Path, handed["exclude"])),
    }
    if handed["digits"]:
        fields["digits"] = Path(handed["digits"])
    if handed["replay"]:
        fields["replay"] = Path(handed["replay"])
        _no_engine()
    early_config.stash[HANDED] = fields
    early_config.stash[HIDDEN] = (bool(handed["hidden"]), bool(handed["quiet"]))
    for path in handed["plugins"]:
        early_config.pluginmanager.register(_load(Path(path)))


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Keep the judgement of hidden digits out of a student's log."""
    session = _session(config)
    if session is None:
        return
    session.shows_grade = False
    hidden, quiet = config.stash[HIDDEN]
    if hidden and quiet:
        session.progress = cast(Any, Discreet(session.progress))


@pytest.hookimpl(trylast=True)  # the session has opened the run by then, or told why it can't
def pytest_sessionstart(session: pytest.Session) -> None:
    """Mark a run with hidden digits."""
    ours = _session(session.config)
    if ours is not None and session.config.stash[HIDDEN][0]:
        write_atomic(ours.grading.store.file(MARK), b"{}\n")


def _session(config: pytest.Config) -> DockerLabSession | None:
    """Return the plugin's state, where the parent has handed something over."""
    from pytest_dockerlab.session import NAME, DockerLabSession

    found = config.pluginmanager.get_plugin(NAME)
    return found if HIDDEN in config.stash and isinstance(found, DockerLabSession) else None


def _no_engine() -> None:
    """Have whoever asks for an engine fail: what is judged again is judged from what is stored."""
    from pytest_dockerlab import fixtures

    def refuse() -> Any:
        raise InfraError("This fact was not stored, and nothing is run to judge again.", fix="Grade the submission.")

    fixtures.open_engine = refuse


def _load(path: Path) -> object:
    """Import a plugin of the caller's Python code by its file."""
    spec = importlib.util.spec_from_file_location(f"dockerlab_plugin_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Discreet:
    """An observer that says whether the digits came back right, and nothing about which."""

    def __init__(self, inner: Observer) -> None:
        """Wrap another observer."""
        self._inner = inner

    def begin(self, stage: str, detail: str) -> None:
        """Hand on."""
        self._inner.begin(stage, detail)

    def output(self, stage: str, line: str) -> None:
        """Hand on."""
        self._inner.output(stage, line)

    def loss(self, point: LossPoint) -> None:
        """Hand on."""
        self._inner.loss(point)

    def end(self, stage: str, sentence: str, *, ok: bool, seconds: float, reused: bool) -> None:
        """Hand on; of the answers only that they were judged."""
        said = "judged" if stage == "predict" else sentence
        self._inner.end(stage, said, ok=ok, seconds=seconds, reused=reused)

    def note(self, text: str) -> None:
        """Hand on."""
        self._inner.note(text)
