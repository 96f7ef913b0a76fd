"""Seconds from `docker run` to the first right answer: TorchServe as the course starts it, and as the harness does.

    python bench/serve.py [--rounds 5] [--json FILE]

Rows: `naive` is the course's command (`torchserve --start --models mnist=mnist.mar`, defaults, a handler on
TorchServe's ImageClassifier); `ours, same handler` is the same archive under our configuration; `ours` is the reference
solution's handler, which imports PIL, numpy and torch only. Rounds are interleaved, numbers are medians. Everything
runs without a network and is asked through our client container, whose host name resolves for all rows (on a bridge it
does too).

The parts are told by the container's log: JVM (`docker run` until `/ping` answers), worker (Python and TorchServe's own
imports, of which `import torch` is told apart), model (the handler's imports and the weights), and the first answer.
"""

from __future__ import annotations

import argparse
import functools
import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from pytest_dockerlab import paths, sandbox
from pytest_dockerlab.assignment import Limits
from pytest_dockerlab.data.digits import load_digits
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.engine.docker import DockerEngine
from pytest_dockerlab.engine.labels import run_labels
from pytest_dockerlab.images import names
from pytest_dockerlab.serve import mar
from pytest_dockerlab.serve.base import Line, ServeOptions, server
from pytest_dockerlab.serve.http import ExecHttpClient, HttpAnswer, HttpRequest
from pytest_dockerlab.stages import harness
from pytest_dockerlab.stages.serve_layouts import STORE, Plan, ours

TARGET = 0.7
COURSE_HANDLER = b"""
from torchvision import transforms
from ts.torch_handler.image_classifier import ImageClassifier


class MNISTDigitClassifier(ImageClassifier):
    image_processing = transforms.Compose([transforms.Grayscale(), transforms.ToTensor()])

    def postprocess(self, data):
        return data.argmax(1).tolist()
"""
WEIGHTS = """
import sys; sys.path.insert(0, "/w")
import numpy as np, torch
from model import Net
data = np.load("/w/digits.npz")
x = torch.from_numpy(data["x"]).float().div(255).unsqueeze(1); y = torch.from_numpy(data["y"]).long()
torch.manual_seed(0); net = Net(); opt = torch.optim.Adam(net.parameters(), lr=2e-3)
for _ in range(40):
    opt.zero_grad(); loss = torch.nn.functional.nll_loss(net(x), y); loss.backward(); opt.step()
torch.save(net.state_dict(), "/w/mnist_cnn.pt")
"""
MARKS = {"worker": "Torch worker started", "model": "WORKER_STARTED -> WORKER_MODEL_LOADED"}


def archives(image: str, folder: Path) -> dict[str, Path]:
    """Fit a network to the pool of digits in the image's own torch, and archive it with either handler."""
    source = paths.bundled("assignments", "mnist", "solution", "serve")
    model, light = (source / "model.py").read_bytes(), (source / "handler.py").read_bytes()
    (folder / "model.py").write_bytes(model)
    digits = load_digits()
    np.savez(folder / "digits.npz", x=np.stack([d.pixels for d in digits]), y=np.array([d.label for d in digits]))
    folder.chmod(0o777)
    run = ["docker", "run", "--rm", "--network=none", "--user=0", "-v", f"{folder}:/w", "--entrypoint=python3", image]
    subprocess.run([*run, "-c", WEIGHTS], check=True)
    made = {}
    for name, handler in (("course", COURSE_HANDLER), ("light", light)):
        made[name] = folder / f"{name}.mar"
        files = {"model.py": model, "handler.py": handler, "mnist_cnn.pt": folder / "mnist_cnn.pt"}
        mar.write(made[name], "mnist", "mnist_cnn.pt", "handler.py", "model.py", files)
    return made


