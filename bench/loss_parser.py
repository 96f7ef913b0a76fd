"""How fast `LossReader` reads, in lines a second on one core: `python bench/loss_parser.py [--lines N]`.

The goal is 200,000 lines/s for every kind of log. Memory is that of the whole process at its highest.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from collections.abc import Callable

from pytest_dockerlab.train.loss import LossReader

GOAL = 200_000
PIECE = 64 * 1024


def falling(at: int) -> float:
    return 2.3 / (1 + at / 1000)


def example(i: int) -> str:
    return f"Train Epoch: {i // 938} [{i % 938 * 64}/60000 ({i % 938 / 9.38:.0f}%)]\tLoss: {falling(i):.6f}\n"


def logged(i: int) -> str:
    when = f"2026-01-01 12:{i // 60 % 60:02}:{i % 60:02},123"
    return f"{when} INFO train: epoch={i // 938} step={i} train_loss={falling(i):.4e} acc={i % 100}.5%\n"


def chinese(i: int) -> str:
    return f"第 {i // 100} 轮 训练损失: {falling(i):.4f} 验证损失: {falling(i):.4f} 准确率: {i % 100}%\n"


def json_line(i: int) -> str:
    return f'{{"step": {i}, "epoch": {i // 938}, "train_loss": {falling(i)!r}}}\n'


def transformers(i: int) -> str:
    return f"{{'loss': '{falling(i):.4g}', 'grad_norm': '1.2', 'learning_rate': '5e-05', 'epoch': '{i / 938:.2f}'}}\n"


def tqdm(i: int) -> str:
    at = i % 938
    bar = f"{at / 9.38:3.0f}%|{'#' * (at // 94):10}| {at}/938 [00:{i % 60:02}<00:09, 50.3it/s"
    return f"\rEpoch {i // 938}: {bar}, loss={falling(i):.6f}]"


def keras(i: int) -> str:
    at = i % 938 + 1
    bar = f"\x1b[1m{at}/938\x1b[0m \x1b[32m{'━' * (at // 47)}\x1b[0m\x1b[37m{'━' * (20 - at // 47)}\x1b[0m"
    begin = f"Epoch {i // 938 + 1}/999\n" if at == 1 else ""
    return f"{begin}\r{bar} {i % 60}s 3ms/step - accuracy: 0.91 - loss: {falling(i):.4f}"


KINDS: dict[str, Callable[[int], str]] = {
    "PyTorch example": example,
    "logging, key=value": logged,
    "Chinese, two losses": chinese,
    "JSON lines": json_line,
    "Transformers": transformers,
    "tqdm": tqdm,
    "Keras": keras,
    "table": lambda i: "epoch,train_loss\n" if i == 0 else f"{i},{falling(i):.5f}\n",
    "loss without a number": lambda i: f"computing the loss of batch number {i} now\n",
    "no loss at all": lambda i: f"2026-01-01 INFO downloaded file {i} of many, checksum {i * 7919:x}\n",
}


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--lines", type=int, default=200_000)
    lines = options.parse_args().lines
    print("| log | lines/s | MB/s | points read | kept |\n| --- | --- | --- | --- | --- |")
    slowest = float("inf")
    for name, line in KINDS.items():
        data = "".join(map(line, range(lines))).encode()
        reader = LossReader()
        began = time.process_time()
        for start in range(0, len(data), PIECE):
            reader.feed(data[start : start + PIECE], at_s=1.0)
        curve = reader.finish()
        took = time.process_time() - began
        slowest = min(slowest, lines / took)
        speed = f"{lines / took:,.0f} | {len(data) / took / 1e6:.0f}"
        print(f"| {name} | {speed} | {curve.total_points:,} | {len(curve.points):,} |", flush=True)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"\nSlowest: {slowest:,.0f} lines/s (goal: {GOAL:,}). Peak memory: {peak / 1024:.0f} MB, with the log itself."
    )
    return 0 if slowest >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
