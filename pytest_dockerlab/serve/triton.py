"""Triton, and whatever else speaks the Open Inference Protocol (KServe v2) over HTTP: mlserver, for instance.

The input is a tensor, so the harness prepares the picture: name, shape and type come from the model's metadata, and the
normalisations that training scripts use are tried in turn. The askers of a `Readiness` are these normalisations, the
usual one first; whoever asks takes the first, and the next where too few answers are right, and says which one fitted.
"""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.serve.base import (
    Asker,
    Line,
    Readiness,
    ServeOptions,
    judge_canary,
    localhost_only,
    nothing_there,
    pixels,
    reader,
    wait_for,
)
from pytest_dockerlab.serve.causes import Cause, kind_of, lines_of, python_cause
from pytest_dockerlab.serve.http import HttpAnswer, HttpRequest

MEAN, DEVIATION = 0.1307, 0.3081  # of MNIST's training pictures, from 0 to 1: what torchvision's examples subtract
QUICK_S = 5.0
FLOATS = ("FP32", "FP64", "FP16", "BF16")
INTEGERS = ("UINT8", "INT8", "INT16", "UINT16", "INT32", "UINT32", "INT64", "UINT64")
MAX_DIMENSION = 4


def tensor_shape(shape: object) -> list[int] | None:
    """Return the shape of one digit for a model's input, the free places filled in; `None` where no digit fits.

    `[-1, 1, 28, 28]`, `[1, 28, 28]`, `[28, 28]`, `[-1, 784]`, `[784]` and their kin fit, and three equal channels.
    """
    if not isinstance(shape, list) or not 1 <= len(shape) <= MAX_DIMENSION:
        return None
    if not all(isinstance(size, int) and not isinstance(size, bool) and -1 <= size <= 4096 and size for size in shape):
        return None
    if all(size == -1 for size in shape):
        return {1: [784], 2: [1, 784], 3: [1, 28, 28], 4: [1, 1, 28, 28]}[len(shape)]
    known = [size for size in shape if size != -1]
    filled = list(shape)
    if 784 not in known:
        # From behind: columns, rows; whatever is still free is the batch or the channel.
        for place in (len(filled) - 1, len(filled) - 2):
            if place >= 0 and filled[place] == -1 and len(filled) > 1:
                filled[place] = 28
    filled = [1 if size == -1 else size for size in filled]
    product = 1
    for size in filled:
        product *= size
    return filled if product == 784 or (product == 3 * 784 and 3 in filled) else None


def tensor(png: bytes, shape: list[int], datatype: str, normalise: str) -> list[Any]:
    """Return a digit as a flat list in the order of the shape; channels are copies of the grey value."""
    rows = pixels(png)
    flat = [value for row in rows for value in row]
    if 3 in shape and len(shape) > 1:
        last = shape[-1] == 3
        flat = [value for value in flat for _ in range(3)] if last else flat * 3
    if datatype in INTEGERS:
        return flat
    if normalise == "mnist":
        return [round((value / 255 - MEAN) / DEVIATION, 5) for value in flat]
    return [round(value / 255, 5) for value in flat] if normalise == "unit" else [float(value) for value in flat]