def once(engine: DockerEngine, run_id: str, images: tuple[str, str], plan: Plan) -> dict[str, float]:
    """Start once; the seconds of each part."""
    client_image, image = images
    labels = run_labels(run_id, "bench")
    client = engine.create(
        replace(sandbox.client(client_image, labels, 300), hostname="dockerlab", extra_hosts={"dockerlab": "127.0.0.1"})
    )
    made = [client]
    seen: dict[str, float] = {}
    log: list[bytes] = []
    try:
        engine.start(client)
        config = engine.image(image)
        assert config is not None
        began = time.monotonic()
        spec = sandbox.server(image, config, Limits(), labels, client, entrypoint=plan.entrypoint, command=plan.command)
        container = engine.create(spec)
        made.append(container)
        harness.put(SimpleNamespace(engine=engine), container, plan.files)  # type: ignore[arg-type]
        stream = engine.output(container)

        def pump() -> None:
            for chunk in stream:
                log.append(chunk)
                text = b"".join(log[-3:]).decode("utf-8", "replace")
                for part, mark in MARKS.items():
                    if part not in seen and mark in text:
                        seen[part] = time.monotonic() - began

        engine.start(container)
        threading.Thread(target=pump, daemon=True).start()
        http = ExecHttpClient(functools.partial(engine.exec, client))

        class Timed:
            """The client, which notes when the first answer came."""

            def send(
                self, requests: Sequence[HttpRequest], deadline: Deadline, *, concurrency: int = 1
            ) -> list[HttpAnswer]:
                answers = http.send(requests, deadline, concurrency=concurrency)
                if answers[0].status is not None:
                    seen.setdefault("jvm", time.monotonic() - began)
                return answers

            listening = staticmethod(http.listening)

        digit = load_digits()[0]
        tail = lambda: b"".join(log).decode("utf-8", "replace")[-20_000:]  # noqa: E731
        ready = server("torchserve").open(Line(Timed(), tail), plan.options, digit.png, Deadline.after(90))
        assert ready.ready, (ready.reason, ready.detail, tail()[-2000:])
        seen["first answer"] = time.monotonic() - began
        asker = ready.askers[0]
        [answer] = http.send([asker.make(digit.png)], Deadline.after(10))
        assert asker.read(answer).digit == digit.label, answer.text()
    finally:
        for one in reversed(made):
            engine.remove(one)
    parts, last = {"total": seen["first answer"]}, 0.0
    for part in ("jvm", "worker", "model", "first answer"):
        at = max(last, seen.get(part, last))
        parts[part], last = at - last, at
    return parts


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    name = "pytorch/torchserve:0.12.0-cpu"
    image = names.resolve(name, *names.user_maps()) or name
    run_id = f"bench-{uuid.uuid4().hex[:12]}"
    with tempfile.TemporaryDirectory() as folder, DockerEngine() as engine:
        made = archives(image, Path(folder))
        options = ServeOptions()
        empty = Plan("handler", "torchserve", image, options)
        command = ("--start", "--foreground", "--disable-token-auth", "--model-store", f"/{STORE}")
        naive = replace(
            empty,
            entrypoint=("torchserve",),
            command=(*command, "--models", "mnist=mnist.mar"),
            files={f"{STORE}/mnist.mar": made["course"]},
        )
        rows = {
            "naive": naive,
            "ours, same handler": ours(empty, made["course"], "mnist"),
            "ours": ours(empty, made["light"], "mnist"),
        }
        found: dict[str, list[dict[str, float]]] = {row: [] for row in rows}
        for _ in range(args.rounds):
            for row, plan in rows.items():
                found[row].append(once(engine, run_id, ("dockerlab/client:latest", image), plan))
    medians = {
        row: {part: statistics.median(one[part] for one in rounds) for part in rounds[0]}
        for row, rounds in found.items()
    }
    script = "import time; t = time.monotonic(); import torch; print(time.monotonic() - t)"
    call = ["docker", "run", "--rm", "--network=none", "--entrypoint=python3", image, "-c", script]
    torch_s = statistics.median(
        float(subprocess.run(call, check=True, capture_output=True, text=True).stdout) for _ in range(3)
    )
    columns = ("total", "jvm", "worker", "model", "first answer")
    print(f"{'seconds, median of ' + str(args.rounds):24}" + "".join(f"{column:>14}" for column in columns))
    for row, parts in medians.items():
        print(f"{row:24}" + "".join(f"{parts[column]:14.2f}" for column in columns))
    print(f"`import torch` alone, in the same image: {torch_s:.2f} s")
    base = medians["naive"]["total"]
    for row in ("ours, same handler", "ours"):
        ratio = medians[row]["total"] / base
        parts = {part: value for part, value in medians[row].items() if part != "total"}
        floor = max(parts, key=lambda part: parts[part])
        verdict = "within" if ratio <= TARGET else "over"
        print(
            f"{row}: {ratio:.2f} of naive, {verdict} the target of {TARGET}; its floor: {floor}, {parts[floor]:.2f} s"
        )
    if args.json:
        args.json.write_text(json.dumps({"rounds": found, "medians": medians}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
