"""The real pytest plugin: collects the assignment's tests, turns their outcomes into a grade, shows it."""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from pytest_dockerlab import fixtures
from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.checks.base import Outcome
from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.engine.signals import orderly_termination
from pytest_dockerlab.errors import Blocked, DockerLabError, InfraError, UsageError
from pytest_dockerlab.grade import Grading, outcome_of
from pytest_dockerlab.progress import PytestProgress
from pytest_dockerlab.report.escape import workflow_text
from pytest_dockerlab.results import EXIT_NO_GRADE, Grade
from pytest_dockerlab.settings import Settings, resolve
from pytest_dockerlab.submission import FILE, Submission

NAME = "dockerlab-session"
# Fields of `Settings` that no option says; `dockerlab grade` puts them here (classroom/inside.py).
HANDED = pytest.StashKey[dict[str, Any]]()
SETUP_S = pytest.StashKey[float]()  # a test's fixtures run the stages: their time is the check's
DEFAULT_ASSIGNMENT_HELP = (
    'Write `assignment = "mnist"` into dockerlab.toml, or give --dockerlab-assignment NAME (`dockerlab init` does it).'
)


def register(config: pytest.Config) -> None:
    """Resolve the options and register the plugin; raises `pytest.UsageError` for wrong ones."""
    try:
        session = DockerLabSession.from_config(config)
    except DockerLabError as error:
        raise pytest.UsageError(workflow_text(str(error))) from None
    config.pluginmanager.register(session, NAME)
    stack = ExitStack()
    stack.enter_context(orderly_termination())
    config.add_cleanup(stack.close)
    config.pluginmanager.register(fixtures, "dockerlab-fixtures")
    if config.args_source is not pytest.Config.ArgsSource.ARGS:
        # Nothing was named on the command line: the assignment's tests are what there is to run.
        session.whole = True
        config.args = [str(path) for path in session.assignment.test_files]


def default_submission(config: pytest.Config) -> Path:
    """Return the nearest folder with a `dockerlab.toml`, from where pytest was called up to rootdir; else rootdir."""
    here = config.invocation_params.dir
    for folder in (here, *here.parents):
        if (folder / FILE).is_file():
            return folder
        if folder == config.rootpath:
            break
    return config.rootpath


