#!/usr/bin/env bash
# The engine contract tests on Debian 12's own Docker Engine 20.10, beside whatever engine runs here.
#
#   scripts/contract_old_engine.sh [pytest's options]
#
# Needs root on Debian 12 with an engine that runs and has the images (scripts/test.sh). The package is unpacked into a
# temporary folder, never installed; its dockerd has a network namespace, data and sockets of its own. Its BuildKit is
# too old for named contexts and heredocs, so the classic builder builds; what only BuildKit builds is left out.
# Exit status: pytest's own; 3 where this machine can't do it.
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

WAIT_SECONDS=60
IMAGES=(dockerlab/client dockerlab/standin-alpine) # with all their tags

[ "$(id -u)" -eq 0 ] || { say "This needs root."; exit 3; }
have apt-get && have unshare && have docker && have containerd && have runc ||
  { say "This needs Debian with containerd, runc, a docker client and unshare."; exit 3; }

folder=$(mktemp -d "${TMPDIR:-/tmp}/dockerlab-old.XXXXXX")
daemon=""
clean_up() {
  if [ -n "$daemon" ]; then kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; fi
  grep -o " $folder[^ ]*" /proc/self/mounts | sort -r | xargs -r -n 1 umount 2>/dev/null || true
  rm -rf --one-file-system "$folder"
}
trap clean_up EXIT

version=$(apt-cache madison docker.io | awk '$3 ~ /^20\.10\./ {print $3; exit}')
[ -n "$version" ] || { say "apt-get knows no docker.io 20.10 here."; exit 3; }
(cd "$folder" && quietly "fetching docker.io $version" apt-get download -q "docker.io=$version")
dpkg -x "$folder"/docker.io_*.deb "$folder/root"

# docker-proxy and docker-init are looked for on the PATH; the network namespace keeps docker0 of the other engine whole.
PATH=$folder/root/usr/sbin:$folder/root/usr/bin:$PATH unshare --net "$folder/root/usr/sbin/dockerd" \
  --host "unix://$folder/docker.sock" --data-root "$folder/data" --exec-root "$folder/exec" --pidfile "$folder/pid" \
  --iptables=false >"$folder/log" 2>&1 &
daemon=$!
old=unix://$folder/docker.sock
waited=0
until docker --host "$old" version >/dev/null 2>&1; do
  sleep 1
  waited=$((waited + 1))
  if [ "$waited" -ge "$WAIT_SECONDS" ] || ! kill -0 "$daemon" 2>/dev/null; then
    say "Engine 20.10 does not start:"
    tail -n 15 "$folder/log" >&2
    exit 3
  fi
done
for image in "${IMAGES[@]}"; do
  docker save "$image" | docker --host "$old" load -q >/dev/null
done
say "engine: Docker $(docker --host "$old" version --format '{{.Server.Version}}')"

cd "$ROOT"
status=0
DOCKER_HOST=$old "$PYTHON" -m pytest -p no:cacheprovider tests/engine_contract -k "not podman and not (only_buildkit and not classic)" "$@" || status=$?
exit "$status"
