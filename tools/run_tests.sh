#!/usr/bin/env bash
# Everything that is checked before a commit. Arguments go to pytest, e.g. -k feedback.
# The long tests are left out; `bash tools/run_tests.sh -n 2 --dist loadfile -m slow` runs them.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh

# Several test processes share the cores: threads in each would only get in their way.
export OMP_NUM_THREADS=1
(($#)) || set -- -n 2 --dist loadfile -m 'not slow'

.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
