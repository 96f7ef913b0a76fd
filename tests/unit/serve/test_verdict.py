"""The verdict: one test a kind, and its order of precedence."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab.facts import Prediction, Predictions
from pytest_dockerlab.serve.verdict import KINDS, Rules, judge, margin, wants_probes

LABELS = random.Random(1).sample([label for label in range(10) for _ in range(5)], 50)
RULES = Rules()


def item(number: int, got, label=None, prefix: str = "", **more) -> Prediction:
    label = LABELS[number] if label is None else label
    return Prediction(f"{prefix}q{number:02d}", label, got, raw=str(got), status=more.pop("status", 200), **more)


def facts(got, **more) -> Predictions:
    return Predictions(tuple(item(n, one) for n, one in enumerate(got)), **more)


def wrong(count: int) -> list[int]:
    """Right answers but for the first `count`."""
    return [(label + 1) % 10 if n < count else label for n, label in enumerate(LABELS)]


def test_enough_right_is_ok_with_the_margin() -> None:
    verdict = judge(facts(wrong(3)), RULES)
    assert (verdict.ok, verdict.kind, verdict.correct, verdict.asked) == (True, "ok", 47, 50)
    assert "47 of 50 digits are right, 45 are needed" in verdict.sentence
    assert "84% to 98%" in verdict.sentence


@pytest.mark.parametrize(("count", "ok"), [(5, True), (6, False)])
def test_the_border_is_where_the_assignment_says(count, ok) -> None:
    verdict = judge(facts(wrong(count)), RULES)
    assert (verdict.ok, verdict.kind) == (ok, "ok" if ok else "too_few_right")


def test_too_few_right_names_the_mistakes_and_asks_for_probes() -> None:
    predictions = facts(wrong(30))
    verdict = judge(predictions, RULES)
    assert verdict.kind == "too_few_right"
    assert "Most frequent mistakes" in verdict.sentence
    assert wants_probes(predictions, RULES)
    assert not wants_probes(facts(LABELS), RULES)


def test_a_digit_that_is_never_answered_is_not_enough() -> None:
    predictions = facts([7 if label == 8 else label for label in LABELS])
    assert predictions.correct == 45
    verdict = judge(predictions, RULES)
    assert (verdict.ok, verdict.kind) == (False, "too_few_right")
    assert "no answer ever was 8" in verdict.sentence
    assert judge(predictions, Rules(every_class=False)).ok


def test_always_seven() -> None:
    verdict = judge(facts([7] * 50), RULES)
    assert (verdict.ok, verdict.kind) == (False, "always_same")
    assert "50 of 50 answers are 7" in verdict.sentence
    assert not wants_probes(facts([7] * 50), RULES)


def test_answers_by_a_table_of_the_order() -> None:
    verdict = judge(facts([n % 10 for n in range(50)]), RULES)
    assert (verdict.ok, verdict.kind) == (False, "order_dependent")
    assert "every 10 questions" in verdict.sentence


def test_another_answer_when_asked_again() -> None:
    probes = [item(n, (LABELS[n] + 3) % 10, prefix="again:") for n in range(5)]
    verdict = judge(facts(LABELS), RULES, probes)
    assert (verdict.ok, verdict.kind) == (False, "inconsistent")
    assert "5 of 5" in verdict.sentence
    one = judge(facts(LABELS), RULES, probes[:1])
    assert one.ok
    assert "asked twice" in one.sentence
    assert judge(facts(wrong(10)), RULES, probes[:1]).kind == "inconsistent"
    assert judge(facts(LABELS), RULES, [item(n, None, prefix="again:", error="timeout") for n in range(5)]).ok


@pytest.mark.parametrize("kind", ["inverted", "transposed"])
def test_right_for_another_kind_of_pictures(kind) -> None:
    probes = [item(n, LABELS[n], prefix=f"{kind}:") for n in range(20)]
    other = {"inverted": "transposed", "transposed": "inverted"}[kind]
    probes += [item(n, 0, prefix=f"{other}:") for n in range(20)]
    verdict = judge(facts(wrong(45)), RULES, probes)
    assert (verdict.ok, verdict.kind) == (False, kind)
    assert "right for 100%" in verdict.sentence
    assert judge(facts(LABELS), RULES, probes).ok


def test_probes_that_are_as_wrong_say_nothing() -> None:
    probes = [item(n, 0, prefix="inverted:") for n in range(20)]
    assert judge(facts(wrong(45)), RULES, probes).kind == "too_few_right"


def broken(error: str, count: int = 50, status: int | None = 200) -> Predictions:
    items = [
        item(n, None if n < count else label, error=error if n < count else None, status=status if n < count else 200)
        for n, label in enumerate(LABELS)
    ]
    return Predictions(tuple(items))


@pytest.mark.parametrize(
    ("predictions", "kind", "says"),
    [
        (broken("imagenet"), "imagenet", "ImageNet"),
        (broken("unreadable"), "unreadable", "(unreadable)"),
        (broken("error", 30, 503), "unreadable", "30 of 50"),
        (broken("refused", 40, None), "went_away", "after 10 of 50 digits: refused"),
        (broken("timeout", 50, None), "went_away", "after 0 of 50"),
        (facts(LABELS[:20], error="the container ended"), "went_away", "the container ended"),
        (Predictions(), "went_away", "No digit was asked"),
    ],
)
def test_answers_that_are_none(predictions, kind, says) -> None:
    verdict = judge(predictions, RULES)
    assert (verdict.ok, verdict.kind) == (False, kind)
    assert says in verdict.sentence


def test_one_broken_answer_among_right_ones_is_no_matter() -> None:
    assert judge(broken("timeout", 2, None), RULES).ok


def test_the_margin_of_nothing_is_empty() -> None:
    assert margin(0, 0) == ""
    assert "0%" in margin(0, 50)


ONE = st.builds(
    Prediction,
    st.sampled_from(["q00", "q01", "again:q00", "inverted:q01", "x"]),
    st.integers(0, 9),
    st.none() | st.integers(0, 9),
    st.text(max_size=20),
    error=st.none() | st.sampled_from(["imagenet", "timeout", "html"]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(ONE, max_size=30), st.lists(ONE, max_size=30), st.none() | st.text(max_size=9), st.integers(1, 30))
def test_any_facts_have_a_verdict_and_too_few_right_never_pass(items, probes, error, least) -> None:
    verdict = judge(Predictions(tuple(items), error=error), Rules(min_correct=least), probes)
    assert verdict.kind in KINDS
    assert verdict.ok == (verdict.kind == "ok")
    assert verdict.sentence
    if verdict.ok:
        assert verdict.correct >= least
