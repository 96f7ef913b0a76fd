"""Find how a submission serves its model, from the list of its files and `[serve]` of dockerlab.toml. Pure.

| kind | what is there | who archives |
| --- | --- | --- |
| `dockerfile` | a serving Dockerfile that takes the artifact from a place in its context | the student's image |
| `bare_image` | a serving Dockerfile without a model, e.g. a source build of TorchServe | we, inside that image |
| `handler` | a handler and a model file, no Dockerfile | we, in our serving image |
| `mar` | an archive made by the training run, no Dockerfile | the training run |
| `triton` | a model repository, with or without a Dockerfile | nobody |
| `http` | a Dockerfile of any HTTP server | nobody |

Whatever dockerlab.toml names wins over what is found; what it names has to exist. Nothing here opens a file by itself:
`read` returns the text of a file of the submission, bounded, or `None`.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from pytest_dockerlab.errors import StudentError
from pytest_dockerlab.serve.dockerfile import SUFFIXES, ServingDockerfile, is_artifact, scan

KINDS = ("dockerfile", "bare_image", "handler", "mar", "triton", "http")
_STEM = r"(?:serve|serving|server|infer|inference|torchserve|triton|deploy)"
_FOLDER = re.compile(rf"({_STEM}(?:_?(?:docker|image))?)/Dockerfile(?:\.(cpu|gpu|cuda))?", re.IGNORECASE)
_ROOT = re.compile(
    rf"(?:Dockerfile[._-]{_STEM}|{_STEM}\.Dockerfile|Dockerfile_{_STEM})(?:[._-](cpu|gpu|cuda))?", re.IGNORECASE
)
_CONFIG = re.compile(r"(?:(.*?)/)?([^/]+)/config\.pbtxt")

LOOKED_FOR = (
    "serve/Dockerfile, Dockerfile.serve, Dockerfile.infer (.cpu, .gpu), model_repository/, "
    "or a handler.py with a model.py"
)


class LayoutError(StudentError):
    """No way of serving was found, or more than one; `reason` is `none`, `ambiguous`, `missing` or `artifact_place`."""

    def __init__(self, reason: str, message: str, fix: str) -> None:
        """Keep the code beside the message."""
        super().__init__(message, fix=fix)
        self.reason = reason


@dataclass(frozen=True)
class Layout:
    """How a submission is served. Paths are relative to the submission, with `/`."""

    kind: str
    server: str
    dockerfile: str | None = None
    context: str | None = None  # "." is the submission itself
    artifact_target: str | None = None  # where the artifact has to lie before the build or the start
    model_file: str | None = None
    handler: str | None = None
    extra_files: tuple[str, ...] = ()  # beside the handler, for the archive
    model_repository: str | None = None
    model: str | None = None  # the model's name, where the layout tells it
    why: str = ""  # what it was found by, for the log


Read = Callable[[str], "str | None"]


def find_layout(
    files: Collection[str],
    serve: Mapping[str, object],
    read: Read,
    *,
    artifact_name: str | None = None,
    default_server: str = "torchserve",
    on_gpu: bool = False,
) -> Layout:
    """Return the layout; raises `LayoutError`, whose fix names the key of dockerlab.toml that settles the matter.

    `artifact_name` is the name of the file that training made, `None` where that isn't known yet.
    """
    told = {key: str(value) for key, value in serve.items() if value is not None and key != "port"}
    names = sorted({posixpath.normpath(name) for name in files})
    for key in ("dockerfile", "handler", "model_file"):
        if key in told and posixpath.normpath(told[key]) not in names:
            raise LayoutError(
                "missing",
                f"dockerlab.toml names [serve] {key} = {told[key]!r}, and there is no such file.",
                f"Correct the path (relative to the repository), or remove the key: {LOOKED_FOR} is found by itself.",
            )
    dockerfile = told.get("dockerfile") or _find_dockerfile(names, on_gpu)
    scanned = scan(read(dockerfile) or "") if dockerfile else None
    server = told.get("server") or (scanned.server if scanned else None)
    repository = told.get("model_repository") or _find_repository(names)
    if server == "triton" or (server is None and repository is not None) or "model_repository" in told:
        layout = _triton(names, told, repository, artifact_name, read)
        if scanned is not None and dockerfile is not None:
            layout = replace(layout, dockerfile=dockerfile, context=_context(dockerfile, scanned, names, told))
        return layout
    server = server or default_server
    if dockerfile is not None and scanned is not None:
        return _with_dockerfile(dockerfile, scanned, server, names, told, artifact_name, read)
    if server == "http":
        raise LayoutError(
            "none",
            "The server is an HTTP server of the student's own, and no Dockerfile builds it.",
            "Add serve/Dockerfile, or name one with [serve] dockerfile in dockerlab.toml.",
        )
    handler, model_file, extra = _handler(names, told, read)
    if handler is not None:
        return Layout(
            "handler", server, handler=handler, model_file=model_file, extra_files=extra, why=f"found {handler}"
        )
    if artifact_name is not None and artifact_name.endswith(".mar"):
        return Layout("mar", server, why=f"training made {artifact_name}")
    raise LayoutError(
        "none",
        f"Nothing in the repository says how to serve the model. Looked for: {LOOKED_FOR}.",
        "Add serve/Dockerfile that copies the trained model, or a handler.py and a model.py; "
        "or name yours under [serve] in dockerlab.toml.",
    )


def _find_dockerfile(names: list[str], on_gpu: bool) -> str | None:
    """Return the serving Dockerfile by convention: `.gpu` where there is a GPU, else the plain one or `.cpu`."""
    families: dict[str, dict[str, str]] = {}
    for name in names:
        match = _FOLDER.fullmatch(name) or _ROOT.fullmatch(name)
        if match is None:
            continue
        variant = (match.group(match.lastindex or 0) if match.lastindex else None) or ""
        variant = variant.lower() if variant.lower() in ("cpu", "gpu", "cuda") else ""
        family = re.sub(r"[._-](cpu|gpu|cuda)$", "", name, flags=re.IGNORECASE)
        families.setdefault(family, {})["gpu" if variant == "cuda" else variant] = name
    if len(families) > 1:
        shown = ", ".join(sorted(next(iter(found.values())) for found in families.values()))
        raise LayoutError(
            "ambiguous",
            f"There are several serving Dockerfiles: {shown}.",
            'Name the one to use in dockerlab.toml: [serve] dockerfile = "…".',
        )
    for found in families.values():
        for variant in ("gpu", "", "cpu") if on_gpu else ("cpu", "", "gpu"):
            if variant in found:
                return found[variant]
    return None


def _context(dockerfile: str, scanned: ServingDockerfile, names: list[str], told: Mapping[str, str]) -> str:
    """Return the build context: told, or the Dockerfile's folder or the root, whichever has what it copies."""
    if "context" in told:
        return posixpath.normpath(told["context"])
    folder = posixpath.dirname(dockerfile) or "."
    if folder == ".":
        return "."
    wanted = [source for source in scanned.sources if not is_artifact(source)]

    def found(base: str) -> int:
        return sum(_exists(posixpath.normpath(posixpath.join(base, source)), names) for source in wanted)

    # A tie is settled by the convention: serve/Dockerfile is built in serve/.
    return "." if found(".") > found(folder) else folder


