"""Run pytest in a child that the submission has no influence on, and show what it says as it comes.

| what a repository could bring | why it takes no part |
| --- | --- |
| `conftest.py` | `--dockerlab` sets `noconftest`; rootdir and confcutdir are the assignment's folder |
| `pytest.ini`, `pyproject.toml`, `tox.ini`, `setup.cfg` | `-c` names a file of ours, in a folder of ours |
| `sitecustomize.py`, `usercustomize.py`, `.pth`, modules named like ours | `python -I`, and another working folder |
| entry points of installed plugins | `PYTEST_DISABLE_PLUGIN_AUTOLOAD`; ours are named with `-p` |
| `PYTEST_ADDOPTS`, `PYTEST_PLUGINS`, `PYTHON*`, `.env` | the environment is an allow-list, and nothing reads `.env` |

What can't be mended here: `dockerlab` itself has to be started with a PYTHONPATH that leads into no submission.

`-I` and not `-P`: the latter came with Python 3.11, and `-I` also ignores `PYTHON*` and the user's site-packages.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from pytest_dockerlab import paths
from pytest_dockerlab.deadline import Deadline

MAX_LINE = 1 << 16
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
PATIENCE = 3  # so many wishes to end, then SIGKILL; the helper of `engine.guard` cleans up behind it
INI = "[pytest]\naddopts =\n"

# What a program needs to run here at all, to find the engine, to reach a network, and what is ours to pass on.
_SYSTEM = ("PATH", "LANG", "LANGUAGE", "TZ", "USER", "LOGNAME", "TMPDIR", "XDG_RUNTIME_DIR", "LD_LIBRARY_PATH")
_SCREEN = ("TERM", "COLUMNS", "LINES")
_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSH_AUTH_SOCK")
_OURS = ("DOCKERLAB_LOCKS", "DOCKERLAB_MNIST_MIRRORS", "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES")
NAMES = frozenset(_SYSTEM + _SCREEN + _TRUST + _OURS)
PROXIES = frozenset({"http_proxy", "https_proxy", "no_proxy", "all_proxy", "ftp_proxy"})
PREFIXES = ("LC_", "DOCKER_", "BUILDX_", "BUILDKIT_")
AT_HOME = (".docker", ".colima")  # where the engine's address and the registries' credentials are kept


@dataclass(frozen=True)
class Handed:
    """What goes through the pipe. `plugins` are files of Python code that only a Python caller can name: tests do."""

    secret: str = field(default="", repr=False)
    digits: str | None = None
    commit: str | None = None
    exclude: tuple[str, ...] = ()
    replay: str | None = None
    hidden: bool = False  # the digits are
    quiet: bool = False  # who reads the log may not see them
    plugins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ended:
    """How the child ended. `status` is negative for a signal; `asked` is the signal that was passed on to it."""

    status: int
    asked: int | None = None
    timed_out: bool = False


def search_path(outer: Mapping[str, str], submission: Path) -> str:
    """Return PATH without what the submission could fill: relative entries, and folders of its own."""
    root = submission.resolve()
    kept = [
        entry
        for entry in outer.get("PATH", os.defpath).split(os.pathsep)
        if Path(entry).is_absolute() and not Path(entry).resolve().is_relative_to(root)
    ]
    return os.pathsep.join(kept) or os.defpath


def environment(home: Path, outer: Mapping[str, str], submission: Path) -> dict[str, str]:
    """Return the child's environment: what is named above, and no secret, no `GITHUB_TOKEN`, no `DOCKERLAB_SECRET`."""
    env = {
        name: value
        for name, value in outer.items()
        if name in NAMES or name.lower() in PROXIES or name.startswith(PREFIXES)
    }
    return env | {
        "PATH": search_path(outer, submission),
        "HOME": str(home),
        "DOCKERLAB_CACHE": str(paths.cache_dir()),
        "DOCKERLAB_CONFIG_DIR": str(paths.config_dir()),
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    }


def make_home(folder: Path) -> Path:
    """Make the child's HOME: empty but for links to where the engine's address is kept."""
    home = folder / "home"
    home.mkdir()
    for name in AT_HOME:
        theirs = Path.home() / name
        if theirs.is_dir():
            (home / name).symlink_to(theirs)
    return home


def command(folder: Path, assignment: Path, pipe: int, options: list[str]) -> list[str]:
    """Return the command line; `folder` is ours, and holds the ini file."""
    ini = folder / "pytest.ini"
    ini.write_text(INI)
    return [
        *(sys.executable, "-I", "-B", "-u", "-X", "utf8", "-m", "pytest"),  # -u: what it says is shown as it comes
        *("-c", str(ini), f"--rootdir={assignment}", f"--confcutdir={assignment}", f"--basetemp={folder / 'tmp'}"),
        *("-p", "no:cacheprovider", "-p", "pytest_dockerlab.plugin", "-p", "pytest_dockerlab.classroom.inside"),
        *("--dockerlab", f"--dockerlab-handed={pipe}", "--color=no", *options),
    ]


def run(
    folder: Path,
    assignment: Path,
    submission: Path,
    options: list[str],
    handed: Handed,
    show: Callable[[str], None],
    deadline: Deadline,
    outer: Mapping[str, str],
) -> Ended:
    """Run the child in the empty folder `folder`; each line that it writes goes to `show` as it comes."""
    work = folder / "work"
    work.mkdir()
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(
            command(folder, assignment, reader, options),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=work,
            env=environment(make_home(folder), outer, submission),
            pass_fds=(reader,),
            start_new_session=True,  # Ctrl-C comes to us alone, and is passed on once
        )
    except BaseException:
        os.close(writer)
        raise
    finally:
        os.close(reader)
    with _passed_on(process) as asked, _ended_at(process, deadline) as late:
        with contextlib.suppress(BrokenPipeError), os.fdopen(writer, "wb") as pipe:
            pipe.write(json.dumps(vars(handed)).encode())
        assert process.stdout is not None
        with process.stdout as output:
            while line := output.readline(MAX_LINE):
                show(line.decode("utf-8", "replace").rstrip("\n"))
        status = process.wait()
    return Ended(status, asked[0] if asked else None, bool(late))


@contextlib.contextmanager
def _passed_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Pass signals on to the child, which cleans up and ends; whoever is impatient is heard in the end."""
    asked: list[int] = []

    def hand_on(number: int, _frame: FrameType | None) -> None:
        asked.append(number)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL if len(asked) >= PATIENCE else number)

    main = threading.current_thread() is threading.main_thread()
    former = {number: signal.getsignal(number) for number in SIGNALS} if main else {}
    try:
        for number, was in former.items():
            if was is not signal.SIG_IGN:
                signal.signal(number, hand_on)
        yield asked
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        process.wait()
        raise
    finally:
        for number, was in former.items():
            signal.signal(number, was if was is not None else signal.SIG_DFL)


@contextlib.contextmanager
def _ended_at(process: subprocess.Popen[bytes], deadline: Deadline) -> Iterator[list[bool]]:
    """End the child at the deadline, which is later than its own ones: it is stuck."""
    late: list[bool] = []

    def end() -> None:
        late.append(True)
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()

    timer = threading.Timer(deadline.remaining_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
