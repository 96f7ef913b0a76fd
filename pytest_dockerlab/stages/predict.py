"""Ask the server the drawn digits; the labels are put beside the answers here, outside of every container."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence

from PIL import Image, ImageDraw

from pytest_dockerlab.data import canary
from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.facts import MAX_RAW, Prediction, Predictions
from pytest_dockerlab.serve import draw
from pytest_dockerlab.serve.base import Asker
from pytest_dockerlab.serve.verdict import Rules, wants_probes
from pytest_dockerlab.stages.context import RunContext
from pytest_dockerlab.stages.serve import Server
from pytest_dockerlab.store import write_atomic

SHEET = "digits.png"  # all digits on one page, each with its label and the answer
FOLDER = "digits"  # each digit as it was sent
COLUMNS, CELL, ZOOM = 10, 76, 2


def questions_of(context: RunContext) -> list[draw.Question]:
    """Return the digits of this submission, drawn by its seed."""
    seed = draw.seed_of(context.settings.secret, context.submission.sha256)
    questions = draw.draw(load_digits(context.settings.digits), seed, context.assignment.spec.predict.images)
    if context.assignment.spec.integrity.data_canary:
        secret = canary.of(context.store.folder, context.settings.secret, context.submission.sha256)
        questions = secret.relabel(questions)
    return questions


def run(context: RunContext, running: Server) -> Predictions:
    """Ask for the drawn digits and stop the server."""
    table = context.assignment.spec.predict
    questions = questions_of(context)
    seed = draw.seed_of(context.settings.secret, context.submission.sha256)
    rules = Rules(min_correct=table.min_correct)
    deadline = context.budget("asking digits", context.assignment.spec.timeouts.predict)
    try:
        asker, items, tried = _best(running, questions, deadline, table.concurrency, table.min_correct)
        probes = ask(running, asker, draw.again(questions, seed), deadline, table.concurrency)
        if wants_probes(Predictions(items=items), rules):
            for kind in draw.PROBES:
                probes += ask(running, asker, draw.probes(questions, kind), deadline, table.concurrency)
        gone = None if running.alive() else "the server ended while it was asked"
    finally:
        running.stop()
    keep(context, questions, items)
    times = sorted(item.ms for item in items if item.ms is not None and item.got is not None)
    return Predictions(
        items=items,
        probes=probes,
        error=gone,
        permuted=context.assignment.spec.integrity.data_canary,
        log=running.log,
        log_tail=running.watch.last_lines(),
        p50_ms=times[len(times) // 2] if times else None,
        p99_ms=times[min(len(times) - 1, int(len(times) * 0.99))] if times else None,
        asked=asker.note,
        tried=tried,
    )


def _best(
    running: Server, questions: Sequence[draw.Question], deadline: Deadline, concurrency: int, enough: int
) -> tuple[Asker, tuple[Prediction, ...], tuple[str, ...]]:
    """Ask in the server's usual way, and in its other ways (normalisations) while too few answers are right."""
    tried: list[tuple[int, Asker, tuple[Prediction, ...]]] = []
    for asker in running.askers:
        items = ask(running, asker, questions, deadline, concurrency)
        tried.append((sum(item.got == item.expected for item in items), asker, items))
        if tried[-1][0] >= enough or deadline.passed or not running.alive():
            break
    most = max(right for right, _, _ in tried)
    _, asker, items = next(one for one in tried if one[0] == most)
    others = tuple(f"{one.note}: {right} of {len(questions)}" for right, one, _ in tried if one is not asker)
    return asker, items, others


def ask(
    running: Server, asker: Asker, questions: Sequence[draw.Question], deadline: Deadline, concurrency: int
) -> tuple[Prediction, ...]:
    """Ask; what came back, each beside its label."""
    requests = [asker.make(question.png) for question in questions]
    answers = running.line.client.send(requests, deadline, concurrency=concurrency)
    items = []
    for question, answer in zip(questions, answers, strict=True):
        meant = asker.read(answer)
        items.append(
            Prediction(
                image=question.name,
                expected=question.label,
                got=meant.digit,
                raw=answer.text(MAX_RAW),
                ms=answer.ms,
                status=answer.status,
                error=None if meant.digit is not None else meant.how,
            )
        )
    return tuple(items)


def keep(context: RunContext, questions: Sequence[draw.Question], items: Sequence[Prediction]) -> None:
    """Keep the pictures as they were sent, and one page of all for people."""
    folder = context.store.file(FOLDER)
    shutil.rmtree(folder, ignore_errors=True)
    for question, item in zip(questions, items, strict=True):
        write_atomic(folder / f"{question.name}-is-{question.label}-got-{_word(item)}.png", question.png)
    write_atomic(context.store.file(SHEET), sheet(questions, items))


def _word(item: Prediction) -> str:
    return "none" if item.got is None else str(item.got)


def sheet(questions: Sequence[draw.Question], items: Sequence[Prediction]) -> bytes:
    """Return a page of all digits, `label -> answer` under each, red where they differ."""
    rows = -(-len(questions) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * CELL, rows * CELL), "white")
    pen = ImageDraw.Draw(page)
    for number, (question, item) in enumerate(zip(questions, items, strict=True)):
        left, top = number % COLUMNS * CELL, number // COLUMNS * CELL
        side = draw.SIDE * ZOOM
        picture = Image.fromarray(question.pixels).resize((side, side), Image.Resampling.NEAREST)
        page.paste(picture, (left + (CELL - side) // 2, top + 2))
        right = item.got == item.expected
        words = f"{question.name}: {item.expected} -> {'?' if item.got is None else item.got}"
        pen.text((left + 4, top + side + 4), words, fill="black" if right else "red")
    out = io.BytesIO()
    page.save(out, "PNG", optimize=True)
    return out.getvalue()


__all__ = ["SHEET", "ask", "keep", "questions_of", "run", "sheet"]
