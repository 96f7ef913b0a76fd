"""Why a model server died, read from its log. Pure, bounded, and never raises: the log is a student's.

TorchServe prints what its Python workers write as `… MODEL_LOG - text`. The cause is an exception line in there, and
seldom the last one: "Unknown exception" and "No module named 'ts.torch_handler.handler'" come of another one, before.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MAX_LOG = 256 * 1024
MAX_LINE = 400
MAX_MORE = 3  # lines that continue an exception, e.g. the keys that are missing


@dataclass(frozen=True)
class Cause:
    """A reason code of `serve.base.REASONS`, and one sentence with what was seen."""

    reason: str
    sentence: str


_MODEL_LOG = re.compile(r"\bMODEL_LOG - ?(.*)$")
_EXCEPTION = re.compile(
    r"^(?:[A-Za-z_][A-Za-z0-9_]*\.)*([A-Z][A-Za-z0-9_]*(?:Error|Exception|Interrupt|Exit|Warning|NotFound))(?::\s*(.*))?$"
)
# Exceptions of TorchServe's own machinery: what they report, another one has caused.
_ECHOES = re.compile(
    r"No module named '?ts\.torch_handler|: 500 - |: 507 - |Unknown exception|Backend worker|Expected only one class"
)
_DEATH = re.compile(r"Backend worker (?:process )?died|Load model failed|worker died|Worker died", re.IGNORECASE)

_STATE_DICT = re.compile(r"loading state_dict|state_dict|Missing key|Unexpected key|size mismatch for")
_MEMORY = re.compile(
    r"OutOfMemoryError|MemoryError|out of memory|[Cc]annot allocate memory|can't allocate memory|std::bad_alloc"
)
_ARCHIVE = re.compile(
    r"(?:ModelNotFoundException|Model not found at|FileNotFoundError|No such file or directory|InvalidModelException"
    r"|Model archive|corrupt|Failed to load model: |PytorchStreamReader|UnpicklingError|invalid load key)"
)


def lines_of(log: str) -> list[str]:
    """Return the lines of the end of a log, cut where they are long, without colours and control codes."""
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", log[-MAX_LOG:])
    kept = (line[: MAX_LINE * 2] for line in re.split(r"[\r\n]+", text))
    return ["".join(c if c.isprintable() or c == "\t" else " " for c in line).rstrip() for line in kept]


def exceptions(lines: Sequence[str]) -> list[str]:
    """Return the exceptions that Python printed, each with the lines that continue it, in order."""
    found: list[str] = []
    for index, line in enumerate(lines):
        if not _EXCEPTION.match(line):
            continue
        more = []
        for after in lines[index + 1 : index + 1 + MAX_MORE]:
            if not after.startswith(("\t", "  ")) or after.lstrip().startswith("File "):
                break
            more.append(after.strip())
        found.append(" ".join([line, *more])[:MAX_LINE])
    return found


def kind_of(exception: str) -> str:
    """Return the reason code of an exception line."""
    if _STATE_DICT.search(exception):
        return "state_dict"
    if _MEMORY.search(exception):
        return "oom"
    if re.match(r"(?:ModuleNotFoundError|ImportError)\b", exception):
        return "import_error"
    if _ARCHIVE.search(exception):
        return "bad_archive"
    return "handler_error"


def python_cause(lines: Sequence[str]) -> Cause | None:
    """Return the cause that Python's tracebacks tell, the last one that is no echo of another."""
    told = [one for one in exceptions(lines) if not _ECHOES.search(one)]
    if not told:
        return None
    return Cause(kind_of(told[-1]), f"The log says: {told[-1]}")


def torchserve_cause(log: str) -> Cause | None:
    """Return why TorchServe or its worker does not serve, or `None` where the log shows no trouble."""
    lines = lines_of(log)
    for line in lines:
        if "java not found" in line:
            return Cause("java_missing", "TorchServe finds no Java in the image, and ends with status 0 all the same.")
        if re.search(r"torchserve: error: (?:unrecognized arguments|argument)", line):
            return Cause("bad_option", f"TorchServe refuses its command line: {line[:200]}")
        if "Failed to bind to address" in line or "Address already in use" in line:
            return Cause("port_taken", f"A port of TorchServe is taken inside the container: {line.strip()[:200]}")
        missing = re.search(r"Model not found at: (\S{1,200})", line)
        if missing:
            return Cause("archive_missing", f"The archive {missing.group(1)!r} is not in the model store.")
    if any("java.lang.OutOfMemoryError" in line for line in lines):
        return Cause("oom", "Java ran out of memory: java.lang.OutOfMemoryError.")
    deaths = [index for index, line in enumerate(lines) if _DEATH.search(line)]
    if not deaths:
        return None
    # TorchServe starts a dead worker again and again; each prints the same. The lines after the first death belong to
    # it as well: the worker's last traceback comes after the word "died".
    worker = [match.group(1) for match in map(_MODEL_LOG.search, lines) if match]
    cause = python_cause(worker)
    if cause is not None:
        return cause
    said = [line for line in worker if re.match(r"Failed to load model", line)]
    if said:
        return Cause(kind_of(said[-1]), f"The log says: {said[-1][:MAX_LINE]}")
    failed = next((line for line in lines if "Load model failed" in line), None)
    seen = failed.partition(" - ")[2] if failed else lines[deaths[0]].partition(" - ")[2] or lines[deaths[0]]
    return Cause("worker_died", f"The worker died, and its log does not say why (memory?): {seen.strip()[:200]}")


def prediction_cause(log: str) -> Cause | None:
    """Return the exception that a handler raised while it predicted."""
    worker = [match.group(1) for match in map(_MODEL_LOG.search, lines_of(log)) if match]
    cause = python_cause(worker)
    return Cause("oom" if cause.reason == "oom" else "handler_error", cause.sentence) if cause else None
