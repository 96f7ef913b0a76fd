"""The verdict over a server's answers. Pure: facts and rules in, a kind and a sentence out.

The facts: `Predictions.items` hold the digits that were drawn, in the order of asking. Extra questions are given apart,
as `probes`, and are told by the names that `serve.draw` gives them: `again:q07` (the same pixels in another file), and,
asked only where `wants_probes` says so, `inverted:q07` and `transposed:q07`. `Prediction.error` holds a code where
`got` is `None`: the `how` of `serve.answers.Answer`, or an error code of the client.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pytest_dockerlab.facts import Prediction, Predictions

KINDS = (
    "ok", "too_few_right", "always_same", "order_dependent", "inconsistent", "inverted", "transposed", "imagenet",
    "unreadable", "went_away",
)  # fmt: skip
WENT_AWAY = ("refused", "reset", "empty", "timeout", "not_sent", "incomplete")


@dataclass(frozen=True)
class Rules:
    """What it takes. The defaults are for 50 digits: guessing reaches 45 with a probability of 1e-39."""

    min_correct: int = 45
    every_class: bool = True  # each digit that was asked for is answered at least once, right or wrong
    same_share: float = 0.9  # so many equal answers are "always the same"
    max_differing: int = 1  # of those asked twice: rounding on a busy machine may tip one digit over, not two
    probe_share: float = 0.75  # so many right for inverted (transposed) digits, and 0.3 more than for real ones


@dataclass(frozen=True)
class PredictVerdict:
    """The verdict. The sentence has the numbers; the kind is for hints and translations."""

    ok: bool
    kind: str
    sentence: str
    correct: int = 0
    asked: int = 0


def wants_probes(predictions: Predictions, rules: Rules) -> bool:
    """Whether inverted and transposed digits should be asked: readable answers, too few right, and not all the same."""
    return judge(predictions, rules).kind == "too_few_right"


def judge(predictions: Predictions, rules: Rules, probes: Sequence[Prediction] = ()) -> PredictVerdict:
    """Return the verdict. Nothing asked is no pass."""
    items = predictions.items
    correct, asked = predictions.correct, len(items)

    def verdict(kind: str, sentence: str) -> PredictVerdict:
        return PredictVerdict(kind == "ok", kind, sentence, correct, asked)

    if not items:
        return verdict("went_away", f"No digit was asked: {predictions.error or 'nothing answered'}.")
    score = f"{correct} of {asked} digits are right, {rules.min_correct} are needed"
    readable = [item for item in items if item.got is not None]
    enough = correct >= rules.min_correct
    if not enough:
        trouble = _no_answers(predictions, score)
        if trouble is not None:
            return verdict(*trouble)
        digit, times = Counter(item.got for item in readable).most_common(1)[0]
        if times >= max(2, rules.same_share * len(readable)):
            return verdict(
                "always_same", f"{times} of {len(readable)} answers are {digit}, whatever is asked ({score})."
            )
    differing = _differing(items, probes)
    asked_twice = sum(probe.image.startswith("again:") for probe in probes)
    if not enough:
        period = _period([item.got for item in items])
        if period is not None:
            return verdict(
                "order_dependent",
                f"The answers repeat every {period} questions, whatever is asked: they depend on the order ({score}).",
            )
    if len(differing) > (rules.max_differing if enough else 0):
        first, second = differing[0]
        return verdict(
            "inconsistent",
            f"{len(differing)} of {asked_twice} pictures got another answer when they were asked again "
            f"(first {first.got}, then {second.got}): is dropout still on, or is model.eval() missing? {score}.",
        )
    if not enough:
        other = _other_kind(predictions, rules, probes)
        if other is not None:
            return verdict(other[0], f"{other[1]} ({score}).")
        return verdict("too_few_right", f"{score}. {margin(correct, asked)}{_confusions(items)}")
    never = sorted({item.expected for item in items} - {item.got for item in items})
    if rules.every_class and never:
        shown = ", ".join(map(str, never))
        return verdict("too_few_right", f"{score}, and no answer ever was {shown}: the model has lost a digit.")
    note = " One of those asked twice got another answer." if differing else ""
    return verdict("ok", f"{score}. {margin(correct, asked)}{note}")


def margin(correct: int, asked: int) -> str:
    """Return what the share says of the model: its 95 % interval (Wilson)."""
    if asked <= 0:
        return ""
    from scipy.stats import binomtest

    interval = binomtest(correct, asked).proportion_ci(0.95, method="wilson")
    low, high = f"{interval.low:.0%}", f"{interval.high:.0%}"
    return f"That is {correct / asked:.0%}; of all digits such a model gets {low} to {high} right (95 % confidence)."


def _no_answers(predictions: Predictions, score: str) -> tuple[str, str] | None:
    """Return the kind and the sentence where half of the answers or more could not be read."""
    items = predictions.items
    broken = [item for item in items if item.got is None]
    gone = [item for item in broken if item.error in WENT_AWAY]
    if predictions.error or len(gone) * 2 >= len(items):
        answered = sum(item.status is not None for item in items)
        why = predictions.error or Counter(item.error for item in gone).most_common(1)[0][0]
        return "went_away", f"The server stopped answering after {answered} of {len(items)} digits: {why} ({score})."
    foreign = [item for item in broken if item.error == "imagenet"]
    if len(foreign) * 2 >= len(items):
        return "imagenet", f"The answers name ImageNet classes, not digits, e.g. {_raw(foreign[0])} ({score})."
    if len(broken) * 2 >= len(items):
        code = Counter(item.error for item in broken).most_common(1)[0][0]
        sample = next(item for item in broken if item.error == code)
        count = f"{len(broken)} of {len(items)} answers"
        return "unreadable", f"{count} name no digit ({code or 'unreadable'}), e.g. {_raw(sample)} ({score})."
    return None


def _raw(item: Prediction) -> str:
    text = " ".join("".join(c if c.isprintable() else " " for c in item.raw).split())
    return repr(text if len(text) <= 80 else text[:79] + "…")


def _differing(items: Sequence[Prediction], probes: Sequence[Prediction]) -> list[tuple[Prediction, Prediction]]:
    """Return the pictures whose second answer is another digit. An answer that failed is no other answer."""
    first = {item.image: item for item in items}
    out = []
    for probe in probes:
        kind, _, name = probe.image.partition(":")
        one = first.get(name)
        if kind == "again" and one is not None and None not in (one.got, probe.got) and one.got != probe.got:
            out.append((one, probe))
    return out


def _period(answers: Sequence[int | None]) -> int | None:
    """Return the length of the cycle that the answers go through, 2 to 12, or `None`: shuffled digits have none."""
    for period in range(2, 13):
        pairs = list(zip(answers, answers[period:], strict=False))
        if len(pairs) < max(10, 2 * period) or len(set(answers)) < 2:
            continue
        if sum(a == b and a is not None for a, b in pairs) >= 0.95 * len(pairs):
            return period
    return None


def _other_kind(predictions: Predictions, rules: Rules, probes: Sequence[Prediction]) -> tuple[str, str] | None:
    """Return the kind of pictures for which the answers are right, where that isn't the kind that was asked."""
    words = {
        "inverted": "black on white: the digits sent are white on black, as those of MNIST are",
        "transposed": "mirrored along the diagonal: rows and columns are swapped somewhere",
    }
    share = predictions.correct / len(predictions.items)
    best: tuple[float, str] | None = None
    for kind in words:
        asked = [probe for probe in probes if probe.image.startswith(kind + ":")]
        right = sum(probe.got == probe.expected for probe in asked)
        if len(asked) >= 10 and right >= rules.probe_share * len(asked) and right / len(asked) >= share + 0.3:
            best = max(best or (0.0, ""), (right / len(asked), kind))
    if best is None:
        return None
    return best[1], f"The server is right for {best[0]:.0%} of the digits when they are {words[best[1]]}"


def _confusions(items: Sequence[Prediction]) -> str:
    """Return the most frequent mistakes, for whoever looks for the reason."""
    wrong = Counter((item.expected, item.got) for item in items if item.got not in (None, item.expected))
    if not wrong:
        return ""
    shown = ", ".join(f"{expected} read as {got} ({times}×)" for (expected, got), times in wrong.most_common(3))
    return f" Most frequent mistakes: {shown}."
