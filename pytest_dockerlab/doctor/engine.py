"""Checks on the engine: what answers, how it builds, and which limits it can keep."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

from pytest_dockerlab.doctor.finding import Finding, fail, ok, warn
from pytest_dockerlab.doctor.host import engine_script
from pytest_dockerlab.doctor.machine import Machine
from pytest_dockerlab.engine import buildx, reaper

OLDEST_API = (1, 41)  # Engine 20.10, and what Podman 4 answers to
ASK_S = 8.0
CGROUPS = Path("/sys/fs/cgroup")
PLUGIN_FOLDERS = (
    "/usr/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/opt/homebrew/lib/docker/cli-plugins",
)


# -- the engine itself


def engine(machine: Machine) -> list[Finding]:
    """Whether an engine answers, and which."""
    if machine.client is None:
        return [fail("engine", _no_engine(machine), _how_to_get_one(machine))]
    version = str(machine.version.get("Version", "?"))
    api = str(machine.version.get("ApiVersion", "0"))
    name = "Podman" if machine.podman else "Docker"
    seen = f"{name} {version} (API {api}) at {machine.host}"
    if _numbers(api) < OLDEST_API:
        return [fail("engine", f"{seen}: too old", "Install Docker Engine 20.10 or newer, or Podman 4.3 or newer.")]
    return [ok("engine", seen)]


def _no_engine(machine: Machine) -> str:
    client = machine.command("docker")
    if client and not machine.command("dockerd") and not machine.environ.get("DOCKER_HOST"):
        return f"{machine.problem} Only a docker client is here ({client}), which needs an engine to speak to."
    return machine.problem


def _how_to_get_one(machine: Machine) -> str:
    address = machine.environ.get("DOCKER_HOST")
    if "permission denied" in machine.problem.lower():
        return "sudo usermod -aG docker $USER   # then log in again"
    if address:
        return f"unset DOCKER_HOST   # or start the engine at {address}"
    if machine.platform == "darwin":
        if machine.command("colima"):
            return "colima start"
        return "brew install colima docker docker-buildx && colima start   # or install and open Docker Desktop"
    if machine.command("dockerd") and Path("/run/systemd/system").is_dir():
        return "sudo systemctl start docker"
    if script := engine_script():
        return f"bash {os.path.relpath(script)}   # installs Docker where it is missing, and starts it"
    if machine.command("dockerd"):
        return "sudo dockerd &"
    if machine.command("podman"):
        return "systemctl --user start podman.socket"
    return "curl -fsSL https://get.docker.com | sudo sh"


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in text.split("."))


# -- how it builds


def builder(machine: Machine) -> list[Finding]:
    """Whether there is buildx. Without it the classic builder builds, which can't do all that Dockerfiles ask for."""
    less = "the classic builder is used, which refuses heredocs, `RUN --mount` and `COPY --link`"
    if machine.podman:
        some = (
            "what its version does not know of heredocs, `COPY --link` and the like gets no grade, and a step that "
            "runs when the time is over goes on (4.3)"
        )
        return [warn("builder", f"Podman builds through its Docker API: {some}")]
    client = machine.command("docker")
    if client is None:
        return [warn("builder", f"no docker client on the PATH: {less}", _get_buildx(machine))]
    version = buildx.buildx_version()
    if version:
        return [ok("builder", f"buildx {version} (client: {client})")]
    told = _buildx_says(client)
    if told:
        return [warn("builder", f"{told} is too old (0.13 or newer is needed): {less}", _get_buildx(machine))]
    return [warn("builder", f"{client} is a bare client, without buildx: {less}", _get_buildx(machine))]


