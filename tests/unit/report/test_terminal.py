from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from pytest_dockerlab.report.terminal import render

Load = Callable[[str], dict[str, Any]]


def test_a_failure_says_why_and_how_to_mend_it(load: Load) -> None:
    text = render(load("failed"), 100, lang="zh")
    assert "训练以状态 1 结束：No module named 'torchvision'" in text
    assert "解决办法: 在 Dockerfile 中加一行 RUN pip install torchvision" in text
    assert '│   File "main.py", line 3, in <module>' in text
    assert "完整日志：train.log" in text
    assert "因 train 未通过而未执行" in text
    assert text.endswith("总分：18 / 100\n")
    assert "#1 DONE" not in text  # the log of a check that passed


def test_infra_is_no_grade(load: Load) -> None:
    text = render(load("infra"), 100)
    assert "NO GRADE" in text
    assert "score:" not in text
    assert "–/20" in text
    assert "0/" not in text.replace("20/", "")
    assert "stand-in dockerlab/cuda-standin:1" in text


@pytest.mark.parametrize("width", [20, 40, 60, 100, 200])
@pytest.mark.parametrize("color", [False, True])
def test_hostile_text_stays_text(load: Load, width: int, color: bool) -> None:
    text = render(load("hostile"), width, color)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert (bare != text) == color
    assert "\x1b" not in bare
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\ufeff]", bare)
    assert not any(line.strip().startswith("::") or "##[" in line for line in bare.splitlines())
    # Only our own last line is at the left edge and speaks of a score.
    assert [line for line in bare.splitlines() if re.match(r"\S*\s?(score|100/100)", line)] == ["score: 20 of 100"]


def test_markup_is_not_read(load: Load) -> None:
    assert "[bold red]markup[/] :smile:" in render(load("hostile"), 100)


def test_it_does_not_depend_on_the_environment(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    before = render(load("failed"), 80, True)
    for name, value in {"NO_COLOR": "1", "COLUMNS": "30", "TERM": "dumb", "FORCE_COLOR": "1"}.items():
        monkeypatch.setenv(name, value)
    assert render(load("failed"), 80, True) == before


def test_the_log_of_a_serving_image_that_did_not_build(make: Callable[..., dict[str, Any]]) -> None:
    facts = {"serve": {"ready": False, "log_tail": [], "image_build": {"ok": False, "log_tail": ["pip failed"],
                                                                        "log": "serve-build.log"}}}  # fmt: skip
    text = render(make({"serve": ("failed", 0, 10)}, facts=facts), 100)
    assert "│ pip failed" in text
    assert "full log: serve-build.log" in text
