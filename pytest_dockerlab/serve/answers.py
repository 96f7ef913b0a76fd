"""Read a digit from what a student's server answered.

Students' handlers answer in many shapes, and all of these mean seven: `7`, `"7"`, `[7]`, `[[7]]`, `{"digit": 7}`,
`{"predictions": [7]}`, `{"7": 0.98, "1": 0.01}`, `[{"label": "7", "score": 0.98}]`, ten numbers with the eighth
largest, `"7 - seven"`, `seven`, `七`, and KServe v2's `outputs`. An assignment may pin the form instead.

What is guaranteed: `read_answer` never raises, whatever the bytes; it looks at no more than `MAX_BYTES`; and it reads
nothing into an answer that could mean two digits. What it cannot read has `digit=None` and says what was expected.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.serve.labels import digit_in, is_digit_name, is_imagenet

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 8
FORMS = ("auto", "integer", "probabilities", "kserve", "json:PATH")
EXPECTED = 'a digit: 7, "7", {"7": 0.98, …}, {"prediction": 7} or ten scores'

# In the order of trust: a handler that names a digit beside its scores means the digit.
DIGIT_KEYS = (
    "digit", "predicted_digit", "prediction", "predictions", "predicted_class", "predicted_label", "predicted", "pred",
    "preds", "class", "class_id", "class_index", "classes", "class_name", "label", "labels", "category", "number",
    "result", "results", "answer", "output", "outputs", "value", "top1", "y", "data", "response", "body", "instances",
    "预测", "预测结果", "预测数字", "结果", "数字", "类别", "标签", "识别结果",
)  # fmt: skip
SCORE_KEYS = (
    "probabilities", "probability", "probs", "prob", "scores", "score", "logits", "softmax", "confidences",
    "confidence", "log_probabilities", "概率", "置信度",
)  # fmt: skip
ERROR_KEYS = ("error", "exception", "traceback", "message", "错误")


@dataclass(frozen=True)
class Answer:
    """What an answer means. `how` is a code: how the digit was found, or why there is none.

    How: `integer`, `text`, `scores`, `labels`, `field`, `kserve`. Why not: `imagenet`, `empty`, `html`, `error`, `nan`,
    `tie`, `several`, `out_of_range`, `too_long`, `form`, `unreadable`.
    """

    digit: int | None
    how: str
    sentence: str


class _No(Exception):
    """A value cannot be read; `how` and the sentence of the answer."""

    def __init__(self, how: str, sentence: str) -> None:
        super().__init__(how)
        self.answer = Answer(None, how, sentence)


def check_form(form: str) -> str:
    """Return a form that an assignment pinned; raises `UsageError` that names the valid ones."""
    if form in FORMS[:-1] or (form.startswith("json:") and _path(form[5:]) is not None):
        return form
    raise UsageError(
        f"answer form {form!r} is not one of {', '.join(FORMS)} (PATH as in result.digit or items[0].label)"
    )


def read_answer(body: bytes, content_type: str = "", form: str = "auto") -> Answer:
    """Return what an answer means. Never raises."""
    try:
        if len(body) > MAX_BYTES:
            raise _No("too_long", f"The answer is {len(body)} bytes long; expected {EXPECTED}.")
        text = _decode(body).strip().strip("\0")
        if not text:
            raise _No("empty", f"The answer is empty; expected {EXPECTED}.")
        if _is_html(text, content_type):
            raise _No("html", f"The answer is an HTML page ({_short(_title(text))}); expected {EXPECTED}.")
        return _READERS.get(form.partition(":")[0], _read_unknown)(text, form)
    except _No as no:
        return no.answer
    except RecursionError:
        return Answer(None, "unreadable", f"The answer is nested too deeply; expected {EXPECTED}.")


def _read_auto(text: str, _: str) -> Answer:
    found, value = _parse(text)
    return _value(value, 0) if found else _text(text)


def _read_integer(text: str, _: str) -> Answer:
    found, value = _parse(text)
    value = _unwrap(value if found else text)
    plain = value.strip() if isinstance(value, str) else value
    if isinstance(plain, str) and re.fullmatch(r"[0-9]", plain):
        return Answer(int(plain), "integer", f"The answer is {plain}.")
    if isinstance(plain, int) and not isinstance(plain, bool):
        return _number(plain)
    raise _No("form", f"The assignment asks for one integer from 0 to 9; the answer is {_short(text)}.")


def _read_scores(text: str, _: str) -> Answer:
    found, value = _parse(text)
    value = _unwrap(value) if found else None
    if isinstance(value, dict) and len(value) == 1:
        value = _unwrap(next(iter(value.values())))
    if isinstance(value, list) and len(value) == 10 and all(_is_number(one) for one in value):
        return _scores(value)
    if isinstance(value, dict) and len(value) == 10 and all(_is_number(one) for one in value.values()):
        return _names(value)
    raise _No("form", f"The assignment asks for ten probabilities; the answer is {_short(text)}.")


def _read_kserve(text: str, _: str) -> Answer:
    found, value = _parse(text)
    if found and isinstance(value, dict) and isinstance(value.get("outputs"), list):
        return _kserve(value["outputs"])
    raise _No("form", f"The assignment asks for a KServe v2 answer with `outputs`; the answer is {_short(text)}.")


def _read_path(text: str, form: str) -> Answer:
    found, value = _parse(text)
    steps = _path(form[5:])
    for step in steps or ():
        inside = isinstance(value, dict) if isinstance(step, str) else isinstance(value, list)
        try:
            value = value[step] if inside else None
        except (KeyError, IndexError):
            found = False
        found = found and inside
    if not found or steps is None:
        raise _No("form", f"The assignment asks for a digit at {form[5:]}; the answer is {_short(text)}.")
    return _value(value, 0)


def _read_unknown(_: str, form: str) -> Answer:
    raise _No("form", f"The form {_short(form)} is not one of {', '.join(FORMS)}.")


_READERS: Mapping[str, Callable[[str, str], Answer]] = {
    "auto": _read_auto,
    "integer": _read_integer,
    "probabilities": _read_scores,
    "kserve": _read_kserve,
    "json": _read_path,
}


# --- bytes to values ----------------------------------------------------------------------------------------


def _decode(body: bytes) -> str:
    for encoding in ("utf-8-sig", "gb18030"):
        try:
            return body.decode(encoding)
        except UnicodeDecodeError:
            continue
    return body.decode("latin-1")


def _is_html(text: str, content_type: str) -> bool:
    head = text[:300].lower()
    return head.startswith(("<!doctype html", "<html", "<head", "<body")) or (
        "html" in content_type.lower() and head.startswith("<")
    )


def _title(text: str) -> str:
    match = re.search(r"<(?:title|h1)[^>]{0,100}>([^<]{0,100})", text[:20000], re.IGNORECASE)
    return match.group(1).strip() if match else "no title"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)[:400]
    clean = "".join(c if c.isprintable() else " " for c in text[:400]).strip()
    return clean if len(clean) <= 120 else clean[:119] + "…"


def _parse(text: str) -> tuple[bool, Any]:
    """Return whether the text is JSON, or what Python prints for such a value, and the value."""
    candidates = [text]
    if len(text) <= 4096:
        inner = re.sub(r"^(?:tensor|array)\((.*?)(?:,\s*(?:dtype|device)=[^)]*)?\)$", r"\1", text, flags=re.DOTALL)
        candidates += [inner, re.sub(r",\s*\)$", ")", inner).replace("(", "[").replace(")", "]").replace("'", '"')]
        if re.fullmatch(r"[\[\]\s0-9.eE+\-naif]+", inner) and re.search(r"[0-9]\.?\s+[-0-9n]", inner):
            candidates.append(re.sub(r"\.(?=[\s,\]])", ".0", re.sub(r"(?<=[0-9.nf])\s+(?=[-0-9nai])", ",", inner)))
    for candidate in candidates:
        try:
            return True, json.loads(candidate)
        except ValueError:
            continue
    return False, None


def _path(text: str) -> list[str | int] | None:
    """Return the steps of `a.b[0].c`, or `None` where it is no path."""
    if not re.fullmatch(r"\$?\.?(?:[^.\[\]]+|\[[0-9]{1,6}\])(?:\.[^.\[\]]+|\[[0-9]{1,6}\])*", text) or text in (
        "$",
        "$.",
    ):
        return None
    steps = re.findall(r"\[([0-9]+)\]|([^.\[\]]+)", re.sub(r"^\$\.?", "", text))
    return [int(index) if index else name for index, name in steps]


# --- values to digits ---------------------------------------------------------------------------------------


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _unwrap(value: Any) -> Any:
    """Return the one item of lists of one item: a batch of one image."""
    for _ in range(MAX_DEPTH):
        if not (isinstance(value, list) and len(value) == 1):
            break
        value = value[0]
    return value


def _number(value: float) -> Answer:
    if isinstance(value, float) and not math.isfinite(value):
        raise _No("nan", f"The answer is {value}, which is no digit.")
    if value == int(value) and 0 <= value <= 9:
        return Answer(int(value), "integer", f"The answer is {int(value)}.")
    raise _No("out_of_range", f"The answer is {_short(str(value)[:40])}, which is no digit from 0 to 9.")


def _text(text: str) -> Answer:
    digit = digit_in(text)
    if digit is not None:
        return Answer(digit, "text", f"The answer {_short(text)!r} names the digit {digit}.")
    if is_imagenet(text):
        raise _imagenet([text])
    raise _No("unreadable", f"No digit can be read from {_short(text)!r}; expected {EXPECTED}.")


def _imagenet(names: Sequence[object]) -> _No:
    shown = ", ".join(_short(str(name)[:60]) for name in list(names)[:3])
    return _No(
        "imagenet",
        f"The answer names ImageNet classes ({shown}), not digits: the server runs a stock image classifier, "
        "or a handler that maps its classes with ImageNet's names.",
    )


def _scores(values: Sequence[float]) -> Answer:
    """Return the place of the largest of ten scores: probabilities, log-probabilities or logits."""
    if any(isinstance(value, float) and math.isnan(value) for value in values):
        raise _No("nan", "The ten scores hold NaN: the model computes no number.")
    top = max(values)
    places = [index for index, value in enumerate(values) if value == top]
    if len(places) == len(values):
        raise _No("tie", f"All {len(values)} scores are equal, so they name no digit.")
    if len(places) > 1:  # what every argmax does; a rounded softmax can really tie
        return Answer(places[0], "scores", f"{places[0]} is the first of {len(places)} equally large scores.")
    return Answer(places[0], "scores", f"{places[0]} has the largest of ten scores.")


def _names(table: Mapping[Any, Any]) -> Answer:
    """Return the name with the largest score: `{"7": 0.98, "1": 0.01}`."""
    scored = [(name, score) for name, score in table.items() if not (isinstance(score, float) and math.isnan(score))]
    if not scored:
        raise _No("nan", "All scores are NaN: the model computes no number.")
    top = max(score for _, score in scored)
    best = [name for name, score in scored if score == top]
    digits = {digit_in(str(name)) for name in best}
    if len(digits) > 1:
        raise _No("tie", f"The classes {_short(', '.join(map(str, best)))} have the same score.")
    digit = digits.pop()
    if digit is None:
        raise _No("unreadable", f"The class {_short(str(best[0]))!r} is no digit; expected {EXPECTED}.")
    return Answer(digit, "labels", f"{digit} has the largest score of {len(table)} named classes.")


def _foreign(names: Sequence[Any]) -> bool:
    """Whether class names are those of another task: ImageNet's, by name, synset or index."""
    texts = [str(name).strip() for name in names]
    if any(is_imagenet(text) for text in texts):
        return True
    indexes = [int(text) for text in texts if re.fullmatch(r"[0-9]{1,3}", text)]
    return len(indexes) == len(texts) >= 2 and max(indexes) > 9


