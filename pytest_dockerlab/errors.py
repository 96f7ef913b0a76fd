"""Every error that this package raises on purpose, and whose fault each one is.

::

    DockerLabError
    ├── UsageError              the caller's: an option, a path or a configuration file is wrong (exit status 4)
    ├── StudentError            the submission's: becomes a failed check
    │   └── CheckFailed         a check judged its facts and said no
    ├── Blocked                 nobody's: an earlier check failed, so this one could not run
    └── InfraError              ours: the harness, the engine or the machine (exit status 10; never points, never zero)
        ├── EngineUnavailable   no engine answers, or it went away
        ├── ImageUnavailable    an image of ours is missing, or the registry does not answer
        ├── DiskFull            no room left for the engine or for our own files
        └── GpuUnavailable      a GPU was required and none can be had

What a student did wrong is normally a *fact* and not an exception: stages record, checks judge. `StudentError` is
raised only where nothing is left to record.
"""

from __future__ import annotations


class DockerLabError(Exception):
    """The root. `str(error)` is a sentence that a person can act on: what, where, and what to do."""

    def __init__(self, message: str, *, fix: str | None = None) -> None:
        """Keep the message and, apart from it, the way to mend the matter."""
        super().__init__(message)
        self.message = message
        self.fix = fix

    def __str__(self) -> str:
        """Return the message, followed by the fix where there is one."""
        return f"{self.message}\n  -> {self.fix}" if self.fix else self.message


class UsageError(DockerLabError):
    """An option, a path or a configuration file is wrong."""


class StudentError(DockerLabError):
    """The submission is at fault."""


class CheckFailed(StudentError):
    """A check judged its facts and said no."""


class Blocked(DockerLabError):
    """An earlier check failed; `by` is its id."""

    def __init__(self, by: str) -> None:
        """Name the check that has to pass first."""
        super().__init__(f"not run: the check {by!r} has to pass first")
        self.by = by


class InfraError(DockerLabError):
    """The harness, the engine or the machine is at fault; the submission stays ungraded and can be retried."""


class EngineUnavailable(InfraError):
    """No container engine answers, or it went away while it was needed."""


class ImageUnavailable(InfraError):
    """An image that the harness needs is missing, or the registry that has it does not answer."""


class DiskFull(InfraError):
    """There is no room left for the engine or for our own files."""


class GpuUnavailable(InfraError):
    """A GPU was required and none can be had."""
