"""Make Debian's root file system from packages and import it: the one image that has no base."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import docker

from pytest_dockerlab.deadline import Deadline
from pytest_dockerlab.errors import ImageUnavailable, InfraError
from pytest_dockerlab.images import host, recipes
from pytest_dockerlab.images.build import engine_errors
from pytest_dockerlab.images.progress import Progress, Say, run
from pytest_dockerlab.images.recipes import Recipe

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def build_rootfs(client: docker.DockerClient, recipe: Recipe, tag: str, deadline: Deadline, say: Say) -> None:
    """Make the root file system with mmdebstrap and import it as `tag`, or raise with what is missing."""
    install_prerequisites(deadline, say)
    say(f"building {tag} from Debian packages (about {recipe.roughly_s} s)")
    progress = Progress(say, tag)
    with tempfile.TemporaryDirectory(prefix="dockerlab-rootfs-") as folder:
        tar = Path(folder) / "rootfs.tar"
        if run(_mmdebstrap(recipe, tar), deadline, progress) != 0 or not tar.is_file():
            raise ImageUnavailable(
                f"mmdebstrap could not make {tag}. Its last lines:{progress.last_lines()}",
                fix="Check that apt-get update works on this machine; then run this again.",
            )
        repository, _, key = tag.rpartition(":")
        changes = [f'LABEL {name}="{value}"' for name, value in recipes.labels(recipe).items()]
        with engine_errors(f"importing {tag}"):
            client.api.import_image(src=str(tar), repository=repository, tag=key, changes=changes)
    say(f"built {tag} in {progress.seconds:.0f} s")


def _mmdebstrap(recipe: Recipe, tar: Path) -> list[str]:
    suite = _words(recipe, "suite")[0]
    command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(_words(recipe, 'packages'))}"]
    command += [f"--dpkgopt={line}" for line in _words(recipe, "dpkg.cfg")]
    command += [suite, str(tar), *host.debian_sources(suite)]
    # Without root mmdebstrap takes user namespaces, where the system allows them.
    return host.as_root(command) if host.may_be_root() else command


def _words(recipe: Recipe, file: str) -> list[str]:
    lines = (recipe.folder / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def install_prerequisites(deadline: Deadline, say: Say) -> None:
    """Install what making a root file system needs on the host, where this user may; else say what to install."""
    missing = [] if shutil.which("mmdebstrap") else ["mmdebstrap"]
    if not KEYRING.exists():
        missing.append("debian-archive-keyring")
    if not missing:
        return
    packages = " ".join(missing)
    if not (shutil.which("apt-get") and host.may_be_root()):
        raise InfraError(
            f"No container registry answers, and making stand-in images needs {packages} on a Debian or Ubuntu host.",
            fix=f"Run: sudo apt-get install {packages}; or give the engine access to a registry or a mirror of one.",
        )
    say(f"installing {packages} with apt-get")
    progress = Progress(say, "apt-get")
    install = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "--no-install-recommends", *missing]
    run(host.as_root(["apt-get", "update", "-q"]), deadline, progress)
    if run(host.as_root(install), deadline, progress) != 0:
        raise InfraError(
            f"apt-get could not install {packages}. Its last lines:{progress.last_lines()}",
            fix=f"Run: sudo apt-get install {packages}",
        )