def _list(values: list[Any], depth: int) -> Answer:
    if not values:
        raise _No("empty", f"The answer is an empty list; expected {EXPECTED}.")
    if len(values) == 1:
        return _value(values[0], depth + 1)
    if all(_is_number(value) for value in values):
        if len(values) == 10:
            return _scores(values)
        if len(values) in (1000, 1001):
            raise _No("imagenet", f"The answer holds {len(values)} scores, as many as ImageNet has classes, not ten.")
        raise _No("several", f"The answer holds {len(values)} numbers; expected one digit, or ten scores.")
    pairs = _pairs(values)
    if pairs is not None:
        return _table(pairs)
    raise _No("several", f"The answer holds {len(values)} things for one image; expected {EXPECTED}.")


def _pairs(values: list[Any]) -> dict[str, float] | None:
    """Return the classes and scores of `[{"label": "7", "score": .98}, …]`, `[["7", .98], …]` or `[{"7": .98}, …]`."""
    table: dict[str, float] = {}
    for value in values[:1001]:
        if isinstance(value, dict) and len(value) == 1 and is_digit_name(str(next(iter(value)))):
            [(name, score)] = value.items()
        elif isinstance(value, dict):
            lowered = {str(key).lower(): item for key, item in value.items()}
            name = next((lowered[key] for key in DIGIT_KEYS if isinstance(lowered.get(key), (str, int))), None)
            score = next((lowered[key] for key in SCORE_KEYS if _is_number(lowered.get(key))), None)
        elif isinstance(value, list) and len(value) == 2:
            name, score = value
        else:
            return None
        if not isinstance(name, (str, int)) or score is None or not _is_number(score):
            return None
        table[str(name)] = score
    return table


