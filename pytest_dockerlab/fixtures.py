"""The `dockerlab_*` fixtures. Each gives a fact, and makes it the first time; a failed earlier check skips the test."""

from __future__ import annotations

from typing import cast

import pytest

from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.data.digits import Digit, load_digits
from pytest_dockerlab.engine.base import Engine
from pytest_dockerlab.facts import (
    Artifact,
    DockerfileFound,
    ImageBuild,
    LossCurve,
    Predictions,
    Provenance,
    Serving,
    TrainingRun,
)
from pytest_dockerlab.grade import Grading
from pytest_dockerlab.settings import Settings
from pytest_dockerlab.submission import Submission

# Fixture → the fact that it gives, as `pipeline.KINDS` names it.
FACTS = {
    "dockerlab_dockerfile": "dockerfile",
    "dockerlab_image": "build",
    "dockerlab_training": "train",
    "dockerlab_loss": "loss",
    "dockerlab_artifact": "artifact",
    "dockerlab_server": "serve",
    "dockerlab_predictions": "predict",
    "dockerlab_provenance": "provenance",
}


def open_engine() -> Engine:
    """Connect to the engine. Tests of this package put a `FakeEngine` here."""
    from pytest_dockerlab.engine.docker import DockerEngine

    return DockerEngine()


@pytest.fixture(scope="session")
def dockerlab_grading(request: pytest.FixtureRequest) -> Grading:
    """The grade in the making; the other fixtures are views of it."""
    from pytest_dockerlab.session import NAME, DockerLabSession

    session = request.config.pluginmanager.get_plugin(NAME)
    return cast(DockerLabSession, session).grading


@pytest.fixture(scope="session")
def dockerlab_settings(dockerlab_grading: Grading) -> Settings:
    """The effective options."""
    return dockerlab_grading.settings


@pytest.fixture(scope="session")
def dockerlab_assignment(dockerlab_grading: Grading) -> Assignment:
    """The assignment: `spec` is its validated `assignment.toml`."""
    return dockerlab_grading.assignment


@pytest.fixture(scope="session")
def dockerlab_submission(dockerlab_grading: Grading) -> Submission:
    """The folder that is graded."""
    return dockerlab_grading.submission


@pytest.fixture(scope="session")
def dockerlab_engine(dockerlab_grading: Grading) -> Engine:
    """The container engine, connected."""
    return dockerlab_grading.engine()


@pytest.fixture(scope="session")
def dockerlab_dockerfile(dockerlab_grading: Grading) -> DockerfileFound:
    """The Dockerfile that was found."""
    return cast(DockerfileFound, dockerlab_grading.fact("dockerfile"))


@pytest.fixture(scope="session")
def dockerlab_image(dockerlab_grading: Grading) -> ImageBuild:
    """The training image's build."""
    return cast(ImageBuild, dockerlab_grading.fact("build"))


@pytest.fixture(scope="session")
def dockerlab_training(dockerlab_grading: Grading) -> TrainingRun:
    """The training run."""
    return cast(TrainingRun, dockerlab_grading.fact("train"))


@pytest.fixture(scope="session")
def dockerlab_loss(dockerlab_grading: Grading) -> LossCurve:
    """The losses that the run told."""
    return cast(LossCurve, dockerlab_grading.fact("loss"))


@pytest.fixture(scope="session")
def dockerlab_artifact(dockerlab_grading: Grading) -> Artifact:
    """The model file that the run wrote."""
    return cast(Artifact, dockerlab_grading.fact("artifact"))


@pytest.fixture(scope="session")
def dockerlab_server(dockerlab_grading: Grading) -> Serving:
    """The model server, started from the artifact."""
    return cast(Serving, dockerlab_grading.fact("serve"))


@pytest.fixture(scope="session")
def dockerlab_digits(dockerlab_settings: Settings) -> list[Digit]:
    """The pool of labelled digits that questions are drawn from."""
    return load_digits(dockerlab_settings.digits)


@pytest.fixture(scope="session")
def dockerlab_predictions(dockerlab_grading: Grading) -> Predictions:
    """The server's answers, each beside the label."""
    return cast(Predictions, dockerlab_grading.fact("predict"))


@pytest.fixture(scope="session")
def dockerlab_provenance(dockerlab_grading: Grading) -> Provenance:
    """Whether the answers follow a permutation of the artifact's last layer; needs the check `provenance`."""
    return cast(Provenance, dockerlab_grading.fact("provenance"))
