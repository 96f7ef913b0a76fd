#!/usr/bin/env bash
# Make sure that a container engine answers: find one, start one, or install one.
#
#   scripts/engine.sh           find, start or install; one line on stderr names the engine
#   scripts/engine.sh --stop    end the dockerd that this script started (and only that one)
#
# On stdout, only where clients need to be told (Podman): the value for DOCKER_HOST.
# Exit status: 0 an engine answers; 3 there is none and this script may not install one; 1 it was started and does not answer.
set -euo pipefail

STATE_DIR=${DOCKERLAB_ENGINE_STATE:-/var/lib/dockerlab-engine}
DAEMON_LOG=$STATE_DIR/dockerd.log
WAIT_SECONDS=60
ASK_SECONDS=20
SOCKET=/var/run/docker.sock
PATH=$PATH:/usr/sbin:/sbin # dockerd and ip, for users whose PATH lacks them

say() { printf '%s\n' "$*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
bounded() { if have timeout; then timeout "$ASK_SECONDS" "$@"; else "$@"; fi; } # macOS has no `timeout`

as_root() {
  if [ "$(id -u)" -eq 0 ]; then "$@"; else sudo -n "$@"; fi
}
may_be_root() { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }

# A machine can have the socket without the client: then the socket itself is asked.
engine_answers() {
  if have docker; then
    bounded docker version --format '{{.Server.Version}}' 2>/dev/null | grep -q .
  else
    socket_answers "$SOCKET"
  fi
}
socket_answers() {
  have curl && bounded curl -fsS --max-time "$ASK_SECONDS" --unix-socket "$1" http://localhost/_ping >/dev/null 2>&1
}

report() {
  local version builder
  version=$(bounded docker version --format '{{.Server.Version}}' 2>/dev/null || echo "of a version unknown: no docker client here")
  builder=$(bounded docker buildx version 2>/dev/null | awk '{print $2; exit}' || true)
  say "engine: Docker $version, ${builder:+buildx }${builder:-without buildx: its classic builder builds}"
}

# Podman serves Docker's API on a socket of its own. Where only Podman is installed, its service is started.
podman_host() {
  local own="${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/podman/podman.sock" socket
  for socket in "$own" /run/podman/podman.sock; do
    if [ -S "$socket" ] && socket_answers "$socket"; then printf 'unix://%s' "$socket"; return 0; fi
  done
  if have podman && ! have dockerd; then
    [ "$(id -u)" -ne 0 ] || own=/run/podman/podman.sock
    if ! systemctl --user start podman.socket >/dev/null 2>&1; then
      mkdir -p "$(dirname "$own")" && setsid podman system service --time=0 "unix://$own" >/dev/null 2>&1 </dev/null &
    fi
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      if [ -S "$own" ] && socket_answers "$own"; then printf 'unix://%s' "$own"; return 0; fi
      sleep 1
    done
  fi
  return 1
}

# A second dockerd that is started with --bridge=none deletes docker0 under the first one, and then no container starts
# ("adding interface … to bridge docker0 failed"). Made anew by hand it serves again, without a restart that would end
# what runs. Only for the dockerd that this script started: another one's bridge may rightly be out of sight.
mend_lost_bridge() {
  local pid subnet gateway
  pid=$(cat "$STATE_DIR/dockerd.pid" 2>/dev/null || true)
  [ -n "$pid" ] && grep -q dockerd "/proc/$pid/comm" 2>/dev/null || return 0
  [ -z "${DOCKER_HOST:-}" ] && [ ! -e /sys/class/net/docker0 ] && have ip && may_be_root || return 0
  read -r subnet gateway < <(docker network inspect bridge --format \
    '{{if eq (index .Options "com.docker.network.bridge.name") "docker0"}}{{with index .IPAM.Config 0}}{{.Subnet}} {{.Gateway}}{{end}}{{end}}' \
    2>/dev/null) || return 0
  [ -n "$gateway" ] || return 0
  say "the engine has lost its network bridge docker0; making it anew"
  as_root ip link add docker0 type bridge
  as_root ip address add "$gateway/${subnet#*/}" dev docker0
  as_root ip link set docker0 up
}

# A killed daemon leaves its pid file; the number can since belong to another program, and dockerd then refuses to start.
clear_stale_pid_file() {
  local file pid
  for file in /var/run/docker.pid /run/docker/containerd/containerd.pid; do
    [ -f "$file" ] || continue
    pid=$(cat "$file" 2>/dev/null || echo "")
    if [ -z "$pid" ] || ! grep -qE '(dockerd|containerd)' "/proc/$pid/comm" 2>/dev/null; then
      say "removing the stale $file (process $pid is not an engine)"
      as_root rm -f "$file"
    fi
  done
}

start_daemon() {
  if [ -d /run/systemd/system ] && have systemctl; then
    as_root systemctl start docker
  else
    clear_stale_pid_file
    as_root mkdir -p "$STATE_DIR"
    # setsid: the daemon must outlive this script and the terminal it was called from.
    as_root sh -c "setsid dockerd >>'$DAEMON_LOG' 2>&1 </dev/null & echo \$! >'$STATE_DIR/dockerd.pid'"
  fi
  local waited=0
  until engine_answers; do
    sleep 1
    waited=$((waited + 1))
    if [ "$waited" -ge "$WAIT_SECONDS" ]; then
      say "dockerd did not answer within $WAIT_SECONDS s. Its last lines (all of it: $DAEMON_LOG):"
      as_root tail -n 15 "$DAEMON_LOG" >&2 || true
      exit 1
    fi
  done
}

apt_install() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >>"$APT_LOG" 2>&1
}