def _exists(path: str, names: list[str]) -> bool:
    if any(c in path for c in "*?["):
        return any(PurePosixPath(name).match(path) for name in names)
    return path == "." or any(name == path or name.startswith(path + "/") for name in names)


def _with_dockerfile(
    dockerfile: str,
    scanned: ServingDockerfile,
    server: str,
    names: list[str],
    told: Mapping[str, str],
    artifact_name: str | None,
    read: Read,
) -> Layout:
    context = _context(dockerfile, scanned, names, told)
    target = _target(scanned, context, names, told, artifact_name)
    if target is not None or server == "http":
        kind = "http" if server == "http" else "dockerfile"
        return Layout(kind, server, dockerfile, context, target, why=f"found {dockerfile}")
    handler, model_file, extra = _handler(names, told, read)
    return Layout(
        "bare_image",
        server,
        dockerfile,
        context,
        model_file=model_file,
        handler=handler,
        extra_files=extra,
        why=f"{dockerfile} copies no model",
    )


def _target(
    scanned: ServingDockerfile, context: str, names: list[str], told: Mapping[str, str], artifact_name: str | None
) -> str | None:
    """Return where the Dockerfile expects the artifact, relative to the submission; `None`: it takes no model."""
    if "artifact" in told:
        return posixpath.normpath(told["artifact"])
    places = {
        posixpath.normpath(posixpath.join(context, place))
        for place in scanned.artifact_places(artifact_name or "mnist_cnn.pt")
    }
    places = {place for place in places if not place.startswith("../")}
    if len(places) > 1 and artifact_name is not None:
        places = {place for place in places if posixpath.basename(place) == artifact_name} or places
    if len(places) > 1:
        # What lies in the repository needs no artifact of ours: a second, pretrained file, for instance.
        places = {place for place in places if place not in names} or places
    if len(places) > 1 and artifact_name is not None:
        suffix = posixpath.splitext(artifact_name)[1]
        places = {place for place in places if place.endswith(suffix)} or places
    if len(places) > 1:
        raise LayoutError(
            "artifact_place",
            f"The serving Dockerfile copies several model files: {', '.join(sorted(places)[:4])}. Which is trained?",
            'Name it in dockerlab.toml: [serve] artifact = "…".',
        )
    return places.pop() if places else None


