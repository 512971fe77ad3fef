#!/usr/bin/env bash
# TOAST beside the head alone on two tasks with handwritten digits: installs, and runs
# tools/quickstart.py. Interrupted, it goes on when it is called again.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh
exec .venv/bin/python tools/quickstart.py
