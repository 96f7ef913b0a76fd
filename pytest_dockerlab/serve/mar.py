"""TorchServe's archive format, written without TorchServe: a zip file with the files side by side and a manifest.

Only for submissions that bring a handler and no image: a serving image of the student's archives with its own
`torch-model-archiver`. Writing it here saves a container, and nothing in the files is looked at.
"""

from __future__ import annotations

import json
import posixpath
import zipfile
from collections.abc import Mapping
from pathlib import Path

CONFIG = "model-config.yaml"
# A worker that dies restarts for 300 s by default, and `/ping` stays healthy meanwhile: 5 s tell as much.
CONFIG_TEXT = b"minWorkers: 1\nmaxWorkers: 1\nmaxRetryTimeoutInSec: 5\n"


def arguments(name: str, serialized: str, handler: str, model_file: str | None, extra: tuple[str, ...]) -> list[str]:
    """Return what `torch-model-archiver` is told for the same archive."""
    options = ["--model-name", name, "--version", "1.0", "--serialized-file", serialized, "--handler", handler]
    if model_file:
        options += ["--model-file", model_file]
    if extra:
        options += ["--extra-files", ",".join(extra)]
    return options


def write(
    target: Path,
    name: str,
    serialized: str,
    handler: str,
    model_file: str | None,
    files: Mapping[str, Path | bytes],
) -> None:
    """Write the archive. The keys of `files` are paths; in the archive all lie side by side."""
    manifest = {
        "createdOn": "01/01/2000 00:00:00",
        "runtime": "python",
        "model": {
            "modelName": name,
            "serializedFile": posixpath.basename(serialized),
            "handler": posixpath.basename(handler),
            "modelVersion": "1.0",
            "configFile": CONFIG,
            **({"modelFile": posixpath.basename(model_file)} if model_file else {}),
        },
        "archiverVersion": "0.12.0",
    }
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("MAR-INF/MANIFEST.json", json.dumps(manifest, indent=2))
        archive.writestr(CONFIG, CONFIG_TEXT)
        for path, content in files.items():
            inside = posixpath.basename(path)
            if isinstance(content, Path):
                archive.write(content, inside)
            else:
                archive.writestr(inside, content)