# Debian 12's own engine is 20.10, without buildx. Debian 13's is 26.1 with buildx and needs only libc 2.34, so it installs
# on Debian 12; containerd, runc and tini stay Debian 12's (13's runc needs a newer libc). The pin keeps all else at 12.
install_on_debian_12() {
  local mirror
  # shellcheck disable=SC2016  # apt expands these
  mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' 2>/dev/null |
    awk '$2 ~ /bookworm$/ {print $1; exit}')
  # shellcheck disable=SC2016
  [ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep '/debian/\?$' | head -n 1 || true)
  if [ -n "$mirror" ]; then
    printf 'Types: deb\nURIs: %s\nSuites: trixie\nComponents: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n' "$mirror" |
      as_root tee /etc/apt/sources.list.d/dockerlab-trixie.sources >/dev/null
    printf 'Package: *\nPin: release n=trixie\nPin-Priority: 100\n' |
      as_root tee /etc/apt/preferences.d/dockerlab-trixie >/dev/null
    as_root apt-get update -q >>"$APT_LOG" 2>&1
    if apt_install docker.io/trixie docker-cli/trixie docker-buildx/trixie containerd runc iptables; then return 0; fi
    say "Debian 13's engine did not install; taking Debian 12's own (20.10, no buildx)"
  fi
  apt_install docker.io iptables
}

install_engine() {
  . /etc/os-release
  APT_LOG=$(mktemp /tmp/dockerlab-apt.XXXXXX.log)
  say "installing a container engine with apt-get (about a minute; log: $APT_LOG)"
  as_root apt-get update -q >>"$APT_LOG" 2>&1 || true
  # An engine package would start the service in its postinst; where no init system runs that fails, and we start it below.
  local failed=0
  case "${VERSION_CODENAME:-}" in
    bookworm) install_on_debian_12 || failed=1 ;;
    *) apt_install docker.io docker-cli docker-buildx iptables || apt_install docker.io docker-buildx iptables ||
       apt_install docker.io iptables || failed=1 ;;
  esac
  if [ "$failed" -eq 1 ]; then
    say "apt-get could not install an engine. Its last lines:"
    tail -n 15 "$APT_LOG" >&2
    exit 3
  fi
  rm -f "$APT_LOG"
}

tell_what_to_install() {
  say "No container engine answers, and this script may not install one here."
  case "$(uname -s)" in
    Darwin) say "Install Docker Desktop (https://docs.docker.com/desktop/) or colima ('brew install colima docker docker-buildx && colima start'), start it, run this again." ;;
    Linux)
      if have dockerd || have docker; then
        say "Docker is installed but does not answer: start it ('sudo systemctl start docker'), and add yourself to its group"
        say "('sudo usermod -aG docker \$USER', then log in again) if 'docker version' says permission denied."
      else
        say "Install Docker Engine with its buildx plugin (https://docs.docker.com/engine/install/) or Podman 4.3 or newer, run this again."
      fi ;;
    *) say "Install Docker Desktop (https://docs.docker.com/desktop/), start it, run this again inside WSL 2." ;;
  esac
  exit 3
}

stop_own_daemon() {
  local pid
  pid=$(cat "$STATE_DIR/dockerd.pid" 2>/dev/null || true)
  if [ -n "$pid" ] && grep -q dockerd "/proc/$pid/comm" 2>/dev/null; then
    as_root kill "$pid"
    say "stopped dockerd (process $pid)"
  else
    say "no dockerd of ours is running"
  fi
}

main() {
  if [ "${1:-}" = "--stop" ]; then stop_own_daemon; return; fi
  if engine_answers; then mend_lost_bridge; report; return; fi
  if [ -n "${DOCKER_HOST:-}" ]; then
    say "No container engine answers at DOCKER_HOST=$DOCKER_HOST. Start it, or unset DOCKER_HOST, and run this again."
    exit 3
  fi
  local host
  if host=$(podman_host); then
    say "engine: Podman ($host)"
    printf '%s\n' "$host"
    return
  fi
  [ "$(uname -s)" = Linux ] || tell_what_to_install
  # It runs, and this user may not speak to it: nothing to start.
  if [ -S "$SOCKET" ] && [ ! -w "$SOCKET" ]; then tell_what_to_install; fi
  if ! have dockerd; then
    if ! have apt-get || ! may_be_root; then tell_what_to_install; fi
    install_engine
  fi
  may_be_root || tell_what_to_install
  engine_answers || start_daemon
  report
}

main "$@"
