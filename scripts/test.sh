#!/usr/bin/env bash
# The whole test suite, on a real engine, from nothing.
#
#   scripts/test.sh                           all tests
#   scripts/test.sh -m 'not engine' -x        whatever follows goes to pytest
#   DOCKERLAB_TEST_TOOLS=1 scripts/test.sh    installs Podman and gVisor too, for the tests that skip without them
#
# Exit status: pytest's own; 3 where something has to be installed by hand (a line says what).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ensure_engine
ensure_package dev
ensure_images
ensure_data
if [ "${DOCKERLAB_TEST_TOOLS:-}" = 1 ]; then ensure_test_tools; fi

cd "$ROOT"
exec "$PYTHON" -m pytest "$@"
