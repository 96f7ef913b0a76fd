"""The checks of the second half: a server that starts from the model, and digits that come back right."""

from __future__ import annotations

from dataclasses import replace

from pytest_dockerlab.assignment import Assignment
from pytest_dockerlab.checks.base import Judgement, failed, passed
from pytest_dockerlab.checks.training import INTEGRITY_FIX, build_error
from pytest_dockerlab.facts import Predictions, Provenance, Serving
from pytest_dockerlab.integrity import told
from pytest_dockerlab.serve import verdict

KEPT = {"serve-ping.txt": "ping", "serve-prediction.txt": "canary"}  # the lab's report asks for both answers


def serve(fact: Serving) -> Judgement:
    """The server answered a prediction request in a shape that can be read."""
    if fact.ready:
        return passed(
            f"{fact.server} ({fact.layout}) answered at {fact.endpoint} after {fact.ready_s:.1f} s.",
            fact.log,
            "serve.json",
            *(name for name, key in KEPT.items() if key in fact.answers),
        )
    build = fact.image_build
    if build is not None and not build.ok:
        return failed(f"The serving image: {build_error(build)}", None, build.log)
    return failed(fact.detail or f"The server did not get ready ({fact.reason}).", fact.fix, fact.log, "serve.json")


PREDICT_FIXES = {
    "too_few_right": "Train longer, and prepare the pictures for serving exactly as for training.",
    "always_same": "See that the handler loads the trained weights, and that it uses the picture it is sent.",
    "order_dependent": "Answer from the picture alone.",
    "inconsistent": "Call `model.eval()` before you answer.",
    "inverted": "The digits are white on black, as in MNIST: do not invert them in the handler.",
    "transposed": "Do not swap rows and columns in the handler.",
    "imagenet": "Serve the model that you trained, with a handler of your own: this one is for ImageNet.",
    "unreadable": "Answer with the digit (7), or with a score for each digit.",
    "went_away": "Look at the log: the server has to answer many requests, several at a time.",
}


PERMUTED = " The labels of the training data were permuted for this run, and the answers are judged by them."


def predict(fact: Predictions, assignment: Assignment) -> Judgement:
    """At least `min_correct` of the digits come back right, and nothing about the answers says they were made up."""
    said = verdict.judge(fact, verdict.Rules(min_correct=assignment.spec.predict.min_correct), fact.probes)
    sentence = f"{said.sentence}{PERMUTED}" if fact.permuted else said.sentence
    if fact.tried:  # the pictures had to be prepared in another way than the usual one
        sentence += f" Best asked by {fact.asked}; tried as well: {'; '.join(fact.tried)}."
    failing, notes = told(fact.findings, assignment.spec.integrity)
    if not said.ok:
        judgement = failed(sentence, PREDICT_FIXES[said.kind], "predict.json", "digits.png", fact.log)
        return replace(judgement, notes=notes)
    if failing is not None:
        return replace(failed(failing, INTEGRITY_FIX, "predict.json", "integrity.json"), notes=notes)
    return passed(sentence, "predict.json", "digits.png", notes=notes)


COMPARED = 0.8  # of the digits that were asked again, so many have to be answered
FOLLOWED = 0.9  # honest servers follow all of them, but for digits between two and an unsteady machine
FROM_ARTIFACT = "Serve the model file that the training wrote, and no other that is in the image."


def provenance(fact: Provenance) -> Judgement:
    """The answers come from the artifact: they follow when the rows of its last layer are permuted."""
    if fact.state == "not_checked":
        # No evidence is no pass: the format is the student's choice, and avoiding the check must not earn its points.
        return failed(
            f"Not checked: {fact.detail}.",
            "Save the weights in a format that can be looked into: torch.save(model.state_dict(), …) or safetensors.",
            "provenance.json",
        )
    if fact.state == "not_ready":
        return failed(
            f"With the rows of {fact.layer} permuted, the server does not start any more: {fact.detail}",
            FROM_ARTIFACT,
            fact.log,
            "provenance.json",
        )
    seen = f"{fact.followed} of {fact.compared} answers followed when the rows of {fact.layer} were permuted"
    if fact.compared >= COMPARED * fact.asked > 0 and fact.followed >= FOLLOWED * fact.compared:
        return passed(f"The answers come from the artifact: {seen}.", "provenance.json", fact.log)
    still = f"; {fact.unmoved} stayed the same" if fact.unmoved else ""
    return failed(
        f"The answers do not come from the artifact: {seen}{still}.", FROM_ARTIFACT, "provenance.json", fact.log
    )
