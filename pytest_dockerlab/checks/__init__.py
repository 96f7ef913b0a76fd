"""Checks: pure judgements over facts. Each returns a `Judgement`; none touches an engine, a file or a clock.

An assignment's tests read like this::

    @pytest.mark.dockerlab(check="loss")
    def test_loss_goes_down(dockerlab_loss, dockerlab_assignment):
        checks.loss(dockerlab_loss, dockerlab_assignment).require()
"""

from pytest_dockerlab.checks.base import CheckResult, Judgement, Outcome
from pytest_dockerlab.checks.serving import predict, provenance, serve
from pytest_dockerlab.checks.training import artifact, build, dockerfile, loss, train

__all__ = [
    "CheckResult",
    "Judgement",
    "Outcome",
    "artifact",
    "build",
    "dockerfile",
    "loss",
    "predict",
    "provenance",
    "serve",
    "train",
]