def _table(table: Mapping[Any, Any]) -> Answer:
    if _foreign(list(table)):
        raise _imagenet(list(table))
    return _names(table)


def _dict(value: Mapping[Any, Any], depth: int) -> Answer:
    if not value:
        raise _No("empty", f"The answer is an empty object; expected {EXPECTED}.")
    if isinstance(value.get("outputs"), list) and all(
        isinstance(one, dict) and "data" in one for one in value["outputs"]
    ):
        return _kserve(value["outputs"])
    if all(_is_number(score) for score in value.values()) and (
        all(is_digit_name(str(name)) for name in value) or _foreign(list(value))
    ):
        return _table(value)
    lowered = {str(key).strip().lower(): item for key, item in value.items()}
    problem: _No | None = None
    for key in (*DIGIT_KEYS, *SCORE_KEYS[:5], "scores", "logits", "softmax", "概率"):
        if key not in lowered:
            continue
        try:
            inner = _value(lowered[key], depth + 1)
        except _No as no:
            problem = problem or no
            continue
        return Answer(inner.digit, inner.how if inner.how in ("scores", "labels") else "field", inner.sentence)
    for key in ERROR_KEYS:
        if key in lowered:
            raise _No("error", f"The server answers with an error: {_short(lowered[key])}.")
    if problem is not None:
        raise problem
    if len(value) == 1 and next(iter(lowered)) not in (*SCORE_KEYS, "code", "status"):
        return _value(next(iter(value.values())), depth + 1)
    if all(_is_number(score) for score in value.values()) and any(is_digit_name(str(name)) for name in value):
        return _names(value)
    raise _No("unreadable", f"No digit can be read from {_short(dict(value))}; expected {EXPECTED}.")


