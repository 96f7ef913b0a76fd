"""Make the images that labs need exist: pulled where a registry answers, built as stand-ins where none does."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import docker
from docker.errors import APIError, ImageNotFound
from filelock import FileLock, Timeout

from pytest_dockerlab import paths
from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import InfraError
from pytest_dockerlab.images import host, recipes
from pytest_dockerlab.images.build import build, engine_errors, exists, tag_latest
from pytest_dockerlab.images.names import STANDINS_FILE, mirrored
from pytest_dockerlab.images.progress import Say
from pytest_dockerlab.images.recipes import RECIPES, Recipe
from pytest_dockerlab.images.registry import pull, registry_answers
from pytest_dockerlab.images.rootfs import build_rootfs

BUDGET_S = 3600.0  # all of `ensure`: a slow line pulls gigabytes
HEADER = """\
# Written by `dockerlab images ensure` on a machine where no container registry answered. Each image name on the left is
# replaced by a stand-in that was built here from Debian packages, and grades say so. Entries in config.toml come first.
# To go back to the real images: `dockerlab images remove`, or delete this file.
"""


class Source(str, Enum):
    """Where images come from."""

    AUTO = "auto"
    STANDINS = "standins"
    PULL = "pull"


@dataclass(frozen=True)
class ImageState:
    """One recipe, and what the engine has of it."""

    name: str
    tag: str
    stands_in_for: tuple[str, ...]
    state: str  # "ready", "missing", or "outdated": there is one of an older recipe
    bytes: int | None


def ensure(
    names: Iterable[str],
    client: docker.DockerClient,
    say: Say,
    source: Source = Source.AUTO,
    deadline: Deadline | None = None,
) -> dict[str, str]:
    """Return the tags of these recipes' images (of all, for no names) once they exist; what exists is not built again.

    Where a registry answers the real images are pulled instead, for no names those that reference solutions need, and
    the map of stand-ins goes away.
    """
    names = list(names)
    for name in names:
        recipes.get(name)
    deadline = deadline or Deadline.after(BUDGET_S)
    with _alone(deadline, say):
        if source is Source.PULL or (source is Source.AUTO and registry_answers(client)):
            tags = _pull(names or recipes.NEEDED, client, deadline, say)
            if _map_file().exists():
                _map_file().unlink()
                say("a registry answers: stand-ins are no longer used")
            return tags
        tags = _build(names or list(RECIPES), client, deadline, say)
        _write_map(client, say)
        return tags


def standin_tags() -> dict[str, str]:
    """Return the tag that every recipe's stand-in has on this host, in the order of building."""
    keys: dict[str, str] = {}
    for recipe in RECIPES.values():
        keys[recipe.name] = recipes.key(recipe, keys.get(recipe.base or "", ""), _host_files(recipe))
    return {name: f"{RECIPES[name].repository}:{key}" for name, key in keys.items()}


def _host_files(recipe: Recipe) -> dict[str, bytes]:
    """Return what the host adds to a recipe: only the base takes something, and hands it on."""
    if recipe.name != "base":
        return {}
    return {"host-ca.pem": host.certificates(), "pip.conf": host.pip_conf()}


def _build(names: Iterable[str], client: docker.DockerClient, deadline: Deadline, say: Say) -> dict[str, str]:
    tags = standin_tags()
    names = list(names)
    for recipe in recipes.with_bases(names):
        tag = tags[recipe.name]
        if not exists(client, tag):
            if recipe.base is None:
                build_rootfs(client, recipe, tag, deadline, say)
            else:
                build(client, recipe, tag, tags[recipe.base], _host_files(recipe), deadline, say)
        tag_latest(client, recipe, tag)
    return {name: tags[name] for name in names}


