"""From a layout to a container: the image, what is put into it before the start, its command, how it is asked.

Nothing of the host is mounted: what the container needs is put in by the engine's archive call between create and
start, which works with a remote engine too. What we put lies under `/dockerlab`.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pytest_dockerlab import dockerfiles
from pytest_dockerlab.artifact import parts
from pytest_dockerlab.engine.base import ImageConfig
from pytest_dockerlab.facts import Artifact, ImageBuild, Serving
from pytest_dockerlab.serve import mar, tritonmodel
from pytest_dockerlab.serve.base import ServeOptions
from pytest_dockerlab.serve.layout import Layout, LayoutError, find_layout
from pytest_dockerlab.serve.torchserve import CONFIG_PROPERTIES, LOG4J
from pytest_dockerlab.stages import archive, build, harness
from pytest_dockerlab.stages.context import STANDIN, RunContext

HOME = "dockerlab"  # in the root folder of the container
STORE = f"{HOME}/model-store"
REPOSITORY = f"{HOME}/models"
MAX_FILES = 20_000
NO_HANDLER = (
    "Add a handler.py with a class that answers with the digit (and a model.py with the network), "
    "or say where they are in dockerlab.toml: [serve] handler, model_file."
)


@dataclass(frozen=True)
class Plan:
    """A server that can be started."""

    layout: str
    server: str
    tag: str
    options: ServeOptions
    image_build: ImageBuild | None = None
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] | None = None
    files: Mapping[str, Path | bytes] = field(default_factory=dict)  # below `/`; put in before the start
    fallback: Plan | None = None  # where the first one does not let us register the model


@dataclass(frozen=True)
class Model:
    """The artifact to serve: the run's own, or a copy with its last layer permuted."""

    fact: Artifact
    file: Path
    role: str = "serve"  # of the images, and in the names of the logs

    @property
    def name(self) -> str:
        """Its file's name in the training container."""
        return posixpath.basename(self.fact.path or "model") or "model"

    @property
    def archived(self) -> bool:
        """Whether training made a TorchServe archive."""
        return self.name.endswith(".mar")


def plan(context: RunContext, model: Model) -> Plan | Serving:
    """Return what to start, or the fact that nothing can be."""
    own = context.submission.file.serve
    told = {key: value for key, value in own.model_dump().items() if value is not None}
    pinned = context.assignment.spec.serve.server
    if pinned == "http":  # its path and its method are the assignment's: no file of the student's changes what is asked
        told.setdefault("server", pinned)
    try:
        layout = find_layout(
            context.submission.files(MAX_FILES),
            told,
            context.submission.read_text,
            artifact_name=model.name,
            default_server=pinned,
            on_gpu=context.accelerator.on_gpu(),
        )
    except LayoutError as error:
        reason = "no_serving" if error.reason == "none" else error.reason
        return Serving(ready=False, layout="none", server=pinned, reason=reason, detail=error.message, fix=error.fix)
    made = _KINDS[layout.kind](context, layout, model)
    return replace(made, server=layout.server)


def options(context: RunContext, layout: Layout) -> ServeOptions:
    """Return how the server is asked: the student's word where it may say, else the assignment's."""
    table, own = context.assignment.spec.serve, context.submission.file.serve
    return ServeOptions(
        port=own.port or table.port,
        model=own.model or layout.model or table.model,
        path=own.path or table.path,
        method=table.method,
        send=table.send,
        field=table.field,
        form=table.form,
    )


# -- one function for each kind


def _dockerfile(context: RunContext, layout: Layout, model: Model) -> Plan | Serving:
    """The student's image takes the artifact from its context, and its own command serves it."""
    folder = layout.context or "."
    target = layout.artifact_target or posixpath.join(folder, model.name)
    return _built(context, layout, model, parts(model.fact.kind, model.file, _within(target, folder)))


def _bare_image(context: RunContext, layout: Layout, model: Model) -> Plan | Serving:
    """The student's image has a TorchServe and no model: the archive is made inside of it."""
    built = _built(context, layout, model, {})
    if isinstance(built, Serving):
        return built
    made = _archive(context, layout, model, built.tag)
    if isinstance(made, Serving):
        return replace(made, image_build=built.image_build)
    store = _model_store(context.image(built.tag))
    name = built.options.model or "mnist"
    own = replace(ours(built, made, name), image_build=built.image_build)
    if store is None:
        return own
    # Its own command starts TorchServe with a model store: that is the student's setup, so it is what is started.
    asked = replace(built.options, archive=f"{name}.mar")
    return replace(built, files={f"{store}/{name}.mar": made}, options=asked, fallback=own)


def _handler(context: RunContext, layout: Layout, model: Model) -> Plan | Serving:
    """A handler and a model file, in our image."""
    made = _archive(context, layout, model, None)
    if isinstance(made, Serving):
        return made
    chosen = options(context, layout)
    empty = Plan(layout.kind, layout.server, harness.image(context, "torchserve"), chosen)
    return ours(empty, made, chosen.model or "mnist")