def _kserve(outputs: list[Any]) -> Answer:
    """Return the digit of KServe v2 outputs: the first one that can be read, those with a telling name first."""
    tensors = [one for one in outputs[:100] if isinstance(one, dict)]
    tensors.sort(key=lambda one: 0 if str(one.get("name", "")).lower() in DIGIT_KEYS else 1)
    problem = _No("form", "The KServe v2 answer has no outputs with data.")
    for tensor in tensors:
        try:
            inner = _value(tensor.get("data"), 1)
        except _No as no:
            problem = no
            continue
        return Answer(inner.digit, "kserve", f"Output {_short(str(tensor.get('name')))!r}: {inner.sentence}")
    raise problem


def _value(value: Any, depth: int) -> Answer:
    if depth > MAX_DEPTH:
        raise _No("unreadable", f"The answer is nested too deeply; expected {EXPECTED}.")
    if isinstance(value, bool) or value is None:
        raise _No("unreadable", f"The answer is {json.dumps(value)}; expected {EXPECTED}.")
    if isinstance(value, (int, float)):
        return _number(value)
    if isinstance(value, str):
        found, inner = _parse(value) if depth < 2 and value[:1] in "[{" else (False, None)
        return _value(inner, depth + 1) if found else _text(value)
    return _list(value, depth) if isinstance(value, list) else _dict(value, depth)
