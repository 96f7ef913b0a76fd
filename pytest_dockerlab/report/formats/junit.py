"""JUnit XML: one test case a check, points as properties."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from pytest_dockerlab.report.escape import one_line, xml_text
from pytest_dockerlab.report.feedback import explain
from pytest_dockerlab.report.formats.base import Context, Format
from pytest_dockerlab.report.schema import Check, Results, points_of
from pytest_dockerlab.report.words import word


def _properties(parent: ET.Element, values: dict[str, object]) -> None:
    """Add the properties that have a value: an ungraded score is left out rather than written as 0."""
    properties = ET.SubElement(parent, "properties")
    for name, value in values.items():
        if value is not None:
            ET.SubElement(properties, "property", name=name, value=one_line(str(value)))


def _case(suite: ET.Element, check: Check, results: Results, lang: str) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        classname=one_line(results["assignment"]["name"]),
        name=one_line(check["id"]),
        time=f"{check['duration_s']:.3f}",
    )
    _properties(
        case,
        {
            "title": check["title"],
            "outcome": check["outcome"],
            "points": points_of(check, results),
            "max_points": check["max_points"],
        },
    )
    if check["outcome"] == "blocked":
        ET.SubElement(case, "skipped", message=word("blocked_by", lang, by=one_line(check["blocked_by"] or "?")))
    elif check["outcome"] != "passed":
        tag = "error" if check["outcome"] == "infra" else "failure"
        detail = ET.SubElement(case, tag, message=one_line(check["message"]), type=check["outcome"])
        detail.text = xml_text(explain(check, lang))


def convert(results: Results, context: Context) -> str:
    """Return the XML. `infra` is an `error`; the suite of an ungraded submission has no `score`."""
    outcomes = [check["outcome"] for check in results["checks"]]
    counts = {
        "tests": len(outcomes),
        "failures": outcomes.count("failed"),
        "errors": outcomes.count("infra"),
        "skipped": outcomes.count("blocked"),
    }
    root = ET.Element("testsuites")
    suite = ET.SubElement(
        root,
        "testsuite",
        {
            "name": one_line(results["assignment"]["name"]),
            **{key: str(value) for key, value in counts.items()},
            "time": f"{results['timing']['total_s']:.3f}",
        },
    )
    _properties(
        suite,
        {
            "submission": results["submission"]["name"],
            "commit": results["submission"]["commit"],
            "graded": str(results["graded"]).lower(),
            "score": results["score"],
            "max_score": results["max_score"],
            "dockerlab_version": results["dockerlab_version"],
        },
    )
    for check in results["checks"]:
        _case(suite, check, results, context.lang)
    ET.indent(root, " ")
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


FORMATS = (Format("junit", "junit.xml", convert, "JUnit XML, points as properties; no grade: an error, no score"),)
