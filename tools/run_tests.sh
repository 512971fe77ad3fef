#!/usr/bin/env bash
# Runs all checks that a commit must pass. Arguments go to pytest, e.g. -k feedback.
# Long tests are skipped; `bash tools/run_tests.sh -n 2 --dist loadfile -m slow` runs them.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh

# Several test processes share the cores, so each of them uses one thread.
export OMP_NUM_THREADS=1
(($#)) || set -- -n 2 --dist loadfile -m 'not slow'

.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
