"""A pytest plugin for the grader's child: a fake engine in which a training says whatever the test wants it to say.

Handed to `grade_path` as Python code only can. `SAYS` is read from the file beside the assignment.
"""

import io
import os
import zipfile
from pathlib import Path

from pytest_dockerlab import fixtures, pipeline
from pytest_dockerlab.engine.fake import FakeEngine, FakeProgram


def model():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/data.pkl", "weights")
    return buffer.getvalue()


LOSSES = b"".join(b"Epoch %d loss: %.4f\n" % (step, 2.3 * 0.8**step) for step in range(20))


def open_engine():
    engine = FakeEngine()
    engine.add_image("python:3.11-slim", {"/usr/bin/python": b"\x7fELF"})
    engine.program("python train.py", FakeProgram(output=LOSSES, files={"model.pt": model()}))
    says = Path(os.environ["DOCKERLAB_CONFIG_DIR"]) / "says"
    if says.is_file():
        engine.program("python train.py", FakeProgram(output=says.read_bytes(), exit_code=3))
    engine.program("python slow.py", FakeProgram(output=b"started\n", seconds=60))
    return engine


pipeline.RETRY_PAUSE_S = 0.01
fixtures.open_engine = open_engine
