"""An engine in memory: the same port as Docker's, for tests and demonstrations that need no container.

It runs nothing. What a command does is told beforehand, by the shell string that it stands for::

    engine = FakeEngine()
    engine.add_image("python:3.11-slim")
    engine.program("python train.py", FakeProgram(output=b"loss: 2.3\\nloss: 0.1\\n", files={"model.pt": MODEL}))

What was told nothing behaves as a command that is not in the image, so a test that forgets a program fails.
"""

from pytest_dockerlab.engine.fake.containers import FakeContainer
from pytest_dockerlab.engine.fake.engine import FakeEngine
from pytest_dockerlab.engine.fake.files import FakeFile
from pytest_dockerlab.engine.fake.programs import FakeProgram, Reply

__all__ = ["FakeContainer", "FakeEngine", "FakeFile", "FakeProgram", "Reply"]
