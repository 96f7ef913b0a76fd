"""What the host lends to the images: its certificates, its package mirrors and pip's index. Read, never changed."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
from pathlib import Path

import certifi

# Where systems keep the bundle of trusted certificates, in the order of Debian, Fedora, SUSE, macOS and Alpine.
_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_PEM = re.compile(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_APT_FORMAT = "$(ORIGIN)|$(LABEL)|$(REPO_URI)"
ASK_S = 30  # for a question to apt or sudo, which answer in milliseconds


def certificates() -> bytes:
    """Return the certificates that this host trusts, as sorted PEM text with nothing else in it."""
    for candidate in (os.environ.get("SSL_CERT_FILE"), *_BUNDLES, certifi.where()):
        if candidate and Path(candidate).is_file():
            text = Path(candidate).read_text(encoding="utf-8", errors="replace")
            found = sorted(set(_PEM.findall(text)))
            if found:
                return "\n".join([*found, ""]).encode()
    return b""


def pip_conf() -> bytes:
    """Return a pip.conf with the host's package index, or an empty one.

    An index that needs a password, or that is a folder of the host, is left out: an image is no place for the first and
    has no use for the second.
    """
    url = os.environ.get("PIP_INDEX_URL") or _pip_index_url()
    if not re.fullmatch(r"https?://[^@\s]+", url):
        return b""
    return f"[global]\nindex-url = {url}\n".encode()


def _pip_index_url() -> str:
    home = Path.home()
    files = [Path("/etc/pip.conf"), home / ".pip/pip.conf", home / ".config/pip/pip.conf"]
    parser = configparser.RawConfigParser()
    try:
        parser.read([path for path in files if path.is_file()], encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):  # pip will tell the user; the default index serves here
        return ""
    return parser.get("global", "index-url", fallback="")


def debian_sources(suite: str) -> list[str]:
    """Return lines of a sources.list for a Debian suite, from the mirrors that apt uses here.

    Empty where apt knows no Debian mirror (another distribution): mmdebstrap then takes its own default.
    """
    main, security = _debian_mirrors()
    if not main:
        return []
    lines = [f"deb {main} {suite} main", f"deb {main} {suite}-updates main"]
    if security:
        lines.append(f"deb {security} {suite}-security main")
    return lines


def _debian_mirrors() -> tuple[str, str]:
    try:
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", _APT_FORMAT, "Created-By: Packages"],
            capture_output=True,
            text=True,
            timeout=ASK_S,
            check=False,
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return "", ""
    mirrors = {"Debian": "", "Debian-Security": ""}
    for line in listed.splitlines():
        origin, label, uri, *_ = (*line.split("|"), "", "", "")
        if origin == "Debian" and uri.startswith(("http://", "https://")) and "@" not in uri and not mirrors.get(label):
            mirrors[label] = uri.rstrip("/")
    return mirrors["Debian"], mirrors["Debian-Security"]


def proxies() -> dict[str, str]:
    """Return the proxy settings of the environment as build arguments, which Docker keeps out of images."""
    names = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")
    return {name: os.environ[name] for name in names if os.environ.get(name)}


def may_be_root() -> bool:
    """Whether commands can run as root here without a question."""
    return os.geteuid() == 0 or _quiet(["sudo", "-n", "true"])


def as_root(command: list[str]) -> list[str]:
    """Return the command as root would run it; only where `may_be_root`."""
    return command if os.geteuid() == 0 else ["sudo", "-n", *command]


def _quiet(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=ASK_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
