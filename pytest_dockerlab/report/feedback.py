"""What a student is told in plain text, where another system has room for nothing richer."""

from __future__ import annotations

from pytest_dockerlab.report.escape import cut, log_line, one_line, plain
from pytest_dockerlab.report.logs import log_tail
from pytest_dockerlab.report.schema import Check, Results
from pytest_dockerlab.report.words import word


def explain(check: Check, lang: str, limit: int = 4000) -> str:
    """Return a check's message and its hints, plain, a line each."""
    lines = [plain(check["message"]).strip()]
    for hint in check["hints"]:
        lines += [f"{word(key, lang)}: {plain(hint[key]).strip()}" for key in ("cause", "fix") if hint[key]]
    return cut("\n".join(line for line in lines if line), limit)


def log_text(check: Check, results: Results, lines: int = 20) -> str:
    """Return the last lines of a check's log, plain; empty for a check that did not fail."""
    if check["outcome"] not in ("failed", "infra"):
        return ""
    return "\n".join(log_line(line) for line in log_tail(check, results, lines))


def feedback(results: Results, lang: str) -> str:
    """Return the whole grade in a few lines: the score, then each check that cost points and how to mend it.

    The first words are always ours, so a cell that holds it is never a formula.
    """
    if not results["graded"]:
        return f"{word('no_grade', lang)}: {word('no_grade_why', lang)}"
    lines = [word("score", lang, score=results["score"], max_score=results["max_score"])]
    for check in results["checks"]:
        if check["outcome"] == "failed":
            head = f"✗ {one_line(check['title'] or check['id'], 120)} ({check['points']}/{check['max_points']})"
            lines.append(f"{head}: {one_line(explain(check, lang), 800)}")
        elif check["outcome"] == "blocked":
            by = word("blocked_by", lang, by=one_line(check["blocked_by"] or "?", 60))
            lines.append(f"- {one_line(check['title'] or check['id'], 120)} (0/{check['max_points']}): {by}")
    return "\n".join(lines)
