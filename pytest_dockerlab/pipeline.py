"""The stages in order, each run at most once; what is stored of an earlier run is used where it still holds.

A stored fact is used again only where the check on it passed: a student who mended the network, or whose training was
unlucky, sees the stage run again. `--dockerlab-fresh` uses nothing. Which facts may be used together is decided by
what the later ones need: a served model needs its artifact's file, answers need a live server.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from pytest_dockerlab import integrity
from pytest_dockerlab.errors import EngineUnavailable, ImageUnavailable, InfraError
from pytest_dockerlab.facts import (
    Artifact,
    DockerfileFound,
    ImageBuild,
    IntegrityFacts,
    LossCurve,
    Predictions,
    Provenance,
    Serving,
    TrainingRun,
)
from pytest_dockerlab.stages import artifact as artifact_stage
from pytest_dockerlab.stages import build as build_stage
from pytest_dockerlab.stages import predict as predict_stage
from pytest_dockerlab.stages import provenance as provenance_stage
from pytest_dockerlab.stages import serve as serve_stage
from pytest_dockerlab.stages import train as train_stage
from pytest_dockerlab.stages.context import RunContext
from pytest_dockerlab.store import RunStore

Fact = TypeVar("Fact")

KINDS: dict[str, type[object]] = {
    "dockerfile": DockerfileFound,
    "build": ImageBuild,
    "train": TrainingRun,
    "loss": LossCurve,
    "artifact": Artifact,
    "serve": Serving,
    "predict": Predictions,
    "provenance": Provenance,  # only where the assignment lists the check
}
RETRY_PAUSE_S = 2.0


class Pipeline:
    """The facts of one run, made on demand. The caller asks in order, and only for what no failed check forbids."""

    def __init__(self, open_context: Callable[[], RunContext], stored: dict[str, object]) -> None:
        """Keep how to get at an engine: with everything stored, none is needed and none is asked for."""
        self._open_context = open_context
        self._context: RunContext | None = None
        self._server: serve_stage.Server | None = None
        self.facts: dict[str, object] = dict(stored)
        self.reused: frozenset[str] = frozenset(stored)
        self.seconds: dict[str, float] = {}

    @property
    def context(self) -> RunContext:
        """Return the run's context; connects to the engine the first time."""
        if self._context is None:
            self._context = self._open_context()
        return self._context

    def dockerfile(self) -> DockerfileFound:
        """Find the Dockerfile."""
        return self._stage(
            "dockerfile", DockerfileFound, lambda: build_stage.find(self.context, self.context.accelerator.on_gpu())
        )

    def build(self) -> ImageBuild:
        """Build the training image."""
        return self._stage("build", ImageBuild, lambda: build_stage.run(self.context, self.dockerfile()))

    def train(self) -> TrainingRun:
        """Run the training; the losses and the artifact come with it, since its container goes afterwards."""
        return self._stage("train", TrainingRun, self._train)

    def _train(self) -> TrainingRun:
        fact, curve, found = train_stage.run(self.context, self._live_build())
        self.facts["loss"] = curve
        if found is not None:
            self.facts["artifact"] = found
        return fact

    def _live_build(self) -> ImageBuild:
        """Return a build whose image is on the engine: a stored one's was removed, and its layers are cached."""
        if "build" in self.reused:
            self.reused -= {"build"}
            del self.facts["build"]
        return self.build()

    def loss(self) -> LossCurve:
        """Return the losses that the run told."""
        self.train()
        curve = self.facts["loss"]
        assert isinstance(curve, LossCurve)
        return curve

    def artifact(self) -> Artifact:
        """Return the model that the run wrote; only a run that ended well has one."""
        self.train()
        found = self.facts["artifact"]
        assert isinstance(found, Artifact)
        return found

    def serve(self) -> Serving:
        """Start the server; it stays up until `predict` is done, or `close`."""
        return self._stage("serve", Serving, self._serve)

    def _serve(self) -> Serving:
        fact, self._server = serve_stage.start(self.context, self.artifact())
        return fact

    def predict(self) -> Predictions:
        """Ask the digits."""
        self.serve()
        return self._stage("predict", Predictions, self._predict)

    def _predict(self) -> Predictions:
        if self._server is None:  # the serving fact came from the store
            fact, self._server = serve_stage.start(self.context, self.artifact())
            self.facts["serve"] = fact
            self.context.store.save("serve", fact)
        if self._server is None:
            raise InfraError("The server started in an earlier run and does not start now; grade again.")
        answers = predict_stage.run(self.context, self._server)
        curve, found = self.facts.get("loss"), self.facts.get("artifact")
        if isinstance(curve, LossCurve) and isinstance(found, Artifact):
            answers = replace(answers, findings=(integrity.accuracy_agrees(curve, answers),))
            self.context.store.save("integrity", IntegrityFacts((*found.findings, *answers.findings)))
        return answers

    def provenance(self) -> Provenance:
        """Start the server once more from a permuted copy of the artifact, and see whether the answers follow."""
        before = self.predict()
        return self._stage(
            "provenance", Provenance, lambda: provenance_stage.run(self.context, self.artifact(), before)
        )

    def _stage(self, name: str, kind: type[Fact], make: Callable[[], Fact]) -> Fact:
        known = self.facts.get(name)
        if known is not None:
            assert isinstance(known, kind)
            return known

        def anew() -> Fact:
            self._forget(name)
            return make()

        started = time.monotonic()
        try:
            fact = self._retried(anew)
        finally:
            self.seconds[name] = round(time.monotonic() - started, 2)
        self.context.store.save(name, fact)
        self.facts[name] = fact
        return fact

    def _forget(self, name: str) -> None:
        """Forget what an earlier run came to from this stage on: nobody may take it for this one's."""
        later = list(KINDS)[list(KINDS).index(name) :]
        told = ("integrity",) if "artifact" in later else ()
        self.context.store.forget(*later, *told, "results")

    def _retried(self, make: Callable[[], Fact]) -> Fact:
        """Try once more after a fault of the machine's: an engine that restarts, an image that was just removed."""
        try:
            return make()
        except (EngineUnavailable, ImageUnavailable) as error:
            self.context.observer.note(f"{error.message} Trying once more.")
            time.sleep(RETRY_PAUSE_S)
            self._server = None
            if self._context is not None:
                self._context.reconnect()
            return make()

    def close(self) -> None:
        """Remove all that the run made on the engine."""
        if self._context is not None:
            self._context.close()


def stored_facts(store: RunStore) -> dict[str, object]:
    """Return the facts that an earlier run of the same key left."""
    facts: dict[str, object] = {}
    for name, kind in KINDS.items():
        fact = store.load(name, kind)
        if fact is None:
            break
        facts[name] = fact
    artifact = facts.get("artifact")
    if isinstance(artifact, Artifact) and artifact.file and not store.file(artifact_stage.FILE).is_file():
        for name in ("train", "loss", "artifact", "serve", "predict", "provenance"):
            facts.pop(name, None)
    return facts
