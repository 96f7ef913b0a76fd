#!/usr/bin/env bash
# From nothing to a grade: find or install an engine, set up what is missing, and grade the reference solution of MNIST.
#
#   scripts/demo.sh                           all of it; a second call sets up nothing and only grades
#   scripts/demo.sh --dockerlab-lang zh       whatever follows goes to pytest
#
# Exit status: pytest's own; 3 where something has to be installed by hand (a line says what).
set -euo pipefail
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ensure_engine
ensure_package
ensure_images
ensure_data

cd "$ROOT/assignments/mnist/solution"
status=0
"$VENV/bin/pytest" --dockerlab --dockerlab-report "$ROOT/dockerlab-report" "$@" || status=$?
if [ -e "$ROOT/dockerlab-report" ]; then say "results, evidence and reports: $ROOT/dockerlab-report"; fi
exit "$status"