def _find_repository(names: list[str]) -> str | None:
    """Return Triton's model repository: the folder above the folders with a config.pbtxt."""
    found = {match.group(1) or "." for match in map(_CONFIG.fullmatch, names) if match}
    if len(found) > 1:
        raise LayoutError(
            "ambiguous",
            f"There are several model repositories: {', '.join(sorted(found)[:4])}.",
            'Name the one to use in dockerlab.toml: [serve] model_repository = "…".',
        )
    return found.pop() if found else None


def _triton(
    names: list[str], told: Mapping[str, str], repository: str | None, artifact_name: str | None, read: Read
) -> Layout:
    if repository is None:
        raise LayoutError(
            "missing",
            "The server is Triton, and no folder holds models with a config.pbtxt.",
            "Add model_repository/mnist/config.pbtxt, or name the folder with [serve] model_repository.",
        )
    repository = posixpath.normpath(repository)
    prefix = "" if repository == "." else repository + "/"
    models = [
        name[len(prefix) : -len("/config.pbtxt")]
        for name in names
        if name.startswith(prefix) and re.fullmatch(r"[^/]+/config\.pbtxt", name[len(prefix) :])
    ]
    wanted = told.get("model")
    if not models:
        raise LayoutError(
            "missing",
            f"The model repository {repository!r} holds no model: no NAME/config.pbtxt.",
            "Put each model in its own folder: NAME/config.pbtxt and NAME/1/model.pt, model.onnx or model.py.",
        )
    if len(models) > 1 and wanted not in models:
        raise LayoutError(
            "ambiguous",
            f"The model repository holds several models: {', '.join(models[:5])}.",
            'Name the one to ask in dockerlab.toml: [serve] model = "…".',
        )
    model = wanted if wanted in models else models[0]
    config = read(f"{prefix}{model}/config.pbtxt") or ""
    file = artifact_name or "model.pt"
    if re.search(r"pytorch_libtorch|\"pytorch\"", config):
        file = "model.pt"
    elif re.search(r"onnxruntime", config):
        file = "model.onnx"
    target = told.get("artifact") or f"{prefix}{model}/1/{file}"
    return Layout(
        "triton",
        "triton",
        artifact_target=posixpath.normpath(target),
        model_repository=repository,
        model=model,
        why=f"found {prefix}{model}/config.pbtxt",
    )


def _handler(names: list[str], told: Mapping[str, str], read: Read) -> tuple[str | None, str | None, tuple[str, ...]]:
    """Return the handler, the file with the model's class, and what lies beside the handler for the archive."""
    scripts = [name for name in names if name.endswith(".py") and name.count("/") <= 3][:500]
    handler = told.get("handler") or _one(
        [name for name in scripts if re.search(r"handler", posixpath.basename(name), re.IGNORECASE)],
        "handler",
        read,
        r"def\s+handle\s*\(|Handler\b",
    )
    if handler is None:
        return None, told.get("model_file"), ()
    folder = posixpath.dirname(handler)
    beside = [name for name in scripts if posixpath.dirname(name) == folder and name != handler]
    model_file = told.get("model_file") or _model_file(beside, scripts, handler, read)
    skipped = re.compile(r"^(train|test_|setup|conftest|download|prepare)", re.IGNORECASE)
    extra = [name for name in beside if name != model_file and not skipped.match(posixpath.basename(name))]
    extra += [name for name in names if posixpath.dirname(name) == folder and name.endswith(".json")]
    return handler, model_file, tuple(extra[:50])


def _model_file(beside: list[str], scripts: list[str], handler: str, read: Read) -> str | None:
    """Return the file with the network: beside the handler by name, else by its class, else anywhere by name."""
    named = re.compile(r"^(model|net|network|mnist|mnist_model|cnn)\.py$", re.IGNORECASE)
    network = re.compile(r"class\s+\w+\s*\(\s*(?:torch\.)?(?:nn\.)?Module\s*\)")
    for pool in (beside, [name for name in scripts if name != handler]):
        by_name = [name for name in pool if named.match(posixpath.basename(name)) and network.search(read(name) or "")]
        by_class = [name for name in pool if network.search(read(name) or "")] if pool is beside else []
        for found in (by_name, by_class):
            if found:
                return _one(found, "model_file", read, "")
    return None


def _one(found: list[str], key: str, read: Read, content: str) -> str | None:
    """Return the only candidate, those in a serving folder first; raises where several are as good."""
    if len(found) > 1 and content:
        found = [name for name in found if re.search(content, read(name) or "")] or found
    if len(found) > 1:
        found = [name for name in found if re.match(_STEM + "/", name)] or found
    if len(found) > 1:
        raise LayoutError(
            "ambiguous",
            f"Several files could be the {key.replace('_', ' ')}: {', '.join(found[:4])}.",
            f'Name the one to use in dockerlab.toml: [serve] {key} = "…".',
        )
    return found[0] if found else None


__all__ = ["KINDS", "SUFFIXES", "Layout", "LayoutError", "find_layout"]
