"""`dockerlab doctor`: the findings, a line each."""

from __future__ import annotations

import json

import click

from pytest_dockerlab.doctor.finding import Finding, Status

COLOURS = {Status.OK: "green", Status.WARN: "yellow", Status.FAIL: "red"}
WIDTH = 13  # of the longest name of a check


@click.command(epilog="Example: dockerlab doctor --json")
@click.option("--json", "as_json", is_flag=True, help='Print a list of {"check", "status", "message", "fix"}.')
def doctor(as_json: bool) -> int:
    """Look at this machine: engine, builder, limits, disk, GPUs, registry, images, data.

    Each line says ok, warn (grading works, with less than it could have) or fail (nothing is graded), and the command
    that mends it. Exit status 0 where nothing fails, else 1.
    """
    from pytest_dockerlab.doctor.examine import examine
    from pytest_dockerlab.doctor.machine import look_around

    findings: list[Finding] = []
    for finding in examine(look_around()):
        findings.append(finding)
        if not as_json:
            _show(finding)
    if as_json:
        click.echo(json.dumps([finding.to_dict() for finding in findings], indent=1))
    else:
        count = {status: sum(finding.status is status for finding in findings) for status in Status}
        click.echo(f"doctor: {count[Status.OK]} ok, {count[Status.WARN]} to look at, {count[Status.FAIL]} failed")
    return 1 if any(finding.status is Status.FAIL for finding in findings) else 0


def _show(finding: Finding) -> None:
    from pytest_dockerlab.report.escape import one_line

    status = click.style(f"{finding.status.value:<4}", fg=COLOURS[finding.status])
    click.echo(f"{status}  {finding.check:<{WIDTH}} {one_line(finding.message)}")
    if finding.fix:
        click.echo(f"{'':<{6 + WIDTH}} -> {one_line(finding.fix)}")
