"""What the facts tell of where a model came from: sentences with numbers, and nobody accused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from pytest_dockerlab import checks, integrity
from pytest_dockerlab.assignment import Assignment, AssignmentFile, Integrity
from pytest_dockerlab.facts import (
    Artifact,
    Ended,
    Finding,
    IntegrityFacts,
    LossCurve,
    LossPoint,
    Prediction,
    Predictions,
    TrainingRun,
    from_json,
    to_json,
)

LOGS = Path(__file__).parents[1] / "samples" / "logs"
RUN = TrainingRun(Ended.EXITED, 0, seconds=60.0, cpu_s=50.0)


def curve(
    times: list[float | None], epochs: int | None = 2, accuracy: float | None = None, total: int = 0
) -> LossCurve:
    points = tuple(LossPoint(2.3 * 0.99**step, at_s=at) for step, at in enumerate(times))
    return LossCurve(
        points, "log:x", total_points=total or len(points), claimed_accuracy=accuracy, claimed_epochs=epochs
    )


def spread(count: int, first: float, last: float) -> list[float]:
    return [first + (last - first) * at / (count - 1) for at in range(count)]


def answers(right: int, asked: int = 50) -> Predictions:
    return Predictions(tuple(Prediction("x", 7, 7 if at < right else 1, "") for at in range(asked)))


# -- each finding


def test_a_new_file_agrees():
    assert integrity.artifact_new(Artifact(path="/m.pt", bytes=10, state="new")).agrees is True
    assert integrity.artifact_new(Artifact(path="/m.pt", bytes=10, state="changed")).agrees is True


@pytest.mark.parametrize("state", ["unchanged", "in_image"])
def test_a_file_of_the_image_does_not_agree(state: str):
    assert integrity.artifact_new(Artifact(path="/m.pt", state=state)).agrees is False


def test_honest_runs_agree():
    honest = curve(spread(94, 3.0, 58.0))
    assert integrity.cpu_plausible(RUN, honest, 2.0).agrees is True
    assert integrity.loss_over_time(RUN, honest).agrees is True


def test_a_burst_is_seen_with_its_numbers():
    found = integrity.loss_over_time(replace(RUN, seconds=12.5), curve(spread(94, 12.30, 12.33)))
    assert found.agrees is False
    assert "94 loss values arrived within 0.03 s, from 12.3 s to 12.3 s of a run of 12.5 s." in found.sentence
    assert "holds its output back" in found.sentence


def test_a_first_line_before_the_burst_does_not_hide_it():
    assert integrity.loss_over_time(RUN, curve([0.1, *spread(93, 50.0, 50.02), 59.0])).agrees is False


def test_few_points_or_no_times_say_nothing():
    assert integrity.loss_over_time(RUN, curve(spread(9, 1.0, 1.0001))).agrees is None
    assert integrity.loss_over_time(RUN, curve([None] * 50)).agrees is None


@pytest.mark.parametrize(("count", "span"), [(94, 0.5), (10_000, 12.0), (1000, 2.5), (20, 0.05)])
def test_fast_training_is_no_burst(count: int, span: float):
    times = spread(min(count, 2000), 4.0, 4.0 + span)
    assert integrity.loss_over_time(RUN, curve(times, total=count)).agrees is True


def test_too_little_processor_time_for_the_steps():
    run = replace(RUN, seconds=0.4, cpu_s=0.02)
    found = integrity.cpu_plausible(run, curve(spread(1300, 0.1, 0.3), epochs=14), 2.0)
    assert found.agrees is False
    assert "0.0 s of processor time in 0.4 s, for 1300 loss values over 14 epochs" in found.sentence


def test_many_epochs_in_no_time():
    run = replace(RUN, seconds=0.3, cpu_s=None)
    found = integrity.cpu_plausible(run, curve(spread(94, 0.1, 0.2), epochs=14), 2.0)
    assert found.agrees is False
    assert "not measured" in found.sentence


def test_what_the_engine_did_not_see_is_in_the_students_favour():
    # 1.2 s on 2 cpus, the only reading taken at 0.25 s: up to 2.4 s may have been computed.
    run = replace(RUN, seconds=1.2, cpu_s=0.2)
    assert integrity.cpu_plausible(run, curve(spread(94, 0.2, 1.1), epochs=14), 2.0).agrees is True


def test_time_on_a_gpu_counts():
    run = replace(RUN, seconds=2.0, cpu_s=0.1, gpu_s=1.5)
    assert integrity.cpu_plausible(run, curve(spread(900, 0.5, 1.9), epochs=3), 0.1).agrees is True
    assert (
        integrity.cpu_plausible(replace(run, gpu_s=None), curve(spread(900, 0.5, 1.9), epochs=3), 0.1).agrees is False
    )


def test_no_claim_is_nothing_to_compare():
    assert integrity.cpu_plausible(RUN, LossCurve(), 2.0).agrees is None
    assert integrity.accuracy_agrees(curve([]), answers(50)).agrees is None


@pytest.mark.parametrize(
    ("claimed", "right", "agrees"),
    [(0.99, 50, True), (0.99, 46, True), (0.97, 43, True), (0.99, 30, False), (0.99, 5, False), (0.1, 50, False)],
)
def test_the_claimed_accuracy_is_held_against_the_answers(claimed: float, right: int, agrees: bool):
    found = integrity.accuracy_agrees(curve([], accuracy=claimed), answers(right))
    assert found.agrees is agrees
    assert f"{right} of 50 digits" in found.sentence
    assert f"{claimed:.1%}" in found.sentence


def test_honest_accuracies_hardly_ever_disagree():
    """A model as good as it says, on digits up to 5 points harder: at most 1 in 1,000 by construction; counted here."""
    from scipy.stats import binom

    for claimed in (0.9, 0.95, 0.99, 1.0):
        share = claimed - integrity.SLACK
        wrong = sum(
            binom.pmf(right, 50, share)
            for right in range(51)
            if not integrity.accuracy_agrees(curve([], accuracy=claimed), answers(right)).agrees
        )
        assert wrong <= 0.002


# -- the images of a data canary


@pytest.mark.parametrize(
    ("totals", "agrees"),
    [
        ((3412,), True),
        ((3000,), True),
        ((6824,), True),
        ((60000,), False),
        ((60000, 3412), True),
        ((), None),
        ((0,), False),
    ],
)
def test_the_number_of_images(totals: tuple[int, ...], agrees: bool | None):
    found = integrity.images_match(totals, 3412, 871)
    assert found.agrees is agrees
    if totals:
        assert "3,412 for training" in found.sentence


def test_totals_are_read_from_a_real_log():
    assert integrity.shown_totals((LOGS / "forged.log").read_bytes()) == (60000,)
    assert integrity.shown_totals(b"Epoch 1 [12/34] 3/4 (5%) [9999999999999/1 (1%)]") == ()


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_any_bytes_have_totals_or_none(log: bytes):
    assert len(integrity.shown_totals(b"[1/2 (3%)]" + log)) <= 10


# -- what comes of them

AGREE = Finding("artifact_new", True, "new")
BURST = Finding("loss_over_time", False, "94 values in 0.02 s.")


def with_rules(**levels: object) -> Assignment:
    mnist = Assignment.load("mnist")
    spec = mnist.spec.model_copy(update={"integrity": Integrity(**levels)})
    return Assignment(mnist.folder, spec)


def test_by_default_only_the_first_fails():
    rules = Integrity()
    assert (rules.artifact_new, rules.cpu_plausible, rules.loss_over_time, rules.accuracy_agrees) == (
        "fail",
        "warn",
        "warn",
        "warn",
    )


def test_a_warning_is_a_note_of_the_artifact_check():
    fact = Artifact(path="/m.pt", kind="pytorch-zip", file="artifact.bin", findings=(AGREE, BURST))
    said = checks.artifact(fact, with_rules())
    assert said.passed
    assert said.notes == ("94 values in 0.02 s.",)


def test_notes_are_told_beside_a_failure():
    idle = Finding("cpu_plausible", False, "0.1 s of processor time.")
    fact = Artifact(path="/m.pt", kind="pytorch-zip", file="artifact.bin", findings=(idle, BURST))
    said = checks.artifact(fact, with_rules(loss_over_time="fail"))
    assert (said.passed, said.message, said.notes) == (False, BURST.sentence, (idle.sentence,))
    lower = Finding("accuracy_agrees", False, "99 % claimed, 4 % right.")
    items = tuple(Prediction(f"q{at}", at % 10, (at + at // 7) % 10, "") for at in range(50))
    assert checks.predict(Predictions(items, findings=(lower,)), with_rules()).notes == (lower.sentence,)


def test_an_assignment_can_have_each_fail():
    fact = Artifact(path="/m.pt", kind="pytorch-zip", file="artifact.bin", findings=(AGREE, BURST))
    said = checks.artifact(fact, with_rules(loss_over_time="fail"))
    assert not said.passed
    assert said.message == "94 values in 0.02 s."


def test_the_accuracy_belongs_to_the_predict_check():
    items = tuple(Prediction(f"q{at}", at % 10, at % 10, "") for at in range(50))
    fact = Predictions(items, findings=(Finding("accuracy_agrees", False, "99 % claimed, 92 % right."),))
    assert checks.predict(fact, with_rules()).notes == ("99 % claimed, 92 % right.",)
    assert not checks.predict(fact, with_rules(accuracy_agrees=True)).passed


def test_true_and_false_are_still_read():
    assert Integrity(artifact_new=True).artifact_new == "fail"
    assert Integrity(artifact_new=False).artifact_new == "warn"
    with pytest.raises(ValidationError):
        Integrity(artifact_new="never")
    spec = Assignment.load("mnist").spec
    again = AssignmentFile.model_validate(spec.model_dump(by_alias=True) | {"integrity": {"cpu_plausible": "fail"}})
    assert again.integrity.cpu_plausible == "fail"


def test_findings_go_to_json_and_back():
    facts = IntegrityFacts((AGREE, BURST))
    assert from_json(IntegrityFacts, to_json(facts)) == facts


def test_no_sentence_accuses():
    accusing = re.compile(r"cheat|forg|fake|fraud|lie[sd]?\b|dishonest|suspic|作弊", re.I)
    for run in (RUN, replace(RUN, seconds=0.2, cpu_s=0.01)):
        for times in (spread(94, 0.1, 0.11), spread(94, 1, 50)):
            told = integrity.after_training(
                run, curve(times, 14), Artifact(path="/m", state="in_image"), 2.0, integrity.images_match([60000], 9, 9)
            )
            for finding in (*told, integrity.accuracy_agrees(curve([], accuracy=0.99), answers(3))):
                assert not accusing.search(finding.sentence)
