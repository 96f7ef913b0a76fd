"""`dockerlab loss LOG`: the reading and the verdict of the grader, over any training log."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from pytest_dockerlab.errors import UsageError
from pytest_dockerlab.facts import LossCurve, Series

_USAGE = 4  # the exit status of pytest for wrong usage, ours too


class _Exit4(click.ClickException):
    exit_code = _USAGE


class _Wrong(click.UsageError):
    exit_code = _USAGE


class _Command(click.Command):
    """Wrong usage ends with 4, as pytest's does, and not with click's 2."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            raise _Wrong(error.format_message(), error.ctx) from error


@click.command(
    "loss",
    cls=_Command,
    epilog="Example: docker logs my-training 2>&1 | dockerlab loss - --plot loss.svg",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.argument("log")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.option(
    "--plot", type=click.Path(dir_okay=False, path_type=Path), help="Draw the curve into FILE (.svg or .png)."
)
@click.option("--series", type=click.Choice([item.value for item in Series]), default="train", show_default=True)
@click.option("--min-points", type=int, help="Fewest readings that are judged (default 5).")
@click.option("--min-relative-drop", type=float, help="Share by which the loss has to fall (default 0.3).")
@click.option("--alpha", type=float, help="Largest p-value that counts as a fall (default 0.04).")
def loss(
    log: str,
    as_json: bool,
    plot: Path | None,
    series: str,
    min_points: int | None,
    min_relative_drop: float | None,
    alpha: float | None,
) -> None:
    """Read the loss curve from LOG (`-`: standard input) and say what it did.

    LOG is anything that a training run printed (PyTorch, Keras, Lightning, Transformers, fastai, tqdm, JSON lines,
    plain prints in English or Chinese), or a metrics file: metrics.csv, *.jsonl, trainer_state.json, a TensorBoard
    event file. Exit status: 0 the loss decreased, 1 it did not, 4 wrong usage.
    """
    from pytest_dockerlab.train.sparkline import sparkline
    from pytest_dockerlab.train.trend import LossRules, judge

    options: dict[str, Any] = {"min_points": min_points, "min_relative_drop": min_relative_drop, "alpha": alpha}
    given = {name: value for name, value in options.items() if value is not None}
    try:
        rules = LossRules(series=Series(series), **given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise _Exit4(f"{option}: {first['msg']}, not {first['input']!r}") from error
    if plot is not None and plot.suffix.lower() not in {".svg", ".png"}:
        raise _Exit4(f"--plot {plot}: the name has to end in .svg or .png")
    curve = _read(log)
    verdict = judge(curve, rules)
    if plot is not None:
        _draw(plot, curve, rules.series, verdict)
    if as_json:
        click.echo(
            json.dumps(
                {
                    "verdict": verdict.kind.value,
                    "source": curve.source,
                    "points": max(curve.told(rules.series), verdict.points),
                    "first": _plain(verdict.first),
                    "last": _plain(verdict.last),
                    "relative_drop": _plain(verdict.relative_drop),
                    "sentence": verdict.sentence,
                    "detail": verdict.detail,
                    "p_value": _plain(verdict.p_value),
                    "claimed_accuracy": curve.claimed_accuracy,
                    "claimed_epochs": curve.claimed_epochs,
                },
                ensure_ascii=False,
            )
        )
    else:
        click.echo(f"{verdict.kind.value}: {verdict.sentence}")
        values = curve.values(rules.series)
        if values:
            click.echo(f"  {sparkline(values)}  {curve.name or 'loss'} ({curve.source})")
        if not verdict.ok:
            for line in curve.near_misses:
                click.echo(f"  near: {line}")
    sys.exit(0 if verdict.ok else 1)


def _read(log: str) -> LossCurve:
    from pytest_dockerlab.train.loss import read_log, read_metrics

    if log == "-":
        return read_log(sys.stdin.buffer)
    path = Path(log)
    try:
        if path.suffix in {".csv", ".jsonl", ".json"} or "tfevents" in path.name:
            from pytest_dockerlab.train.loss.metrics import MAX_FILE

            with path.open("rb") as stream:
                found = read_metrics({path.name: stream.read(MAX_FILE)})
            if found is not None and found.points:
                return found
            if found is not None and found.near_misses:
                raise _Exit4(found.near_misses[0])
        return read_log(path)
    except OSError as error:
        raise _Exit4(f"{log}: {error.strerror or error}") from error


def _draw(path: Path, curve: LossCurve, series: Series, verdict: object) -> None:
    from pytest_dockerlab.train.plot import plot_png, plot_svg
    from pytest_dockerlab.train.trend import Verdict

    assert isinstance(verdict, Verdict)
    draw = plot_png if path.suffix.lower() == ".png" else plot_svg
    try:
        path.write_bytes(draw(curve, verdict, series))
    except UsageError as error:
        raise _Exit4(str(error)) from error
    except OSError as error:
        raise _Exit4(f"--plot {path}: {error.strerror or error}") from error


def _plain(value: float | None) -> float | None:
    """JSON has no infinity."""
    return value if value is None or math.isfinite(value) else None