def _pull(names: Iterable[str], client: docker.DockerClient, deadline: Deadline, say: Say) -> dict[str, str]:
    tags: dict[str, str] = {}
    for recipe in map(recipes.get, names):
        if recipe.real is None:  # the root file system: only stand-ins grow from it
            continue
        real = mirrored(recipe.real)
        if not exists(client, real):
            pull(client, real, deadline, say)
        tags[recipe.name] = real
        if recipe.ours:
            tag = tags[recipe.name] = _tag_on(recipe, real)
            if not exists(client, tag):
                build(client, recipe, tag, real, {}, deadline, say)
            tag_latest(client, recipe, tag)
    return tags


def _tag_on(recipe: Recipe, real: str) -> str:
    """Return the tag of an image of ours that is built on a real image."""
    return f"{recipe.repository}:{recipes.key(recipe, real, {})}"


def states(client: docker.DockerClient) -> list[ImageState]:
    """Return what the engine has of every recipe."""
    tags = standin_tags()
    found = []
    for recipe in RECIPES.values():
        candidates = [tags[recipe.name]]
        if recipe.ours and recipe.real:
            candidates.append(_tag_on(recipe, mirrored(recipe.real)))
        present = [tag for tag in candidates if exists(client, tag)]
        state = "ready" if present else "outdated" if exists(client, f"{recipe.repository}:latest") else "missing"
        tag = present[0] if present else candidates[0]
        size = _size(client, tag) if present else None
        found.append(ImageState(recipe.name, tag, recipe.stands_in_for, state, size))
    return found


def _size(client: docker.DockerClient, tag: str) -> int | None:
    with engine_errors(f"inspecting {tag}"):
        size = client.images.get(tag).attrs.get("Size")
    return int(size) if size is not None else None


def remove(client: docker.DockerClient, say: Say) -> list[str]:
    """Remove every image of ours and the map of stand-ins; return the tags that went.

    Images are chosen by name and not by label: what a student built on a stand-in has inherited its labels. An image
    that a container uses stays, and is said.
    """
    _map_file().unlink(missing_ok=True)
    removed: list[str] = []
    # Those that grow from others first: then layers really go.
    for recipe in reversed(list(RECIPES.values())):
        with engine_errors(f"listing {recipe.repository}"):
            listed = client.api.images(name=recipe.repository)
        for tag in sorted({tag for image in listed for tag in image.get("RepoTags") or []}):
            try:
                client.api.remove_image(tag)
            except ImageNotFound:
                continue
            except APIError as error:
                say(f"{tag} stays: {error.explanation or error}")
                continue
            removed.append(tag)
    return removed


def _map_file() -> Path:
    return paths.config_dir() / STANDINS_FILE


def _write_map(client: docker.DockerClient, say: Say) -> None:
    """Write which name each stand-in that exists replaces, in one step, and only if it changed."""
    tags = standin_tags()
    ready = [recipe for recipe in RECIPES.values() if recipe.stands_in_for and exists(client, tags[recipe.name])]
    text = map_text({glob: tags[recipe.name] for recipe in ready for glob in recipe.stands_in_for})
    target = _map_file()
    if target.is_file() and target.read_text(encoding="utf-8") == text:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=target.parent, delete=False) as file:
        file.write(text)
    Path(file.name).replace(target)
    say(f"wrote {target}: these stand-ins are used from now on; `dockerlab images remove` ends that")


def map_text(images: Mapping[str, str]) -> str:
    """Return the text of `standins.toml`."""
    # A JSON string is a TOML basic string.
    lines = [f"{json.dumps(glob)} = {json.dumps(tag)}" for glob, tag in images.items()]
    return "\n".join([HEADER, "[images]", *lines, ""])


@contextmanager
def _alone(deadline: Deadline, say: Say) -> Iterator[None]:
    """Let one process of this user at a time make images: two would build the same ones."""
    folder = paths.cache_dir() / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "images.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        say("waiting for another process that is making images")
        try:
            lock.acquire(timeout=deadline.remaining_s)
        except Timeout:
            raise InfraError(f"Another process has held {lock.lock_file} for {deadline.budget_s:.0f} s.") from None
    try:
        yield
    finally:
        lock.release()
