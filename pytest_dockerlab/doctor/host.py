"""Checks on this machine, apart from its engine."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from pytest_dockerlab import paths
from pytest_dockerlab.doctor.finding import Finding, Status, fail, ok, warn
from pytest_dockerlab.doctor.machine import Machine

OLDEST_PYTHON = (3, 10)
ASK_S = 5.0

# GB free, below which a full disk is near, and below which it is there. A training image has 1 to 8 GB.
ENGINE_GB = (15.0, 3.0)
CACHE_GB = (2.0, 0.2)


def python(_: Machine) -> list[Finding]:
    """Python's version."""
    seen = f"Python {platform.python_version()} ({sys.executable})"
    if sys.version_info[:2] < OLDEST_PYTHON:
        return [fail("python", f"{seen}: too old", "Install Python 3.10 or newer.")]
    return [ok("python", seen)]


def git(machine: Machine) -> list[Finding]:
    """Git: only batches of repositories and `dockerlab init` need it."""
    command = machine.command("git")
    if command is None:
        return [warn("git", "git is not on the PATH: repositories can't be fetched", _install(machine, "git"))]
    try:
        told = subprocess.run([command, "--version"], capture_output=True, text=True, timeout=ASK_S, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        return [warn("git", f"{command} does not run: {error}", _install(machine, "git"))]
    return [ok("git", told.strip() or command)]


def _install(machine: Machine, package: str) -> str:
    for command, line in (("apt-get", "sudo apt-get install"), ("dnf", "sudo dnf install"), ("brew", "brew install")):
        if machine.command(command):
            return f"{line} {package}"
    return f"Install {package}."


def disk(machine: Machine) -> list[Finding]:
    """Room where the engine keeps images, and where we keep runs."""
    return [_engine_disk(machine), _cache_disk()]


def _engine_disk(machine: Machine) -> Finding:
    root = str(machine.info.get("DockerRootDir") or "")
    if machine.client is None:
        return warn("disk", "where the engine keeps images is not known: no engine answers")
    if not (machine.same_kernel and root):
        where = "on another machine" if not machine.local else "in a virtual machine"
        return ok("disk", f"the engine keeps its images {where}: `docker system df` tells of them")
    try:
        free = shutil.disk_usage(root).free
    except OSError:
        return ok("disk", f"images in {root}, whose room can't be seen from here: `docker system df` tells of it")
    return _room(f"images in {root}", free, ENGINE_GB, "dockerlab clean; docker builder prune; docker image prune")


def _cache_disk() -> Finding:
    folder = paths.cache_dir()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    move = "Set DOCKERLAB_CACHE to a folder that can be written to."
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        return fail("disk", f"runs can't be kept in {folder}: {there} can't be written to", move)
    try:
        free = shutil.disk_usage(there).free
    except OSError as error:
        return fail("disk", f"runs can't be kept in {folder}: {error.strerror}", move)
    return _room(f"runs in {folder}", free, CACHE_GB, "dockerlab clean --cache")


def _room(what: str, free: int, limits_gb: tuple[float, float], fix: str) -> Finding:
    few, none = limits_gb
    status = Status.FAIL if free < none * 1e9 else Status.WARN if free < few * 1e9 else Status.OK
    text = f"{what}: {free / 1e9:,.1f} GB free"
    return Finding("disk", status, text, None if status is Status.OK else fix)


def engine_script() -> Path | None:
    """Return the script that installs and starts an engine; only a checkout has it."""
    script = paths.PACKAGE.parent / "scripts" / "engine.sh"
    return script if script.is_file() else None
