#!/usr/bin/env bash
# Makes .venv in the repository root: the pins, and toast_mm itself, editable. Does nothing when it
# is right; finishes what was interrupted or has changed. Environment variables:
#   PYTHON           interpreter to build on; default: the first of `candidates` below that fits
#   TORCH_INDEX_URL  package index of another torch build, for torch and torchvision alone
set -euo pipefail
[[ ${PYTHON:-} == [!/]*/* ]] && PYTHON=$PWD/$PYTHON
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

candidates='python3 python3.12 python3.11 python3.10'
needed='Python 3.10, 3.11 or 3.12'
stamp=.venv/toast_mm.stamp

say() { echo "setup_env.sh: $*"; }
stop() { say "$*" >&2; exit 1; }

# Prints 3.11 for a Python 3.11. Runs it, because a name on PATH may be a shim with nothing behind.
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
fits() { [[ $1 =~ ^3\.1[0-2]$ ]]; }

# What an environment is made for: when that changes, it is made anew. A moved checkout counts,
# since the editable installation points at the old place.
origin() { cksum <<< "$PWD $1 ${TORCH_INDEX_URL:-}"; }
# What is installed into it: when that changes, it is brought up to date.
contents() { cat requirements/*.txt setup.py toast_mm/version.py | cksum; }

present=$(version .venv/bin/python) || present=none
wanted=$present
if [[ -n ${PYTHON:-} ]]; then
  wanted=$(version "$PYTHON") || stop "PYTHON=$PYTHON does not run; toast_mm needs $needed"
  fits "$wanted" || stop "PYTHON=$PYTHON is Python $wanted; toast_mm needs $needed"
fi

recorded=none
[[ $present == "$wanted" && -f $stamp ]] && recorded=$(< "$stamp")
[[ $recorded == "$(origin "$present"; contents)" ]] && exit 0

if [[ ${recorded%%$'\n'*} != "$(origin "$present")" ]]; then
  if [[ -z ${PYTHON:-} ]]; then
    PATH=${PATH//"$PWD/.venv/bin:"/} # an active .venv cannot replace itself
    for candidate in $candidates; do
      wanted=$(version "$candidate") && fits "$wanted" && PYTHON=$candidate && break
    done
    [[ -n ${PYTHON:-} ]] ||
      stop "none of $candidates is $needed; install one or name it: PYTHON=/path/to/python"
  fi
  "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null ||
    stop "$PYTHON has no venv module (Debian, Ubuntu: apt install python$wanted-venv)"
  say "making .venv with Python $wanted"
  "$PYTHON" -m venv --clear .venv
fi

# The stamp goes first and comes last: pip does not notice a package that it left half-written.
rm -f "$stamp"
install() { .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"; }

if [[ -n ${TORCH_INDEX_URL:-} ]]; then
  say 'installing torch and torchvision from TORCH_INDEX_URL'
  # Both variables, or else an extra index in the user's settings of pip would be asked as well.
  # shellcheck disable=SC2046  # one word per requirement
  PIP_INDEX_URL=$TORCH_INDEX_URL PIP_EXTRA_INDEX_URL=$TORCH_INDEX_URL \
    install --no-deps $(grep -E '^torch(vision)?==' requirements/pins.txt)
fi
say 'installing requirements/pins.txt (about 6 GB, some minutes)'
install -r requirements/pins.txt
say 'installing toast_mm, editable'
install --no-deps --no-build-isolation -e .

{ origin "$wanted"; contents; } > "$stamp"
say 'done: source .venv/bin/activate'
