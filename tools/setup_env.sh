#!/usr/bin/env bash
# Makes .venv in the repository root: the pins, and toast_mm itself, editable. Does nothing when it
# is right; finishes what was interrupted or has changed. Environment variables:
#   PYTHON           interpreter to build on; default: the first of `candidates` below that fits
#   TORCH            cpu: torch and torchvision without CUDA, 2 GB in place of 6 GB;
#                    cuda: those of the package index, the default
#   TORCH_INDEX_URL  package index of another torch build, for torch and torchvision alone
# An environment that is there keeps its Python and its torch where none is named.
set -euo pipefail
[[ ${PYTHON:-} == [!/]*/* ]] && PYTHON=$PWD/$PYTHON
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

candidates='python3 python3.14 python3.13 python3.12 python3.11 python3.10'
needed='Python 3.10 to 3.14'
stamp=.venv/toast_mm.stamp

say() { echo "setup_env.sh: $*"; }
stop() { say "$*" >&2; exit 1; }

# Prints 3.11 for a Python 3.11. Runs it, because a name on PATH may be a shim with nothing behind.
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
fits() { [[ $1 =~ ^3\.1[0-4]$ ]]; }
has_gpu() { command -v nvidia-smi > /dev/null || compgen -G '/dev/nvidia*' > /dev/null; }

# What an environment is made for: when that changes, it is made anew. A moved checkout counts,
# since the editable installation points at the old place.
origin() { cksum <<< "$PWD $1 $torch"; }
# What is installed into it: when that changes, it is brought up to date.
contents() { cat requirements/pins.txt pyproject.toml setup.py toast_mm/version.py | cksum; }

present=$(version .venv/bin/python) || present=none
wanted=$present
if [[ -n ${PYTHON:-} ]]; then
  wanted=$(version "$PYTHON") || stop "PYTHON=$PYTHON does not run; toast_mm needs $needed"
  fits "$wanted" || stop "PYTHON=$PYTHON is Python $wanted; toast_mm needs $needed"
fi
[[ ${TORCH:-cpu} =~ ^(cpu|cuda)$ ]] || stop "TORCH=$TORCH must be cpu or cuda"
[[ -z ${TORCH:-} || -z ${TORCH_INDEX_URL:-} ]] ||
  stop 'TORCH and TORCH_INDEX_URL both name a build of torch; set one of them'

torch=${TORCH:-${TORCH_INDEX_URL:-$(cat .venv/toast_mm.torch 2>/dev/null || true)}}
[[ $torch != cuda ]] || torch=

recorded=none
[[ $present == "$wanted" && -f $stamp ]] && recorded=$(< "$stamp")
[[ $recorded == "$(origin "$present"; contents)" ]] && exit 0

case $torch in
  '')
    size='about 6 GB, some minutes'
    has_gpu || say 'no NVIDIA GPU is here: with TORCH=cpu before the command it is 2 GB, not 6 GB'
    ;;
  cpu) size='about 2 GB' ;;
  *) size='torch from TORCH_INDEX_URL' ;;
esac

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
(umask 077 && echo "$torch" > .venv/toast_mm.torch) # a URL may hold a password
install() { .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"; }

say "installing requirements/pins.txt ($size)"
# OpenCV needs libraries of the system, which servers and containers lack: seen before the download.
install -c requirements/pins.txt opencv-python
reason=$(.venv/bin/python -c 'import cv2' 2>&1) ||
  stop "OpenCV does not load: ${reason##*$'\n'} (Debian, Ubuntu: apt install libgl1 libglib2.0-0)"

torch_pins=$(grep -E '^torch(vision)?==' requirements/pins.txt)
# shellcheck disable=SC2086  # one word per requirement
case $torch in
  '') ;;
  cpu) # uv knows where PyTorch keeps its builds for CPUs, and takes the two from there alone
    install "$(grep '^uv==' requirements/pins.txt)"
    .venv/bin/python -m uv pip install -q --python .venv --torch-backend cpu --no-deps \
      $torch_pins
    ;;
  *) # Both variables, or else an extra index in the user's settings of pip would be asked as well.
    PIP_INDEX_URL=$torch PIP_EXTRA_INDEX_URL=$torch install --no-deps $torch_pins
    ;;
esac
install -r requirements/pins.txt
say 'installing toast_mm, editable'
install --no-deps --no-build-isolation -e .

{ origin "$wanted"; contents; } > "$stamp"
say 'done: source .venv/bin/activate'
