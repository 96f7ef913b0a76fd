"""`grade(submission, assignment, settings) -> Grade`: the one entry. pytest's items are a view of the same checks."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

from pytest_dockerlab import checks
from pytest_dockerlab.assignment import Assignment, CheckSpec, Title
from pytest_dockerlab.checks.base import NOT_RUN, CheckResult, Judgement, Outcome
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.base import Engine
from pytest_dockerlab.engine.guard import guard_for
from pytest_dockerlab.engine.labels import new_run_id
from pytest_dockerlab.engine.reaper import reap
from pytest_dockerlab.errors import Blocked, DockerLabError, InfraError, StudentError, UsageError
from pytest_dockerlab.facts import Environment, LossCurve
from pytest_dockerlab.observer import Observer, Silent
from pytest_dockerlab.pipeline import KINDS, Pipeline, stored_facts
from pytest_dockerlab.results import Grade
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.stages.accelerator import AcceleratorPlan
from pytest_dockerlab.stages.context import RunContext
from pytest_dockerlab.store import RunStore, run_key
from pytest_dockerlab.submission import Submission
from pytest_dockerlab.train.sparkline import sparkline

LOCK_WAIT_S = 30.0
SPARKS = 24  # characters of the loss curve in the terminal

# Which checks have to pass before a fact is made. The order of the table is the order of the stages.
NEEDS: dict[str, tuple[str, ...]] = {
    "dockerfile": (),
    "build": ("dockerfile",),
    "train": ("build",),
    "loss": ("train",),
    "artifact": ("train",),
    "serve": ("artifact",),
    "predict": ("serve",),
    "provenance": ("predict",),
}


class Grading:
    """A grade in the making. Use it as a context manager: leaving it removes all that the run made on the engine."""

    def __init__(
        self,
        submission: Submission,
        assignment: Assignment,
        settings: Settings,
        open_engine: Callable[[], Engine] | None = None,
        observer: Observer | None = None,
    ) -> None:
        """Look up what is stored; nothing runs yet."""
        self.submission = submission
        self.assignment = assignment
        self.settings = settings
        self.observer = observer or Silent()
        self.notes: list[str] = []
        self._open_engine = open_engine or _docker
        self._engine: Engine | None = None
        self._results: dict[str, CheckResult] = {}
        self._judgements: dict[str, Judgement] = {}
        self._announced: set[str] = set()
        self._started = time.monotonic()
        self.store = (
            RunStore(settings.replay) if settings.replay else RunStore.open(_key(submission, assignment, settings))
        )
        self._lock = self.store.locked(LOCK_WAIT_S, self.observer.note)
        self.pipeline = Pipeline(self._context, {})

    def __enter__(self) -> Grading:
        """Take the lock of this key, then read what is stored."""
        self._lock.__enter__()
        if self.settings.fresh:
            self.store.clear()
        self.pipeline = Pipeline(self._context, self._reusable())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Clean up, whatever happened."""
        try:
            self.pipeline.close()
            if self._engine is not None:
                self._engine.close()
        finally:
            self._lock.__exit__(kind, error, trace)

    # -- facts

    def fact(self, name: str) -> object:
        """Return a fact, made now where it is not there yet; raises `Blocked` where an earlier check failed."""
        for needed in NEEDS[name]:
            if self.result(needed).outcome is not Outcome.PASSED:
                raise Blocked(self._root_cause(needed))
        first = name not in self._announced
        self._announced.add(name)
        if first and name not in self.pipeline.facts:
            self.observer.begin(name, "")
        fact: object = getattr(self.pipeline, name)()
        if first:
            judgement = self.judge(name, fact)
            shape = f"  {sparkline(fact.values(), SPARKS)}" if isinstance(fact, LossCurve) else ""
            self.observer.end(
                name,
                judgement.message + shape,
                ok=judgement.passed,
                seconds=self.pipeline.seconds.get(name, 0.0),
                reused=name in self.pipeline.reused,
            )
            for note in judgement.notes:
                self.note(note)
        return fact

    def note(self, text: str) -> None:
        """Keep a remark for the results, and show it."""
        if text not in self.notes:
            self.notes.append(text)
            self.observer.note(text)

    def _root_cause(self, check_id: str) -> str:
        return self._results[check_id].blocked_by or check_id

    # -- checks

    def judge(self, check_id: str, fact: object) -> Judgement:
        """Judge one of the standard checks; pure, so asking twice says the same."""
        if check_id not in self._judgements:
            self._judgements[check_id] = _judge(check_id, fact, self.assignment)
        return self._judgements[check_id]

    def result(self, check_id: str) -> CheckResult:
        """Return the result of a standard check, made now where it is not there yet; never raises for a bad outcome."""
        if check_id not in self._results:
            started = time.monotonic()
            outcome, message, blocked_by, fix = Outcome.PASSED, "", None, None
            evidence: tuple[str, ...] = ()
            try:
                judgement = self.judge(check_id, self.fact(check_id))
                judgement.require()
                message, evidence = judgement.message, judgement.evidence
            except DockerLabError as error:
                outcome, message, blocked_by, fix = outcome_of(error)
                if check_id in self._judgements:
                    evidence = self._judgements[check_id].evidence
            self.record(check_id, outcome, message, time.monotonic() - started, blocked_by, evidence, fix)
        return self._results[check_id]

    def record(
        self,
        check_id: str,
        outcome: Outcome,
        message: str,
        duration_s: float = 0.0,
        blocked_by: str | None = None,
        evidence: tuple[str, ...] = (),
        fix: str | None = None,
    ) -> CheckResult:
        """Keep the result of a check; an author's own test records here what it found."""
        spec = self.assignment.check(check_id) or CheckSpec(
            id=check_id, points=0, title=Title(en=check_id, zh=check_id)
        )
        title = spec.title.zh if self.settings.lang == "zh" else spec.title.en
        result = CheckResult(
            id=check_id,
            title=title,
            outcome=outcome,
            points=spec.points if outcome is Outcome.PASSED else 0,
            max_points=spec.points,
            message=message,
            blocked_by=blocked_by,
            duration_s=duration_s,
            hints=({"rule": f"{check_id}-{outcome.value}", "cause": "", "fix": fix},) if fix else (),
            evidence=evidence,
        )
        self._results[check_id] = result
        return result

    def judged(self, check_id: str) -> Judgement | None:
        """Return the judgement over a fact that was made, by the standard check of that id."""
        return self._judgements.get(check_id)

    def recorded(self, check_id: str) -> CheckResult | None:
        """Return the result of a check that was judged already."""
        return self._results.get(check_id)

    def finish(self) -> Grade:
        """Return the grade over what was judged so far, and write `results.json` into the run's folder."""
        order = [spec.id for spec in self.assignment.spec.checks]
        if not any(name in self._results for name in order):
            raise UsageError(
                "Nothing was checked, so there is no grade.",
                fix="Do not deselect every check (-k, -m); see that the assignment has tests.",
            )
        for name in order:
            if name not in self._results:  # deselected, or the session ended before: no grade, and no zero either
                self.record(name, Outcome.INFRA, NOT_RUN)
        done = tuple(self._results[name] for name in order)
        grade = Grade(
            assignment=self.assignment,
            submission=self.submission,
            checks=done,
            facts=self.pipeline.facts,
            folder=self.store.folder,
            environment=self.store.load("environment", Environment),
            seconds=self.pipeline.seconds,
            total_s=time.monotonic() - self._started,
            reused=self.pipeline.reused,
            notes=tuple(self.notes),
        )
        from pytest_dockerlab.report.files import write_files

        write_files(grade, self.settings)
        return grade

    # -- what is behind

    def engine(self) -> Engine:
        """Return the engine, connected; raises `EngineUnavailable`."""
        if self._engine is None:
            self._engine = self._open_engine()
        return self._engine

    def _context(self) -> RunContext:
        engine, spec, run_id = self.engine(), self.assignment.spec, new_run_id()
        # Before anything is made: whoever kills us, the helper removes what carries this run's id.
        guard = guard_for(engine, run_id, keep=self.settings.keep)
        for gone in reap(engine, max_disk=self.settings.max_disk):
            self.observer.note(f"removed the {gone.thing.kind} {gone.thing.name}: {gone.why}")
        choice = self.settings.gpu if "gpu" in self.settings.given else spec.train.gpu
        plan = AcceleratorPlan(engine, choice, spec.gpu.min_memory, spec.gpu.wait, run_id)
        info = engine.info()
        machine = Environment(info.cpus, info.memory_bytes, info.os, str(info), tuple(plan.describe()))
        self.store.save("environment", machine)
        return RunContext(
            submission=self.submission,
            assignment=self.assignment,
            settings=self.settings,
            engine=engine,
            store=self.store,
            observer=self.observer,
            run_id=run_id,
            deadline=Deadline.after(spec.timeouts.total),
            accelerator=plan,
            guard=guard,
        )

    def _reusable(self) -> dict[str, object]:
        """Return the stored facts up to the first one whose check did not pass; all of them to judge them again."""
        if self.settings.replay:
            return {name: fact for name, kind in KINDS.items() if (fact := self.store.load(name, kind)) is not None}
        kept: dict[str, object] = {}
        stored = stored_facts(self.store)
        for name, fact in stored.items():
            if not _judge(name, fact, self.assignment).passed and name != "loss":
                break
            kept[name] = fact
        # Training, losses and artifact come from one container: they are used together or not at all.
        if not {"train", "loss", "artifact"} <= kept.keys():
            for name in ("train", "loss", "artifact", "serve", "predict", "provenance"):
                kept.pop(name, None)
        if "predict" not in kept:
            kept.pop("serve", None)
            kept.pop("provenance", None)
        return kept


