#!/usr/bin/env bash
# Everything that is checked before a commit. Arguments go to pytest, e.g. -k feedback.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh

# Several test processes share the cores: threads in each would only get in their way.
export OMP_NUM_THREADS=1
(($#)) || set -- -n 2

.venv/bin/ruff check
.venv/bin/ruff format --check
.venv/bin/mypy
.venv/bin/python -m pytest "$@"
