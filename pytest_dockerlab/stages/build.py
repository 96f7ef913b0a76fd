"""Find the Dockerfile, and build it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from pytest_dockerlab import dockerfiles
from pytest_dockerlab.context import make_context
from pytest_dockerlab.errors import ImageUnavailable, StudentError
from pytest_dockerlab.facts import BaseImage, DockerfileFound, ImageBuild
from pytest_dockerlab.stages.context import RunContext

# The builder's words for a registry that does not answer: nobody's Dockerfile is at fault.
REGISTRY_DOWN = (
    "dial tcp",
    "i/o timeout",
    "TLS handshake timeout",
    "connection refused",
    "no such host",
    "server misbehaving",
    "toomanyrequests",
    "context deadline exceeded",
    "network is unreachable",
    "500 Internal Server Error",
    "503 Service Unavailable",
)
RESOLVING = ("failed to resolve source metadata", "failed to do request", "pull access", 'Get "https://', "pulling")


def find(context: RunContext, on_gpu: bool) -> DockerfileFound:
    """Find the Dockerfile that trains, for the accelerator that is there."""
    found = context.submission.dockerfile(context.assignment.spec.train, on_gpu)
    files = len(context.submission.files(1000))
    if found.path is None:
        problem: str | None = "missing"
        bases: tuple[str, ...] = ()
    else:
        parsed = dockerfiles.parse(found.text)
        bases = parsed.bases
        problem = None if parsed.has_from else ("no_from" if found.text.strip() else "empty")
    return DockerfileFound(found.path, problem, bases, found.near_misses, found.looked_for, files)


def run(context: RunContext, found: DockerfileFound) -> ImageBuild:
    """Build the training image. Raises `ImageUnavailable` where a registry, not the Dockerfile, is at fault."""
    assert found.path is not None
    return build(context, "train", context.submission.file.train.context, found.path, found.bases, {})


def build(
    context: RunContext,
    role: str,
    folder: str,
    dockerfile: str,
    bases: tuple[str, ...],
    extra: Mapping[str, Path],
) -> ImageBuild:
    """Build one Dockerfile of the submission; `dockerfile` is relative to the submission, `folder` is its context.

    `extra` puts files of ours into the context, by their place in it.
    """
    what = "the build" if role == "train" else f"the build of the image for {role}"
    deadline = context.budget(what, context.assignment.spec.timeouts.build)
    log = context.store.file("build.log" if role == "train" else f"{role}-build.log")
    tar = context.store.file(f"{role}-context.tar")
    root = PurePosixPath(folder)
    inside = PurePosixPath(dockerfile)
    files = dict(extra)
    try:
        if not inside.is_relative_to(root):
            # A Dockerfile beside its context: it travels under a name of ours.
            files[".dockerlab.Dockerfile"] = context.submission.root / dockerfile
            inside_name = ".dockerlab.Dockerfile"
        else:
            inside_name = str(inside.relative_to(root))
        made = make_context(
            context.submission.root,
            folder,
            inside_name,
            tar,
            context.assignment.spec.limits,
            files,
            context.submission.exclude,
        )
    except StudentError as error:
        return ImageBuild(ok=False, dockerfile=dockerfile, error=str(error))
    replaced = context.replace_bases(bases)
    try:
        tag, outcome, log_file = context.build_image(role, tar, inside_name, replaced, deadline, log)
    finally:
        tar.unlink(missing_ok=True)
    if not outcome.ok and not outcome.timed_out:
        _raise_if_registry(outcome.error or "", replaced)
    config = context.engine.image(tag) if outcome.ok else None
    # What a builder says when it is stopped is noise; why it was stopped is not.
    words = context.time_is_up() if outcome.timed_out else outcome.error
    left_out = "".join(f"; left out of the context: {name}" for name in made.left_out[:3])
    return ImageBuild(
        ok=outcome.ok,
        dockerfile=dockerfile,
        tag=tag if outcome.ok else None,
        image_id=outcome.image_id or (config.image_id if config else None),
        builder=outcome.builder,
        seconds=outcome.seconds,
        bytes=config.bytes if config else None,
        context_bytes=made.bytes,
        context_files=made.files,
        base_images=replaced,
        steps=outcome.steps,
        timed_out=outcome.timed_out,
        error=f"{words}{left_out}" if words else None,
        log=log.name,
        log_tail=log_file.last_lines(),
    )


KNOWN_REGISTRIES = ("docker.io", "nvcr.io", "ghcr.io", "quay.io", "gcr.io", "mcr.microsoft.com", "public.ecr.aws")


def _registry(name: str) -> str:
    """Return the registry of an image's name: its first part where that is a host, else Docker Hub."""
    first, slash, _ = name.partition("/")
    is_host = bool(slash) and ("." in first or ":" in first or first == "localhost")
    return "docker.io" if not is_host or first.endswith("docker.io") else first


def _raise_if_registry(error: str, bases: tuple[BaseImage, ...]) -> None:
    """Tell a registry that is down from a name that is wrong (`not found` is the student's).

    The builder quotes a failed step's text, which can hold any of the clues; and a registry that only this Dockerfile
    knows is the student's choice.
    """
    if "did not complete successfully" in error or "returned a non-zero code" in error:
        return
    if bases and not any(base.replaced_by or _registry(base.name) in KNOWN_REGISTRIES for base in bases):
        return
    if any(clue in error for clue in REGISTRY_DOWN) and any(clue in error for clue in RESOLVING):
        base = next((base.name for base in bases if base.replaced_by is None), bases[0].name if bases else "the image")
        raise ImageUnavailable(
            f"The registry that has {base} does not answer: {error[:300]}",
            fix=(
                "Check the network, or name a mirror or a local image for it under [images] in config.toml "
                "(`dockerlab images ensure --standins` makes local ones)."
            ),
        )