class Triton:
    """See the module."""

    name = "triton"
    port = 8000

    def explain(self, log: str) -> Cause | None:
        """Return why a model did not load, where the log tells."""
        lines = lines_of(log)
        for line in lines:
            if "failed to load all models" in line or "failed to load '" in line or "UNAVAILABLE:" in line:
                why = line.partition("UNAVAILABLE:")[2].strip(" |") or line.partition("] ")[2] or line
                told = python_cause(lines)
                said = told.sentence if told else f"Triton says: {why[:300]}"
                return Cause(told.reason if told else kind_of_load(why), f"The model did not load. {said}")
            if "Socket '" in line and "already in use" in line:
                return Cause("port_taken", f"A port of Triton is taken inside the container: {line[-200:]}")
        return None

    def open(self, line: Line, options: ServeOptions, canary: bytes, deadline: Deadline) -> Readiness:
        """Wait for `/v2/health/ready`, read the model's input from its metadata, then ask for the canary."""
        port = options.port or self.port
        deadline = deadline.sooner(deadline.remaining_s)
        answers: dict[str, str] = {}
        models: tuple[str, ...] = ()
        listening: tuple[str, ...] = ()

        def result(cause: Cause | None, askers: tuple[Asker, ...] = ()) -> Readiness:
            return Readiness(
                ready=cause is None,
                reason=cause.reason if cause else None,
                detail=cause.sentence if cause else None,
                seconds=round(deadline.budget_s - deadline.remaining_s, 3),
                models=models,
                listening=listening,
                answers=answers,
                askers=askers if cause is None else (),
            )

        def get(path: str, method: str = "GET", body: bytes = b"") -> HttpAnswer:
            kind = (("Content-Type", "application/json"),) if body else ()
            [answer] = line.client.send([HttpRequest(path, method, port, kind, body, QUICK_S)], deadline)
            return answer

        health = HttpRequest(
            "/v2/health/ready", port=port, timeout_s=QUICK_S, retry_on=("refused", "reset", "400", "503")
        )
        answer, cause = wait_for(line, health, deadline, lambda one: one.ok, lambda: self.explain(line.log_tail()))
        seen = line.client.listening(deadline)
        listening = seen.shown()
        answers["ping"] = f"{answer.outcome} {answer.text(500)}".strip()
        if not answer.ok:
            if cause is None and answer.status is not None:
                cause = Cause("timeout", f"The server answers {answer.status} to /v2/health/ready: it is not ready.")
            return result(cause or nothing_there(line, port, seen))
        cause = localhost_only(port, seen)
        if cause is not None:
            return result(cause)

        index = get("/v2/repository/index", "POST", b"{}").json()
        if isinstance(index, list):
            models = tuple(str(one.get("name"))[:100] for one in index[:100] if isinstance(one, dict))
        model = options.model or (models[0] if len(models) == 1 else "mnist")
        if models and model not in models:
            return result(
                Cause("model_name", f"No model is named {model!r}; the repository has: {', '.join(models[:5])}.")
            )
        answer = get(f"/v2/models/{quote(model, safe='')}")
        answers["models"] = answer.text(2000)
        metadata = answer.json()
        if not answer.ok or not isinstance(metadata, dict):
            told = self.explain(line.log_tail())
            missing = Cause(
                "no_model", f"The model {model!r} is not there (status {answer.outcome}): {answer.text(200)}"
            )
            return result(told or missing)
        askers = self.askers(metadata, options, model, port)
        if not askers:
            inputs = json.dumps(metadata.get("inputs"), default=str)[:300]
            return result(Cause("input_shape", f"A digit of 28x28 pixels does not fit the model's inputs: {inputs}."))
        cause = None
        for number, asker in enumerate(askers):  # a picture sent as bytes may be refused where its numbers are not
            request = replace(asker.make(canary), id="canary")
            answer, cause = wait_for(line, request, deadline, lambda one: one.error is None, lambda: None)
            answers["canary"] = answer.text(2000) if answer.status is not None else f"{answer.error}: {answer.detail}"
            cause = cause or judge_canary(answer, asker.read(answer))
            if cause is None:
                return result(None, askers[number:])
        return result(cause)

    def askers(self, metadata: dict[str, Any], options: ServeOptions, model: str, port: int) -> tuple[Asker, ...]:
        """Return one asker for each way to prepare a picture for the model's one input."""
        inputs = metadata.get("inputs")
        if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
            return ()
        name, datatype = str(inputs[0].get("name"))[:200], str(inputs[0].get("datatype"))
        path = options.path or f"/v2/models/{quote(model, safe='')}/infer"
        form = "kserve" if options.form == "auto" else options.form
        raw_shape = inputs[0].get("shape")
        ways: list[tuple[str, list[int]]] = []
        if datatype == "BYTES" and isinstance(raw_shape, list) and len(raw_shape) <= MAX_DIMENSION:
            ways = [("png", [1] * max(1, len(raw_shape)))]
        else:
            shape = tensor_shape(raw_shape)
            if shape is None or datatype not in (*FLOATS, *INTEGERS):
                return ()
            ways = [(way, shape) for way in (("raw",) if datatype in INTEGERS else ("mnist", "unit", "raw"))]

        def asker(way: str, shape: list[int]) -> Asker:
            def make(png: bytes) -> HttpRequest:
                data = [base64.b64encode(png).decode()] if way == "png" else tensor(png, shape, datatype, way)
                body = {"inputs": [{"name": name, "shape": shape, "datatype": datatype, "data": data}]}
                return HttpRequest(
                    path,
                    "POST",
                    port,
                    (("Content-Type", "application/json"),),
                    json.dumps(body).encode(),
                    options.timeout_s,
                    options.max_bytes,
                )

            words = {"mnist": f"(x/255-{MEAN})/{DEVIATION}", "unit": "x/255", "raw": "x", "png": "base64 of the file"}
            return Asker(note=f"POST {path}, {datatype} {shape}, {words[way]}", make=make, read=reader(form))

        return tuple(asker(way, shape) for way, shape in ways)


def kind_of_load(why: str) -> str:
    """Return the reason code of Triton's own words about a model that did not load."""
    if "No such file" in why or "failed to open" in why or "unable to find" in why:
        return "archive_missing"
    found = kind_of(why)
    return found if found != "handler_error" else "bad_archive"


SERVER = Triton()