def outcome_of(error: BaseException) -> tuple[Outcome, str, str | None, str | None]:
    """Return `(outcome, message, blocked_by, fix)` of what ended a check. Whatever is not the student's is ours."""
    if isinstance(error, Blocked):
        return Outcome.BLOCKED, error.message, error.by, None
    if isinstance(error, StudentError):
        return Outcome.FAILED, error.message, None, error.fix
    if isinstance(error, InfraError):
        return Outcome.INFRA, error.message, None, error.fix
    if isinstance(error, AssertionError):
        return Outcome.FAILED, str(error) or "an assertion of the assignment's test did not hold", None, None
    return Outcome.INFRA, f"{type(error).__name__}: {error}", None, None


def _judge(check_id: str, fact: Any, assignment: Assignment) -> Judgement:
    judges: dict[str, Callable[[], Judgement]] = {
        "dockerfile": lambda: checks.dockerfile(fact),
        "build": lambda: checks.build(fact),
        "train": lambda: checks.train(fact),
        "loss": lambda: checks.loss(fact, assignment),
        "artifact": lambda: checks.artifact(fact, assignment),
        "serve": lambda: checks.serve(fact),
        "predict": lambda: checks.predict(fact, assignment),
        "provenance": lambda: checks.provenance(fact),
    }
    return judges[check_id]()


