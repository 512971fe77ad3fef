#!/usr/bin/env bash
# Compares TOAST with a linear probe on two tasks with handwritten digits: installs, then runs
# tools/quickstart.py. After an interruption, call it again to continue.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh
exec .venv/bin/python tools/quickstart.py
