"""The terminal's report as a format."""

from __future__ import annotations

from pytest_dockerlab.report.formats.base import Context, Format
from pytest_dockerlab.report.schema import Results
from pytest_dockerlab.report.terminal import render


def convert(results: Results, context: Context) -> str:
    """Return the report that `dockerlab grade` prints."""
    return render(results, context.width, context.color, context.lang)


FORMATS = (Format("terminal", "report.txt", convert, "the report that `dockerlab grade` prints"),)