class DockerLabSession:
    """Hooks and state of one `pytest --dockerlab`."""

    def __init__(
        self, config: pytest.Config, settings: Settings, assignment: Assignment, submission: Submission
    ) -> None:
        """Use `from_config`."""
        self.config = config
        self.settings = settings
        self.assignment = assignment
        self.submission = submission
        self.progress = PytestProgress(config)
        self.shows_grade = True  # `dockerlab grade` shows it itself, as its reader may see it
        self._grading: Grading | None = None
        self._grade: Grade | None = None
        self._problem: str | None = None
        self._infra = False
        self.whole = False  # whether all tests of the assignment were collected
        self._judged: set[str] = set()  # the checks that have a test

    @classmethod
    def from_config(cls, config: pytest.Config) -> DockerLabSession:
        """Read options, assignment and submission; raises our `UsageError`."""
        if getattr(config.option, "numprocesses", None) or hasattr(config, "workerinput"):
            raise UsageError(
                "--dockerlab runs its stages in order, in one process.", fix="Leave out -n (pytest-xdist)."
            )
        settings = resolve(
            cli={
                name.removeprefix("dockerlab_"): value
                for name, value in vars(config.option).items()
                if name.startswith("dockerlab_")
            },
            ini=lambda key: config.getini(f"dockerlab_{key}"),
            cwd=config.invocation_params.dir,
            default_submission=default_submission(config),
        )
        settings = dataclasses.replace(settings, **config.stash.get(HANDED, {}))
        assignment, submission = load(settings)
        if settings.digits is not None and HANDED not in config.stash:
            load_digits(settings.digits)  # a wrong folder is said now, not after the training
        if not assignment.test_files:
            raise UsageError(f"The assignment {assignment.name} has no tests ({assignment.spec.tests}).")
        return cls(config, settings, assignment, submission)

    @property
    def grading(self) -> Grading:
        """Return the grade in the making; opened at the first use, closed at the session's end."""
        if self._grading is None:
            grading = Grading(self.submission, self.assignment, self.settings, fixtures.open_engine, self.progress)
            grading.__enter__()
            self._grading = grading
        return self._grading

    # -- hooks

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionstart(self) -> None:
        """Open the run, unless nothing is going to run; whatever is in the way is told in a sentence."""
        if self.config.option.collectonly:
            return
        try:
            self.grading  # noqa: B018
        except InfraError as error:  # another run holds the lock, or the cache can't be written
            pytest.exit(workflow_text(str(error)), returncode=EXIT_NO_GRADE)
        except DockerLabError as error:  # the user's configuration is wrong
            raise pytest.UsageError(workflow_text(str(error))) from None

    def pytest_report_header(self) -> list[str]:
        """Show the effective configuration."""
        lines = [
            f"dockerlab: {self.assignment.name} <- {self.submission.root}",
            f"dockerlab: gpu {self.settings.gpu}, language {self.settings.lang}, runtime {self.settings.runtime}",
        ]
        if self._grading is not None:
            lines.append(f"dockerlab: facts and evidence in {self._grading.store.folder}")
        return lines

    def pytest_itemcollected(self, item: pytest.Item) -> None:
        """Refuse a marker that names no check, or other points than the assignment."""
        marker = item.get_closest_marker("dockerlab")
        if marker is None:
            return
        check_id = marker.kwargs.get("check")
        spec = self.assignment.check(str(check_id))
        if spec is None:
            known = ", ".join(check.id for check in self.assignment.spec.checks)
            raise pytest.UsageError(
                f"{item.nodeid}: {self.assignment.name} has no check {check_id!r} (there are: {known})"
            )
        points = marker.kwargs.get("points", spec.points)
        if points != spec.points:
            raise pytest.UsageError(f"{item.nodeid}: {points} points here, {spec.points} in assignment.toml")
        self._judged.add(spec.id)
        item.user_properties += [("dockerlab_check", spec.id), ("dockerlab_max_points", spec.points)]

    def pytest_collection_modifyitems(self) -> None:
        """Refuse an assignment with a check that no test judges: nobody could ever get its points."""
        missing = [check.id for check in self.assignment.spec.checks if check.id not in self._judged]
        if self.whole and missing and self._judged:
            raise pytest.UsageError(
                f"{self.assignment.folder}: no test judges {', '.join(missing)}; "
                f'each check needs one marked @pytest.mark.dockerlab(check="{missing[0]}")'
            )

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Turn what happened into a check's result, and into a report without a traceback."""
        check_id = dict(item.user_properties).get("dockerlab_check")
        if check_id is None or call.when == "teardown":
            return (yield)
        if call.when == "setup":
            item.stash[SETUP_S] = call.duration
        if call.when == "setup" and call.excinfo is None:
            return (yield)
        self._record(item, str(check_id), call)
        report = yield
        error = call.excinfo.value if call.excinfo else None
        if isinstance(error, Blocked):
            report.outcome = "skipped"
            report.longrepr = (str(item.path), 0, f"blocked: the check {error.by!r} has to pass first")
        elif isinstance(error, DockerLabError):
            report.longrepr = workflow_text(str(error))  # a student's words must not command a CI runner
        return report

    def _record(self, item: pytest.Item, check_id: str, call: pytest.CallInfo[None]) -> None:
        grading = self.grading
        earlier = grading.recorded(check_id)
        seconds = item.stash[SETUP_S] + (call.duration if call.when == "call" else 0.0)
        if call.excinfo is None:
            if earlier is None:
                judged = grading.judged(check_id)
                message = judged.message if judged else "the assignment's test passed"
                evidence = judged.evidence if judged else facts_of(item)
                earlier = grading.record(check_id, Outcome.PASSED, message, seconds, evidence=evidence)
        elif earlier is None or earlier.outcome is Outcome.PASSED:
            outcome, message, blocked_by, fix = outcome_of(call.excinfo.value)
            judged = grading.judged(check_id)
            evidence = judged.evidence if judged and not judged.passed else ()
            if outcome is Outcome.FAILED and not evidence:
                evidence = facts_of(item)
            earlier = grading.record(check_id, outcome, message, seconds, blocked_by, evidence, fix)
        if earlier is not None:
            self._infra = self._infra or earlier.outcome is Outcome.INFRA
            item.user_properties.append(("dockerlab_points", earlier.points))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Close the run, make the grade, and set the exit status where there is none."""
        if self._grading is None:
            return
        try:
            if session.config.option.collectonly or session.exitstatus in (
                pytest.ExitCode.USAGE_ERROR,
                pytest.ExitCode.INTERNAL_ERROR,
                pytest.ExitCode.NO_TESTS_COLLECTED,
            ):
                return
            self._grade = self._grading.finish()
        except UsageError as error:  # no test judged anything; Ctrl-C stays what pytest says of it
            self._problem = str(error)
            if session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
                session.exitstatus = pytest.ExitCode.USAGE_ERROR
            elif session.testsfailed:  # the assignment's tests could not be collected: ours to mend
                session.exitstatus = EXIT_NO_GRADE
        except DockerLabError as error:
            self._problem = str(error)
            session.exitstatus = EXIT_NO_GRADE
        finally:
            self._grading.__exit__(None, None, None)
        # Deselected checks and Ctrl-C leave no grade either; there pytest's own status says more.
        if self._infra and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            session.exitstatus = EXIT_NO_GRADE

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show the table, the failures and where everything is."""
        if self._problem:
            terminalreporter.write_line(self._problem, red=True)
        if self._grade is None or not self.shows_grade:
            return
        from pytest_dockerlab.report import terminal

        writer = terminalreporter._tw
        color = bool(writer.hasmarkup)
        shown = terminal.render(
            self._grade.to_results(), writer.fullwidth, color, self.settings.lang, self._grade.folder
        )
        terminalreporter.write_sep("=", "dockerlab")
        writer.write(shown if shown.endswith("\n") else shown + "\n")
        terminalreporter.write_line(f"results: {self._grade.folder / 'results.json'}")
        for name, path in (("copy", self.settings.results), ("report", self.settings.report)):
            if path is not None:
                terminalreporter.write_line(f"{name}: {path}")

    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, str] | None:
        """Say `blocked` for what an earlier failure prevented."""
        if report.skipped and dict(report.user_properties).get("dockerlab_check"):
            return "skipped", "b", "BLOCKED"
        return None


def facts_of(item: pytest.Item) -> tuple[str, ...]:
    """Return the files of the facts that a test asked for: the evidence of an author's own check."""
    asked = getattr(item, "fixturenames", ())
    return tuple(f"{fact}.json" for name, fact in fixtures.FACTS.items() if name in asked)


def load(settings: Settings) -> tuple[Assignment, Submission]:
    """Load what is graded, and by which assignment; raises `UsageError`."""
    from pytest_dockerlab.assignment import Limits
    from pytest_dockerlab.report.files import RESULTS
    from pytest_dockerlab.report.schema import load_results

    if settings.replay is not None:
        submission = Submission.recorded(settings.replay, load_results(settings.replay / RESULTS)["submission"])
    else:
        ours = frozenset(path for path in (settings.results, settings.report) if path is not None)
        submission = Submission.load(settings.submission, Limits(), ours | settings.exclude, settings.commit)
    name = settings.assignment or submission.file.assignment
    if name is None:
        raise UsageError(f"No assignment was named for {submission.root}.", fix=DEFAULT_ASSIGNMENT_HELP)
    return Assignment.load(name), submission
