"""The checks of the MNIST lab. Points and titles are in assignment.toml; the facts come from the fixtures."""

import pytest

from pytest_dockerlab import checks


@pytest.mark.dockerlab(check="dockerfile")
def test_there_is_a_dockerfile(dockerlab_dockerfile):
    checks.dockerfile(dockerlab_dockerfile).require()


@pytest.mark.dockerlab(check="build")
def test_the_image_builds(dockerlab_image):
    checks.build(dockerlab_image).require()


@pytest.mark.dockerlab(check="train")
def test_the_training_ends_well(dockerlab_training):
    checks.train(dockerlab_training).require()


@pytest.mark.dockerlab(check="loss")
def test_the_loss_goes_down(dockerlab_loss, dockerlab_assignment):
    checks.loss(dockerlab_loss, dockerlab_assignment).require()


@pytest.mark.dockerlab(check="artifact")
def test_the_run_leaves_a_model(dockerlab_artifact, dockerlab_assignment):
    checks.artifact(dockerlab_artifact, dockerlab_assignment).require()


@pytest.mark.dockerlab(check="serve")
def test_a_server_starts_from_the_model(dockerlab_server):
    checks.serve(dockerlab_server).require()


@pytest.mark.dockerlab(check="predict")
def test_digits_come_back_right(dockerlab_predictions, dockerlab_assignment):
    checks.predict(dockerlab_predictions, dockerlab_assignment).require()
