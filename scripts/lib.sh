# shellcheck shell=bash
# What demo.sh, test.sh and .ci/run share. Sourced, never run. Each step is quiet about what is in place already.
#
# Exit status of the scripts: 3 something has to be installed by hand, and a line says what.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
PYTHON=$VENV/bin/python
TICK_SECONDS=15

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
may_be_root() { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
as_root() { if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi; }

# quietly WHAT COMMAND…: say what is done, a sign of life now and then, and the log's last lines only if it fails.
quietly() {
  local what=$1 log pid waited=0 status=0
  shift
  log=$(mktemp "${TMPDIR:-/tmp}/dockerlab.XXXXXX")
  say "$what"
  "$@" >"$log" 2>&1 &
  pid=$!
  # An interrupt ends the step too, and leaves no log behind.
  trap 'kill "$pid" 2>/dev/null; rm -f "$log"; exit 130' INT TERM
  while kill -0 "$pid" 2>/dev/null; do
    sleep 1
    waited=$((waited + 1))
    [ $((waited % TICK_SECONDS)) -ne 0 ] || say "  still at it after $waited s: $(tail -n 1 "$log" | cut -c 1-100)"
  done
  wait "$pid" || status=$?
  trap - INT TERM
  [ "$status" -eq 0 ] || { say "failed: $what"; tail -n 20 "$log" >&2; }
  rm -f "$log"
  return "$status"
}

ensure_engine() {
  local host
  host=$("$ROOT/scripts/engine.sh") || exit $?
  if [ -n "$host" ]; then export DOCKER_HOST=$host; fi
}

new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }

# Print the first Python that is new enough; DOCKERLAB_PYTHON goes first.
find_python() {
  local candidate
  for candidate in ${DOCKERLAB_PYTHON:-} python3 python3.13 python3.12 python3.11 python3.10; do
    if have "$candidate" && new_enough "$candidate"; then command -v "$candidate"; return; fi
  done
  say "Python 3.10 or newer is needed; $(python3 --version 2>/dev/null || echo 'there is no python3') here."
  case "$(uname -s)" in
    Darwin) say "Install it: brew install python@3.12" ;;
    *) say "Install it, or name one: DOCKERLAB_PYTHON=/path/to/python3.12 $0" ;;
  esac
  exit 3
}

# Debian and Ubuntu keep venv's other half (ensurepip) in a package of its own.
ensure_venv_module() {
  local python=$1 package
  "$python" -c 'import ensurepip, venv' 2>/dev/null && return
  package=$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
  if have apt-get && may_be_root; then
    quietly "installing $package with apt-get" apt_install "$package"
  else
    say "Python's venv module is missing. Install it: sudo apt-get install $package"
    exit 3
  fi
}
apt_install() {
  as_root apt-get update -q || true # an old list may do
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}

# ensure_package [EXTRA]: the virtual environment with this package in it. A stamp tells what was installed from.
ensure_package() {
  local extra=${1:-} python now stamp
  if ! { [ -x "$PYTHON" ] && new_enough "$PYTHON"; }; then
    python=$(find_python) || exit $?
    ensure_venv_module "$python"
    quietly "making the virtual environment .venv" "$python" -m venv --clear "$VENV"
  fi
  now=$(cksum <"$ROOT/pyproject.toml")
  stamp=$VENV/.dockerlab-stamp
  # Lines of the stamp: the checksum, then an extra each; `+` is the package itself.
  if [ "$(head -n 1 "$stamp" 2>/dev/null)" = "$now" ] && grep -qxF "+$extra" "$stamp"; then return; fi
  # A virtual environment can lack pip: interrupted in the making, or made by another tool.
  "$PYTHON" -m pip --version >/dev/null 2>&1 || quietly "putting pip into .venv" "$PYTHON" -m ensurepip
  quietly "installing pytest-dockerlab${extra:+ and what its tests need} into .venv (a minute or two, once)" \
    "$PYTHON" -m pip install --disable-pip-version-check --progress-bar off -e "$ROOT${extra:+[$extra]}"
  printf '%s\n+\n+%s\n' "$now" "$extra" >"$stamp"
}

# Debian 12's runsc is too old; Debian 13's installs there too, from the source that engine.sh adds.
ensure_test_tools() {
  have apt-get && may_be_root || { say "no Podman and no gVisor are installed here: their tests skip"; return 0; }
  have podman || quietly "installing Podman for its tests" apt_install podman catatonit || true
  have runsc || quietly "installing gVisor for its tests" apt_install runsc/trixie || true
}

ensure_images() { "$VENV/bin/dockerlab" images ensure >/dev/null; }
ensure_data() { "$VENV/bin/dockerlab" data fetch mnist >/dev/null; }
