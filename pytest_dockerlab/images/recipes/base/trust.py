"""Run inside the base image: trust the host's certificates that Debian's own bundle lacks.

One file each under `/usr/local/share/ca-certificates`, so that they outlive an upgrade of `ca-certificates`.
"""

import re
import subprocess
import sys
from pathlib import Path

BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
LOCAL = Path("/usr/local/share/ca-certificates")


def certificates(path: Path) -> list[str]:
    """Return a bundle's certificates as base64 with no line breaks, so that two spellings of one are equal."""
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    found = re.findall(r"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", text, re.DOTALL)
    return ["".join(body.split()) for body in found]


def main() -> None:
    """Add what is missing, then let Debian's tool make the bundle again."""
    known = set(certificates(BUNDLE))
    LOCAL.mkdir(parents=True, exist_ok=True)
    for number, body in enumerate(b for b in certificates(Path(sys.argv[1])) if b not in known):
        lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
        pem = f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"
        (LOCAL / f"host-{number:03}.crt").write_text(pem, encoding="ascii")
    subprocess.run(["update-ca-certificates"], check=True, stdout=subprocess.DEVNULL)


main()