def _triton(context: RunContext, layout: Layout, model: Model) -> Plan | Serving:
    """A model repository, in the student's image or in ours."""
    assert layout.model_repository is not None
    target = layout.artifact_target or model.name
    if layout.dockerfile is not None:
        folder = layout.context or "."
        return _built(context, layout, model, parts(model.fact.kind, model.file, _within(target, folder)))
    prefix = "" if layout.model_repository == "." else f"{layout.model_repository}/"
    names = [name for name in context.submission.files(MAX_FILES) if name.startswith(prefix)]
    files: dict[str, Path | bytes] = {}
    files |= {name.removeprefix(prefix): data for name, data in harness.read_all(context, names).items()}
    files |= parts(model.fact.kind, model.file, target.removeprefix(prefix))
    tag = harness.image(context, "triton")
    if STANDIN in context.image(tag).labels:  # it has the Python backend only
        files = tritonmodel.adapted(files, str(layout.model))
    return Plan(
        layout.kind,
        layout.server,
        tag,
        options(context, layout),
        entrypoint=("tritonserver",),
        command=(f"--model-repository=/{REPOSITORY}", "--allow-metrics=false", "--allow-grpc=false"),
        files={f"{REPOSITORY}/{name}": content for name, content in files.items()},
    )


_KINDS = {
    "dockerfile": _dockerfile,
    "http": _dockerfile,
    "bare_image": _bare_image,
    "handler": _handler,
    "mar": _handler,
    "triton": _triton,
}


# -- what they share


def _built(context: RunContext, layout: Layout, model: Model, extra: dict[str, Path]) -> Plan | Serving:
    assert layout.dockerfile is not None
    parsed = dockerfiles.parse(context.submission.read_text(layout.dockerfile) or "")
    made = build.build(context, model.role, layout.context or ".", layout.dockerfile, parsed.bases, extra)
    if not made.ok or made.tag is None:
        return Serving(ready=False, layout=layout.kind, server=layout.server, image_build=made, reason="build_failed")
    return Plan(layout.kind, layout.server, made.tag, options(context, layout), image_build=made)


def _within(target: str, folder: str) -> str:
    """Return a path of the submission as one of the build context."""
    if folder == ".":
        return target
    return target.removeprefix(f"{folder}/") if target.startswith(f"{folder}/") else posixpath.basename(target)


def _archive(context: RunContext, layout: Layout, model: Model, tag: str | None) -> Path | Serving:
    """Return the TorchServe archive: training's own, or made of the handler; `tag` is the image to archive in."""
    if model.archived:
        return model.file
    if layout.handler is None:
        return Serving(
            ready=False,
            layout=layout.kind,
            reason="no_handler",
            detail="The serving image brings no model, and no handler was found to make an archive with.",
            fix=NO_HANDLER,
        )
    name = context.submission.file.serve.model or context.assignment.spec.serve.model
    sources = [one for one in (layout.handler, layout.model_file, *layout.extra_files) if one]
    files: dict[str, Path | bytes] = {}
    files |= {posixpath.basename(one): data for one, data in harness.read_all(context, sources).items()}
    own = context.submission.file.serve.artifact
    serialized = posixpath.basename(own) if own else model.name
    files |= parts(model.fact.kind, model.file, serialized)
    order = archive.Order(
        name=name,
        serialized=serialized,
        handler=posixpath.basename(layout.handler),
        model_file=posixpath.basename(layout.model_file) if layout.model_file else None,
        extra=tuple(dict.fromkeys(posixpath.basename(one) for one in layout.extra_files)),
        files=files,
    )
    target = context.store.file(f"{model.role}.mar")
    if tag is None:
        mar.write(target, order.name, order.serialized, order.handler, order.model_file, order.files)
        return target
    return archive.make(context, tag, order, target, layout.kind)


def ours(empty: Plan, made: Path, name: str) -> Plan:
    """Return the plan with our configuration and command.

    The model is named at the start and not registered afterwards: its worker then starts while the harness still asks
    whether anything answers (1.75 s against 2.10 s to the first answer, bench/serve.py). Why it died is in the log.
    """
    return replace(
        empty,
        entrypoint=("torchserve",),
        command=(
            "--start",
            "--foreground",
            "--ts-config",
            f"/{HOME}/config.properties",
            "--log-config",
            f"/{HOME}/log4j2.xml",
            "--model-store",
            f"/{STORE}",
            "--models",
            f"{name}={name}.mar",
        ),
        files={
            f"{HOME}/config.properties": CONFIG_PROPERTIES,
            f"{HOME}/log4j2.xml": LOG4J,
            f"{STORE}/{name}.mar": made,
        },
        options=replace(empty.options, archive=f"{name}.mar", port=None, path=None),
    )


def _model_store(image: ImageConfig) -> str | None:
    """Return the model store of an image whose command starts TorchServe, below `/`; `None` where it does not."""
    words = " ".join([*image.entrypoint, *image.cmd]).split()
    if "torchserve" not in [posixpath.basename(word.strip("\"'")) for word in words]:
        return None
    for at, word in enumerate(words):
        option, _, value = word.partition("=")
        if option == "--model-store":
            value = value or (words[at + 1] if at + 1 < len(words) else "")
            return posixpath.normpath(posixpath.join(image.workdir, value.strip("\"'"))).strip("/") or None
    return None
