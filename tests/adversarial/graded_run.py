"""One grading in a process of its own: `graded_run.py ASSIGNMENT SUBMISSION BUILDER RUNTIME MAX_FILES`.

Its last line is JSON.

Memory is what this process had at its highest, and what its children had: builders' clients, the helper.
"""

from __future__ import annotations

import dataclasses
import json
import resource
import sys
import time
from pathlib import Path

from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.engine import classic, disk
from pytest_dockerlab.engine.base import EngineInfo
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.grade import grade
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission


class Classic(DockerEngine):
    """An engine without buildx in reach."""

    def info(self) -> EngineInfo:
        return dataclasses.replace(super().info(), builder=classic.NAME)


def main() -> None:
    folder, builder = Path(sys.argv[2]), sys.argv[3]
    disk.MAX_FILES = int(sys.argv[5])
    assignment = Assignment.load(sys.argv[1])
    submission = Submission.load(folder, assignment.spec.limits)
    settings = Settings(submission=folder, gpu="none", runtime=sys.argv[4], fresh=True, given=frozenset({"gpu"}))
    started = time.monotonic()
    found = grade(submission, assignment, settings, Classic if builder == classic.NAME else DockerEngine)
    told = {
        "seconds": time.monotonic() - started,
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "children": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024,
        "folder": str(found.folder),
        "exit": found.exit_status,
        "results": found.to_results(),
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
