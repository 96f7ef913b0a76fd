"""The recipes of our own images and of the stand-ins, and the keys that tell an unchanged recipe from a changed one.

A recipe is a folder with a plain Dockerfile under `recipes/`. Its tag ends in a key over its files and its base's key,
so an image that exists under that tag is up to date by definition and is never built twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pytest_dockerlab.errors import UsageError

FOLDER = Path(__file__).resolve().parent / "recipes"
STANDIN_LABEL = "dockerlab.standin"  # the globs that an image stands in for; empty on an image of our own
IMAGE_LABEL = "dockerlab.image"  # the recipe's name
SCRAP = f"{IMAGE_LABEL}=scrap"  # on the image of a stage that nothing needs once the recipe is built
KEY_LENGTH = 12


@dataclass(frozen=True)
class Recipe:
    """One folder under `recipes/`."""

    name: str
    base: str | None = None  # another recipe, or None for a root file system
    stands_in_for: tuple[str, ...] = ()
    real: str | None = None  # what a registry has instead
    ours: bool = False  # not a stand-in: built in every case, on `real` or on the stand-in for it
    roughly_s: int = 5  # a cold build on two cores, to tell whoever waits

    @property
    def repository(self) -> str:
        """The image's name without its tag."""
        return f"dockerlab/{self.name}" if self.ours else f"dockerlab/standin-{self.name}"

    @property
    def folder(self) -> Path:
        """Where the recipe's files are."""
        return FOLDER / self.name

    def files(self) -> dict[str, bytes]:
        """Return the recipe's files by name, in order."""
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir()) if path.is_file()}


# In the order of building: a recipe comes after its base.
_ALL = (
    Recipe("rootfs", roughly_s=45),
    Recipe(
        "base",
        base="rootfs",
        stands_in_for=("debian:*", "ubuntu:*", "buildpack-deps:*"),
        real="debian:12-slim",
    ),
    Recipe(
        "python",
        base="base",
        stands_in_for=("python:3*", "python:latest", "python:slim*"),
        real="python:3.11-slim",
        roughly_s=15,
    ),
    Recipe(
        "torch",
        base="python",
        stands_in_for=("pytorch/pytorch:*",),
        real="pytorch/pytorch:2.4.1-cuda12.1-cudnn9-runtime",
        roughly_s=75,
    ),
    Recipe(
        "cuda",
        base="torch",
        stands_in_for=("nvidia/cuda:*",),
        real="nvidia/cuda:12.4.1-base-ubuntu22.04",
    ),
    Recipe(
        "torchserve",
        base="torch",
        stands_in_for=("pytorch/torchserve:*",),
        real="pytorch/torchserve:0.12.0-cpu",
        roughly_s=40,
    ),
    Recipe(
        "triton",
        base="torch",
        stands_in_for=("nvcr.io/nvidia/tritonserver:*",),
        real="nvcr.io/nvidia/tritonserver:24.10-py3",
        roughly_s=30,
    ),
    Recipe("alpine", base="base", stands_in_for=("alpine:*",), real="alpine:3.20"),
    Recipe("client", base="base", real="python:3.13-alpine", ours=True),
)
RECIPES: Mapping[str, Recipe] = {recipe.name: recipe for recipe in _ALL}

# What the assignments' reference solutions need. With a registry these are pulled, the others only when asked for.
NEEDED = ("torch", "torchserve", "client")


def get(name: str) -> Recipe:
    """Return the recipe of this name; a `UsageError` names those that exist."""
    try:
        return RECIPES[name]
    except KeyError:
        known = ", ".join(RECIPES)
        raise UsageError(f"There is no image recipe {name!r}.", fix=f"Name some of: {known}.") from None


def with_bases(names: Iterable[str]) -> list[Recipe]:
    """Return the recipes of these names and all that they grow from, each once, bases first."""
    wanted: set[str] = set()
    for name in names:
        wanted.update(recipe.name for recipe in _ancestry(get(name)))
    return [recipe for recipe in RECIPES.values() if recipe.name in wanted]


def _ancestry(recipe: Recipe) -> Iterator[Recipe]:
    yield recipe
    if recipe.base is not None:
        yield from _ancestry(RECIPES[recipe.base])


def key(recipe: Recipe, base_key: str, host_files: Mapping[str, bytes]) -> str:
    """Return the key of a recipe's image: equal for equal files on an equal base, and for nothing else.

    `host_files` are what the host adds to the build, e.g. its certificates.
    """
    digest = hashlib.sha256()
    for part in _parts(recipe, base_key, host_files):
        digest.update(len(part).to_bytes(8, "big"))  # so that no two lists of parts can read the same
        digest.update(part)
    return digest.hexdigest()[:KEY_LENGTH]


def _parts(recipe: Recipe, base_key: str, host_files: Mapping[str, bytes]) -> Iterator[bytes]:
    yield base_key.encode()
    yield ",".join(recipe.stands_in_for).encode()
    for files in (recipe.files(), dict(sorted(host_files.items()))):
        for name, content in files.items():
            yield name.encode()
            yield content


def labels(recipe: Recipe) -> dict[str, str]:
    """Return the labels of the recipe's image.

    An image inherits its base's labels, so both are always set: ours on a stand-in must not look like a stand-in.
    """
    return {STANDIN_LABEL: ",".join(recipe.stands_in_for), IMAGE_LABEL: recipe.name}
