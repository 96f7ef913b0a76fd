"""Losses in free text: every number in a line that follows a loss word, in English and Chinese.

All of it works on bytes: a container's output need not be UTF-8, and decoding each line costs more than reading it.
The expressions have only bounded repeats, so a hostile line costs no more than its length.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from pytest_dockerlab.train.loss.words import Meaning, meaning

NUMBER = rb"[-+]?(?:(?:\d{1,40}\.?\d{0,40}|\.\d{1,40})(?:[eE][-+]?\d{1,4})?|(?i:nan|inf(?:inity)?))"
# 损失, 误差, 代价 in UTF-8 and 损失 in GBK
_WORD = (
    rb"[lL]oss(?:es)?|LOSS|\xe6\x8d\x9f\xe5\xa4\xb1|\xe8\xaf\xaf\xe5\xb7\xae|\xe4\xbb\xa3\xe4\xbb\xb7|\xcb\xf0\xca\xa7"
)
_LOSS_WORD = re.compile(_WORD)
# What follows the word. The number is matched once and for all (a look-ahead and a back reference: Python 3.10 has no
# atomic groups), or a long run of digits would be tried in every division.
_BEHIND = re.compile(
    rb"([\w/.\-\x80-\xff]{0,40}?)"  # the rest of the key: `_train`, `/val`, 值, a full-width colon too
    rb"(?:[ ]?[(\[]([^()\[\]\n]{1,32})[)\]])?"  # Loss (train)
    rb"(?:\s(?:at|after|for|in|on|of)\s[^:=\n]{0,32}(?=[:=]))?"  # Loss after epoch 3: 0.5
    rb"[\"'`*]{0,2}\s{0,16}"
    rb"(?:(?:[:=|>,~]|->|=>|\xef\xbc\x9a|\xef\xbc\x9d|\xe2\x86\x92|is|was|of|\xe4\xb8\xba|\xe6\x98\xaf|\xa3\xba)=?\s{0,16})?"
    rb"[\"'\[(]{0,2}(?:tensor\(|array\(|np\.float(?:16|32|64)\()?"
    rb"(?=(" + NUMBER + rb"))\3(?![\w/:]|\.\d)"
)
_EPOCH = re.compile(
    rb"(?:[eE]poch|EPOCH|(?<![a-zA-Z])[eE]p|\xe8\xbd\xae\xe6\xac\xa1|\xe5\x91\xa8\xe6\x9c\x9f)[\s:=\[(#'\"\]\xef\xbc\x9a]{0,6}"
    rb"(\d{1,7}(?:\.\d{1,9})?)|\xe7\xac\xac\s?(\d{1,7})\s?(?:/\d+)?\s?(?:\xe8\xbd\xae|\xe4\xb8\xaa|epoch)"
)
_STEP = re.compile(
    rb"(?:[sS]tep|STEP|[iI]ter(?:ation)?|ITER|[bB]atch|BATCH|\xe6\xad\xa5)[\s:=\[(#'\"\]\xef\xbc\x9a]{0,6}(\d{1,12})"
)
_PAIR = re.compile(rb"\s{0,8}\[\s{0,8}(\d{1,7}),\s{0,8}(\d{1,9})\]")  # the CIFAR tutorial's `[1,  2000] loss: 2.2`
_SEEN = re.compile(rb"\s\[(\d{1,12})/\d{1,12} \(")  # the examples' `Train Epoch: 1 [640/60000 (1%)]`: images seen
_VARYING = b"0123456789.%+"  # what differs between two lines of one print statement, and so does padding
_BEFORE = 64
_MAX_WORDS = 128  # loss words looked at in one line
_CACHE = 4096


class Hit(NamedTuple):
    """One loss in a line. `shape` is equal for all lines that one print statement makes."""

    shape: bytes
    meaning: Meaning
    span: tuple[int, int]  # where the number is


class TextReader:
    """Finds losses in lines; remembers what the keys it met mean."""

    def __init__(self) -> None:
        """Start with nothing known."""
        self._known: dict[tuple[bytes, bytes, bytes, bytes | None], Meaning | None] = {}

    def hits(self, line: bytes) -> Iterator[Hit]:
        """Yield the losses of one line, from left to right."""
        known = self._known
        reached = 0
        for found in islice(_LOSS_WORD.finditer(line), _MAX_WORDS):
            start, end = found.span()
            if start < reached:
                continue  # a part of the key before: `loss/val_loss`
            match = _BEHIND.match(line, end)
            if match is None:
                continue
            word, after, aside = found.group(), match[1], match[2]
            before = line[max(reached, start - _BEFORE) : start].translate(None, _VARYING)
            reached = match.end()
            key = (before, word, after, aside)
            try:
                means = known[key]
            except KeyError:
                if len(known) >= _CACHE:
                    known.clear()
                means = known[key] = meaning(before, word, after, aside or b"")
            if means is not None:
                yield Hit(before.translate(None, b" \t") + after, means, match.span(3))


class Position(NamedTuple):
    """Where in a line the epoch and the step are."""

    epoch: tuple[int, int] | None
    step: tuple[int, int] | None


def position(line: bytes) -> Position:
    """Return where the line names its epoch and its step."""
    pair = _PAIR.match(line)
    if pair:
        return Position(pair.span(1), pair.span(2))
    epoch = _EPOCH.search(line)
    seen = _SEEN.match(line, epoch.end()) if epoch else None
    if epoch and seen:
        return Position(epoch.span(1), seen.span(1))
    step = _STEP.search(line)
    return Position(
        epoch.span(1 if epoch.group(1) is not None else 2) if epoch else None,
        step.span(1) if step else None,
    )
