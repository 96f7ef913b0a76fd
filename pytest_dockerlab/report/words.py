"""The few words that reports add to what the checks said, in English and Chinese."""

from __future__ import annotations

_WORDS: dict[str, tuple[str, str]] = {
    "check": ("check", "检查项"),
    "points": ("points", "得分"),
    "result": ("result", "结果"),
    "passed": ("passed", "通过"),
    "failed": ("failed", "未通过"),
    "blocked": ("blocked", "未执行"),
    "infra": ("no grade", "未评分"),
    "blocked_by": ("blocked by {by}", "因 {by} 未通过而未执行"),
    "score": ("score: {score} of {max_score}", "总分：{score} / {max_score}"),
    "no_grade": ("no grade", "未评分"),
    "no_grade_why": (
        "The grading system failed, not the submission. No points were taken; it can be graded again.",
        "出错的是评分系统，而不是提交的作业。没有扣分，可以重新评分。",
    ),
    "not_all_run": (
        "Only a part of the checks ran. Run all of them for a grade.",
        "只运行了一部分检查项。运行全部检查项才能得到成绩。",
    ),
    "cause": ("cause", "原因"),
    "fix": ("fix", "解决办法"),
    "last_lines": ("the last lines of the log", "日志的最后几行"),
    "full_log": ("full log: {file}", "完整日志：{file}"),
    "stand_in": (
        "{name} was replaced by the stand-in {by}: this grade says nothing about the real image.",
        "{name} 被替身镜像 {by} 取代：此成绩不能说明真实镜像的情况。",
    ),
    "replaced": ("{name} was replaced by {by}.", "{name} 被 {by} 取代。"),
    "loss": ("Training loss", "训练损失"),
    "loss_first": ("first", "最初"),
    "loss_last": ("last", "最后"),
    "loss_low": ("lowest", "最低"),
    "loss_points": ("points", "数据点"),
    "details": ("Details", "详情"),
    "submission": ("submission", "提交"),
    "left_out": ("The rest was left out: the summary has a size limit.", "其余内容因摘要大小限制而省略。"),
}

LANGUAGES = ("en", "zh")


def word(key: str, lang: str, **values: object) -> str:
    """Return a phrase in a language, `en` for any that we don't speak."""
    english, chinese = _WORDS[key]
    return (chinese if lang.lower().startswith("zh") else english).format(**values)
