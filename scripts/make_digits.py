"""Make `fixtures/digits/` again from the public subset of MNIST, or check that it still is what it says.

    python scripts/make_digits.py           # write the folder
    python scripts/make_digits.py --check   # compare it, pixel by pixel

Ten of each digit are taken, spread over the 500 that the subset has of it. A file is named after the hash of its
pixels, so neither its name nor its place in `labels.csv` (sorted by name) tells what it shows.
"""

from __future__ import annotations

import argparse
import csv
import io
from pathlib import Path

import numpy as np
from PIL import Image

from pytest_dockerlab.data.digits import LABELS_FILE, load_digits, pixel_hash
from pytest_dockerlab.data.idx import Pixels
from pytest_dockerlab.data.subset import subset_rows
from pytest_dockerlab.deadline import Deadline

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "digits"
EACH = 10


def chosen(labels: Pixels) -> list[int]:
    """Return the rows to take: one out of every tenth of a digit's rows, at a place that moves with the digit."""
    rows: list[int] = []
    for label in range(10):
        of_label = np.flatnonzero(labels == label)
        step = len(of_label) // EACH
        rows.extend(int(of_label[turn * step + (7 * label + 11 * turn + 5) % step]) for turn in range(EACH))
    return rows


def main() -> None:
    """Write or check the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare, and fail where something differs")
    check = parser.parse_args().check
    images, labels = subset_rows(print, Deadline.after(300))
    table = sorted((f"{pixel_hash(images[row])[:10]}.png", int(labels[row]), row) for row in chosen(labels))
    if check:
        found = {digit.name: (digit.label, pixel_hash(digit.pixels)) for digit in load_digits(FOLDER)}
        wanted = {name: (label, pixel_hash(images[row])) for name, label, row in table}
        if found != wanted:
            raise SystemExit(f"{FOLDER} is not what this script makes")
        print(f"{FOLDER}: {len(found)} digits, as made by this script")
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.png"):
        old.unlink()
    for name, _label, row in table:
        Image.fromarray(images[row]).save(FOLDER / name, format="PNG", optimize=True)
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([("file", "label", "source_row"), *table])
    (FOLDER / LABELS_FILE).write_text(text.getvalue(), encoding="utf-8")
    print(f"{FOLDER}: {len(table)} digits written")


if __name__ == "__main__":
    main()