def _key(submission: Submission, assignment: Assignment, settings: Settings) -> str:
    from pytest_dockerlab.images import names

    maps = [sorted(table.items()) for table in names.user_maps()]
    return run_key(
        submission.sha256,
        assignment.sha256,
        settings.gpu,
        settings.runtime,
        str(settings.digits),
        str(maps),
        # Other digits are drawn with another secret. Eight hex digits tell two apart, and are too few to find it by
        # trying: logs show the folder, which is named by the key.
        hashlib.sha256(f"key:{settings.secret}".encode()).hexdigest()[:8] if settings.secret else "",
    )


def _docker() -> Engine:
    from pytest_dockerlab.engine.docker import DockerEngine

    return DockerEngine()


def grade(
    submission: Submission,
    assignment: Assignment,
    settings: Settings,
    open_engine: Callable[[], Engine] | None = None,
    observer: Observer | None = None,
) -> Grade:
    """Grade a submission: run every standard check of the assignment, in order, and return the grade.

    Never raises for what a student did, nor for a fault of ours: that is `graded == False`. Raises `UsageError` for an
    assignment that has checks of its own, which only its tests can judge (use `dockerlab grade`).
    """
    own = [spec.id for spec in assignment.spec.checks if spec.id not in NEEDS]
    if own:
        raise UsageError(f"The checks {', '.join(own)} of {assignment.name} need its tests: use `dockerlab grade`.")
    with Grading(submission, assignment, settings, open_engine, observer) as grading:
        for spec in assignment.spec.checks:
            grading.result(spec.id)
        return grading.finish()


__all__ = ["Grade", "Grading", "grade", "outcome_of"]
