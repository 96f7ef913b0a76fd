"""Digits in answers: every shape that was seen, what must not be read, and any bytes at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.serve.answers import Answer, check_form, read_answer

SCORES = [0.01, 0.0, 0.02, 0.0, 0.0, 0.0, 0.0, 0.95, 0.01, 0.01]
LOGITS = [-9.1, -12.0, -3.0, -4.0, -9.0, -8.0, -11.0, -0.001, -7.0, -5.5]

SEVENS = [
    "7", " 7\n", '"7"', "'7'", "7.0", "[7]", "[[7]]", "[[[7.0]]]", '["7"]', "７", "7.", "(7,)", "[7.]",
    "tensor([7])", "tensor(7)", "tensor([7], device='cuda:0')", "array([7], dtype=int64)",
    '{"digit": 7}', '{"Digit": "7"}', "{'digit': 7}", '{"predictions": [7]}', '{"prediction": 7, "confidence": 0.3}',
    '{"class": 7, "probabilities": [0.9, 0.1]}', '{"result": {"digit": 7}}', '{"code": 200, "data": {"label": "7"}}',
    '{"预测结果": 7}', '{"mnist": 7}', '{"status": "ok", "prediction": "seven"}',
    '{"7": 0.99}', '[{"7": 0.99}]', '{"7": 0.98, "1": 0.01, "9": 0.002}', '{"seven": 0.9, "one": 0.1}',
    '{"7 - seven": 0.9, "1 - one": 0.1}', '{"七": 0.9, "一": 0.1}', '{"class_7": 0.9, "class_1": 0.1}',
    '[{"label": "7", "score": 0.98}, {"label": "1", "score": 0.02}]',
    '[{"label": "1", "score": 0.02}, {"label": "7", "score": 0.98}]',
    '[["7", 0.98], ["1", 0.02]]', '[[7, 0.9], [3, 0.1]]',
    '{"predictions": [{"label": "seven", "probability": 0.5}, {"label": "two", "probability": 0.1}]}',
    json.dumps(SCORES), json.dumps([SCORES]), json.dumps(LOGITS), json.dumps({"probabilities": SCORES}),
    json.dumps({"predictions": [SCORES]}), json.dumps({str(n): score for n, score in enumerate(SCORES)}),
    json.dumps({"scores": LOGITS, "time": 0.3}), "[" + " ".join(map(str, SCORES)) + "]",
    "7 - seven", "seven", "Seven", "七", "柒", "The digit is 7", "Prediction: 7 (98.2%)", "label=7", "数字7",
    "预测结果是七",
    "这是一个 7", "结果：七。", "this one is a 7", "class_7", "digit: seven",
    "7 (0.98)", "Predicted: 7\nProbability: 0.9931\n",
    '{"outputs": [{"name": "output", "shape": [1], "datatype": "INT64", "data": [7]}]}',
    json.dumps({"model_name": "m", "outputs": [{"name": "o", "shape": [1, 10], "datatype": "FP32", "data": LOGITS}]}),
    json.dumps({"outputs": [{"name": "o", "datatype": "FP32", "data": [LOGITS]}]}),
    '{"outputs": [{"name": "embedding", "data": [1, 2, 3]}, {"name": "digit", "datatype": "BYTES", "data": ["7"]}]}',
    "\ufeff7", '[{"7": 0.99}, {"1": 0.01}]', '[{"1": 0.2}, {"7": 0.7}, {"2": 0.1}]',
]  # fmt: skip


@pytest.mark.parametrize("text", SEVENS)
def test_all_of_these_mean_seven(text) -> None:
    answer = read_answer(text.encode())
    assert answer.digit == 7, answer
    assert answer.sentence


def test_chinese_in_the_encoding_of_chinese_windows() -> None:
    assert read_answer("结果：七".encode("gb18030")).digit == 7


@pytest.mark.parametrize("digit", range(10))
def test_every_digit_in_every_way(digit) -> None:
    english = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][digit]
    chinese = "零一二三四五六七八九"[digit]
    hot = [1.0 if n == digit else 0.0 for n in range(10)]
    for text in (str(digit), english, chinese, f"{digit} - {english}", f"{digit} - {chinese}", json.dumps(hot)):
        assert read_answer(text.encode()).digit == digit, text


NOT_READ = [
    ("", "empty"), ("   \n", "empty"), ("[]", "empty"), ("{}", "empty"), ("10", "out_of_range"), ("-1", "out_of_range"),
    ("3.5", "out_of_range"), ('{"digit": 42}', "out_of_range"), ("NaN", "nan"), ("[NaN]", "nan"), ("1e999", "nan"),
    (json.dumps([float("nan")] * 10), "nan"), (json.dumps([0.1] * 10), "tie"), ('{"3": 0.5, "7": 0.5}', "tie"),
    ("[3, 7]", "several"), ("[0.1, 0.9]", "several"), ('["3", "7"]', "several"),
    (json.dumps([0.001] * 1000), "imagenet"),
    ('{"matchstick": 0.4, "hook": 0.3, "corkscrew": 0.1, "nematode": 0.05, "safety_pin": 0.01}', "imagenet"),
    ('{"644": 0.3, "600": 0.2, "512": 0.1, "7": 0.1, "3": 0.01}', "imagenet"),
    ("tabby cat", "imagenet"),
    ('[["n02123045", 0.9], ["n02124075", 0.1]]', "imagenet"),
    ('[{"label": "digital clock", "score": 0.3}, {"label": "hook", "score": 0.1}]', "imagenet"),
    ("<!DOCTYPE html><html><head><title>502 Bad Gateway</title></head></html>", "html"),
    ('{"code": 503, "type": "InternalServerException", "message": "Prediction failed"}', "error"),
    ('{"error": "division by zero"}', "error"), ('{"detail": "Not Found"}', "unreadable"), ("true", "unreadable"),
    ("null", "unreadable"), ("hello", "unreadable"), ("3 or 7", "unreadable"), ("three or seven", "unreadable"),
    ("这是一个数字", "unreadable"), ("Internal Server Error 5", "unreadable"), ('{"prediction": null}', "unreadable"),
    ('{"prediction": true}', "unreadable"), ('{"accuracy": 0.98, "time": 3}', "unreadable"),
    ('{"cat": 0.9, "dog": 0.1}', "unreadable"), ("2024-01-07", "unreadable"),
    ("[" * 5000, "unreadable"),
    ("[" * 200 + "]" * 200, "unreadable"), ("9" * 5000, "unreadable"), ("\x00\x01\x02", "unreadable"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "how"), NOT_READ)
def test_these_are_no_digit_and_say_why(text, how) -> None:
    answer = read_answer(text.encode())
    assert (answer.digit, answer.how) == (None, how), answer
    assert len(answer.sentence) < 600
    assert all(c.isprintable() for c in answer.sentence)


def test_ties_of_two_scores_are_read_as_argmax_reads_them() -> None:
    answer = read_answer(json.dumps([0, 0, 0, 0.5, 0, 0, 0, 0.5, 0, 0]).encode())
    assert (answer.digit, answer.how) == (3, "scores")
    assert "equally large" in answer.sentence


def test_what_is_too_long_is_not_looked_at() -> None:
    assert read_answer(b"7" * (1024 * 1024 + 1)).how == "too_long"


@pytest.mark.parametrize(
    ("form", "text", "digit"),
    [
        ("integer", "7", 7), ("integer", '"7"', 7), ("integer", "[7]", 7),
        ("integer", '{"digit": 7}', None),
        ("integer", "seven", None), ("integer", "12", None), ("integer", "true", None),
        ("probabilities", json.dumps(SCORES), 7), ("probabilities", json.dumps([SCORES]), 7),
        ("probabilities", "7", None),
        ("probabilities", json.dumps({str(n): score for n, score in enumerate(SCORES)}), 7),
        ("probabilities", json.dumps({"x": SCORES}), 7), ("probabilities", '{"7": 0.9}', None),
        ("kserve", '{"outputs": [{"name": "o", "data": [7]}]}', 7), ("kserve", "7", None),
        ("kserve", '{"outputs": []}', None),
        ("json:a.b[0]", '{"a": {"b": [7, 3]}, "digit": 1}', 7), ("json:a.b[0]", '{"a": {"b": []}}', None),
        ("json:$.a", '{"a": "seven"}', 7), ("json:[1].x", '[0, {"x": 7}]', 7),
        ("json:a", "7", None), ("json:a", "[7]", None),
        ("nonsense", "7", None), ("json:", "7", None),
    ],
)  # fmt: skip
def test_an_assignment_can_pin_the_form(form, text, digit) -> None:
    assert read_answer(text.encode(), "application/json", form).digit == digit


def test_forms_are_checked_where_an_assignment_is_read() -> None:
    for form in ("auto", "integer", "probabilities", "kserve", "json:a", "json:$.a[0].b", "json:[3]"):
        assert check_form(form) == form
    for form in ("", "int", "json", "json:", "json:a..b", "json:[x]"):
        with pytest.raises(UsageError, match="json:PATH"):
            check_form(form)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30) | st.sampled_from(["7", "七"]),
    lambda inner: st.lists(inner, max_size=11) | st.dictionaries(st.text(max_size=12) | st.sampled_from(
        ["digit", "outputs", "data", "prediction", "scores", "error", "label", "7", "3"]), inner, max_size=11),
    max_leaves=30,
)  # fmt: skip
FORM = st.sampled_from(["auto", "integer", "probabilities", "kserve", "json:a[0]", "json:digit"]) | st.text(max_size=10)


def check(answer: Answer) -> None:
    assert answer.digit is None or answer.digit in range(10)
    assert answer.how
    assert 0 < len(answer.sentence) < 1000


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.text(max_size=20), FORM)
def test_any_bytes(body, content_type, form) -> None:
    check(read_answer(body, content_type, form))


@settings(max_examples=300, deadline=None)
@given(JSON, FORM)
def test_any_json(value, form) -> None:
    check(read_answer(json.dumps(value).encode(), "application/json", form))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=400))
def test_any_text(text) -> None:
    check(read_answer(text.encode("utf-8", errors="surrogatepass")))


@settings(max_examples=100, deadline=None)
@given(st.permutations(range(10)), st.integers(0, 9))
def test_the_largest_score_wins_wherever_it_stands(values, place) -> None:
    scores = [value / 100 for value in values]
    scores[place] = 1.0
    assert read_answer(json.dumps([scores]).encode()).digit == place
    named = {str(n): score for n, score in enumerate(scores)}
    assert read_answer(json.dumps(named).encode()).digit == place