def _buildx_says(client: str) -> str:
    try:
        done = subprocess.run([client, "buildx", "version"], capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()[:100] if done.returncode == 0 else ""


def _get_buildx(machine: Machine) -> str:
    for folder in PLUGIN_FOLDERS:
        plugin = Path(folder, "docker-buildx")
        # There, and all the same not found by the client: it looks elsewhere.
        if plugin.is_file() and machine.command("docker"):
            return f"mkdir -p ~/.docker/cli-plugins && ln -sf {plugin} ~/.docker/cli-plugins/docker-buildx"
    if machine.command("brew"):
        return "brew install docker docker-buildx"
    if machine.command("apt-get"):
        return "sudo apt-get install docker-buildx-plugin   # Debian's own package: docker-buildx"
    return "Install the docker client and buildx: https://docs.docker.com/go/buildx/"


# -- what it can run, and within which limits


def runtimes(machine: Machine) -> list[Finding]:
    """Which runtimes there are; gVisor's is the stronger sandbox."""
    # The containerd shims are the same runtimes under longer names.
    known = machine.info.get("Runtimes") or {}
    names = sorted(name for name in known if not name.startswith("io.containerd."))
    if machine.podman and machine.same_kernel:  # it tells all that its configuration names, and looks for none of them
        names = [name for name in names if Path((known[name] or {}).get("path") or "").is_file()]
    seen = f"{', '.join(names) or 'unknown'} (default: {machine.info.get('DefaultRuntime') or '?'})"
    if "runsc" in names:
        return [ok("runtimes", f"{seen}; gVisor (runsc) can be chosen: --dockerlab-runtime runsc")]
    if machine.environ.get("DOCKERLAB_RUNTIME") == "runsc":
        fix = "Install gVisor (https://gvisor.dev/docs/user_guide/install/), or unset DOCKERLAB_RUNTIME."
        return [fail("runtimes", f"{seen}; DOCKERLAB_RUNTIME asks for runsc, which is not here", fix)]
    return [ok("runtimes", f"{seen}; gVisor (runsc), the stronger sandbox, is not here")]


def cgroup(machine: Machine) -> list[Finding]:
    """Whether the engine can keep memory, CPU and process limits."""
    info = machine.info
    seen = f"cgroup v{info.get('CgroupVersion') or '?'}, driver {info.get('CgroupDriver') or '?'}"
    missing = [
        name
        for name, key in (("memory", "MemoryLimit"), ("cpu", "CpuCfsQuota"), ("pids", "PidsLimit"))
        if info.get(key) is False
    ]
    # Podman's Docker API says false for what it does not look up.
    if missing and not machine.podman:
        fix = "Delegate the controllers to the engine's user: https://docs.docker.com/engine/security/rootless/"
        return [fail("cgroup", f"{seen}: no limit on {', '.join(missing)} can be kept", fix)]
    if info.get("SwapLimit") is False and not machine.podman:
        fix = 'Add "swapaccount=1" to the kernel\'s command line, or switch swap off: sudo swapoff -a'
        return [warn("cgroup", f"{seen}: swap can't be limited, so a container may use it on top of its memory", fix)]
    return [ok("cgroup", f"{seen}: memory, CPU and process limits are kept")]


def build_limits(machine: Machine) -> list[Finding]:
    """Whether `RUN` steps can be put under a cgroup of ours: BuildKit itself has no limits."""
    problem = build_limits_problem(machine)
    if problem is None:
        return [ok("build-limits", "build steps can be put under a cgroup with the assignment's limits")]
    what = "build steps run without limits on memory and processes"
    fix = "Grade as root on a Linux machine whose engine is local, has buildx and the cgroup driver cgroupfs."
    return [warn("build-limits", f"{what}: {problem}", fix)]


def build_limits_problem(machine: Machine) -> str | None:
    """Return why no cgroup can be given to build steps; `None`: one was made, limited and removed again."""
    if machine.podman or buildx.buildx_version() is None:
        return "there is no buildx to tell the cgroup to"
    if not machine.same_kernel:
        return "the engine runs on another system than this one"
    driver = machine.info.get("CgroupDriver")
    if driver != "cgroupfs":
        return f"the engine's cgroup driver is {driver}, which makes the groups itself"
    if machine.info.get("CgroupVersion") == "2":
        trials = [(CGROUPS, "memory.max", b"1073741824"), (CGROUPS, "pids.max", b"512")]
    else:
        memory, pids = CGROUPS / "memory", CGROUPS / "pids"
        trials = [(memory, "memory.limit_in_bytes", b"1073741824"), (pids, "pids.max", b"512")]
    return next((problem for trial in trials if (problem := _try_group(*trial))), None)


def _try_group(parent: Path, limit: str, value: bytes) -> str | None:
    group = parent / f"dockerlab-doctor-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        return f"no group can be made in {parent} ({error.strerror})"
    try:
        # Not `write_text`: that would make the file, in a folder that is no cgroup.
        handle = os.open(group / limit, os.O_WRONLY)
        try:
            os.write(handle, value)
        finally:
            os.close(handle)
    except OSError as error:
        return f"{limit} can't be set in {parent} ({error.strerror})"
    finally:
        with contextlib.suppress(OSError):
            group.rmdir()
    return None


def quota(machine: Machine) -> list[Finding]:
    """Whether the engine can limit what a container writes. Where not, it is measured, and ended over the limit."""
    driver = str(machine.info.get("Driver") or "?")
    status = {str(row[0]): str(row[1]) for row in machine.info.get("DriverStatus") or [] if len(row) == 2}
    below = status.get("Backing Filesystem", "?")
    if driver in ("btrfs", "zfs", "windowsfilter"):
        return [ok("quota", f"{driver}: the engine can limit what a container writes")]
    if driver == "overlay2" and below == "xfs" and _has_project_quota(machine):
        return [ok("quota", "overlay2 on xfs with pquota: the engine can limit what a container writes")]
    return [ok("quota", f"{driver} on {below} has none: what containers write is measured, and ended over its limit")]


def _has_project_quota(machine: Machine) -> bool:
    root = str(machine.info.get("DockerRootDir") or "")
    if not (machine.same_kernel and root):
        return False
    try:
        lines = Path("/proc/self/mounts").read_text(errors="replace").splitlines()
    except OSError:
        return False
    mounts = {fields[1]: fields[3].split(",") for line in lines if len(fields := line.split()) > 3}
    folder = next((str(path) for path in (Path(root), *Path(root).parents) if str(path) in mounts), "/")
    return any(option in ("pquota", "prjquota") for option in mounts.get(folder, []))


# -- what is left over


def leftovers(machine: Machine) -> list[Finding]:
    """What ended runs left on the engine."""
    port = machine.engine
    found = reaper.leftovers(port, kept=True) if port is not None else []
    if not found:
        return [ok("leftovers", "no ended run left anything on the engine")]
    size = sum(one.thing.bytes for one in found)
    text = f"ended runs left {len(found)} things on the engine ({size / 1e9:.1f} GB)"
    return [warn("leftovers", text, "dockerlab clean")]
