#!/usr/bin/env bash
# The whole test suite, on a real engine, from nothing.
#
#   scripts/test.sh                           all tests
#   scripts/test.sh -m 'not engine' -x        whatever follows goes to pytest
#
# Exit status: pytest's own; 3 where something has to be installed by hand (a line says what).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ensure_engine
ensure_package dev
ensure_images
ensure_data

cd "$ROOT"
exec "$PYTHON" -m pytest "$@"
