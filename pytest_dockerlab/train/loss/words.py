"""What the words around a number mean: is it a loss, whose, and is it the whole loss or a part of it."""

from __future__ import annotations

import re
from typing import NamedTuple

from pytest_dockerlab.facts import Series


class Meaning(NamedTuple):
    """What a key such as `val_loss` stands for."""

    name: str
    series: Series
    rank: int  # 0: the loss itself; 1: one component of it, taken only where nothing better is printed


_VALIDATION = r"valid(?:ation|ating|ate)?|val|vali|dev|eval(?:uation|uating|uate)?|holdout"
_TEST = r"test(?:ing|set)?"
_TRAIN = r"train(?:ing|er|set)?|fit"
_SERIES = re.compile(
    rf"(?:(?<![a-z])(?:(?P<validation>{_VALIDATION})|(?P<test>{_TEST})|(?P<train>{_TRAIN}))(?![a-z]))"
    r"|(?P<validation_joined>val(?:id)?(?=loss))|(?P<test_joined>test(?=loss))|(?P<train_joined>train(?=loss))"
    r"|(?P<validation_zh>验证|评估)|(?P<test_zh>测试)|(?P<train_zh>训练)"
)
# A number beside one of these is a setting, a record or a file name, not a reading of the loss.
_NOT_A_READING = re.compile(
    r"scal|weight|fn(?![a-z])|func|coef|type|ratio|smooth|thres|lambda|alpha|beta|gamma|log(?:ger|ging)?(?![a-z])|file"
    r"|path|dir(?![a-z])|size|count|num(?![a-z])|plot|png|csv|stop|delta|diff|improv|patience|tolerance|target|margin"
    r"|函数|权重|系数|变化|下降了"
)
_RECORD = re.compile(
    r"(?:best|lowest|min|minimum|minimal|smallest|previous|prev|old|initial|expected|最佳|最小|最低|最好|上一)"
    r"[\w\s'\"]{0,12}$"
)
_NEUTRAL = re.compile(
    r"total|average|averaged|avg|mean|running|epoch|batch|step|iter|iteration|current|cur|final|smoothed|per|my|the"
    r"|overall|cross|entropy|crossentropy|ce|nll|mse|criterion|objective|value|item|last|set|data|dataset|model|net"
    r"|log|metrics|main|sum|minibatch|global"
    r"|平均|总|当前|均值|本轮|批次|值|模型|集|的"
)
_COLUMN = re.compile(rb"(.*?)([lL]oss(?:es)?|LOSS|\xe6\x8d\x9f\xe5\xa4\xb1)(.*)\Z", re.DOTALL)
_TOKEN = re.compile(r"[\w/.@-]*\Z")
_LAST_WORD = re.compile(r"\b[^\W\d_]{1,16}\s\Z")
_PLAIN = re.compile(r"[\W\d_]+")


def series_in(text: str) -> Series | None:
    """Return the last series that the text names."""
    found = None
    for match in _SERIES.finditer(text):
        found = match.lastgroup
    return Series(found.split("_")[0]) if found else None


def meaning(before: bytes, word: bytes, after: bytes, aside: bytes) -> Meaning | None:
    """Return what a loss word means from the text before it, the rest of its key, and what stands in brackets.

    `before` reaches back to the previous loss of the line, at most some dozens of bytes. `None` says that the number
    is no reading of a loss: a scale, a weight, the best so far.
    """
    lead = decoded(before)
    token = _TOKEN.search(lead)
    prefix = token.group() if token else ""
    tail = decoded(after)
    camel = word[:1] == b"L"
    if prefix[-1:].isascii() and prefix[-1:].isalpha() and not camel and prefix[-1:].lower() in "gfbo":
        return None  # gloss, floss, blossom, colossal
    if tail[:1].isascii() and tail[:1].isalpha():
        return None  # lossless, lossy
    key = f"{prefix}{decoded(word)}{tail}".strip("/.-_")
    lowered = snake(key)
    beside = f"{lowered} {decoded(aside).lower()}"
    if _NOT_A_READING.search(beside) or _RECORD.search(lead.lower()):
        return None
    series = series_in(beside) or series_in(snake(lead[: len(lead) - len(prefix)])) or Series.TRAIN
    left = _NEUTRAL.sub("", _SERIES.sub("", lowered))
    left = _PLAIN.sub("", left.replace("losses", "").replace("loss", "").replace("损失", "").replace("误差", ""))
    beside_word = _LAST_WORD.search(lead[: len(lead) - len(prefix)])
    if beside_word and series_in(snake(beside_word.group())):
        key = f"{beside_word.group().strip()} {key}"
    return Meaning(key[:60], series, 1 if left else 0)


def column_meaning(name: bytes) -> Meaning | None:
    """Return what the loss is that a column, a key or a tag names; `None` where it names none."""
    match = _COLUMN.match(name)
    return meaning(match[1], match[2], match[3], b"") if match else None


def decoded(raw: bytes) -> str:
    """Return the bytes as text, UTF-8 or, where Chinese in GBK is seen, that."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    if b"\xcb\xf0\xca\xa7" in raw or b"\xd1\xb5\xc1\xb7" in raw:  # 损失, 训练 in GBK
        return raw.decode("gb18030", "replace")
    return raw.decode("utf-8", "ignore")


def snake(key: str) -> str:
    """Return `TrainLoss` as `train_loss`, so that word ends are seen."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower()
