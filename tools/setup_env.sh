#!/usr/bin/env bash
# Makes .venv in the repository root, with the pinned versions and an editable toast_mm. Does nothing
# if .venv is up to date; continues after an interruption or a change. Environment variables:
#   PYTHON           interpreter for .venv; default: the first of `candidates` below that fits
#   TORCH            cpu: torch and torchvision without CUDA, 2 GB instead of 6 GB;
#                    cuda: those of the package index, the default
#   TORCH_INDEX_URL  package index of another torch build, only for torch and torchvision
# An existing environment keeps its Python and its torch unless these are set.
set -euo pipefail
[[ ${PYTHON:-} == [!/]*/* ]] && PYTHON=$PWD/$PYTHON
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

candidates='python3 python3.14 python3.13 python3.12 python3.11 python3.10'
needed='Python 3.10 to 3.14'
stamp=.venv/toast_mm.stamp

say() { echo "setup_env.sh: $*"; }
stop() { say "$*" >&2; exit 1; }

# Prints 3.11 for a Python 3.11. Runs it, because a name on PATH may be a shim without a Python.
version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
fits() { [[ $1 =~ ^3\.1[0-4]$ ]]; }
has_gpu() { command -v nvidia-smi > /dev/null || compgen -G '/dev/nvidia*' > /dev/null; }

# If this changes, the environment is made anew. It includes the place of the checkout, since an
# editable installation points at it.
origin() { cksum <<< "$PWD $1 $torch"; }
# If this changes, the environment is updated.
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

# The stamp is removed first and written last: pip does not notice a half-written package.
rm -f "$stamp"
(umask 077 && echo "$torch" > .venv/toast_mm.torch) # a URL may contain a password
install() { .venv/bin/python -m pip install -qq --disable-pip-version-check "$@"; }

say "installing requirements/pins.txt ($size)"
# OpenCV needs system libraries that servers and containers may lack: check before the download.
install -c requirements/pins.txt opencv-python
reason=$(.venv/bin/python -c 'import cv2' 2>&1) ||
  stop "OpenCV does not load: ${reason##*$'\n'} (Debian, Ubuntu: apt install libgl1 libglib2.0-0)"

torch_pins=$(grep -E '^torch(vision)?==' requirements/pins.txt)
# shellcheck disable=SC2086  # one word per requirement
case $torch in
  '') ;;
  cpu) # uv knows the index of PyTorch's builds for CPUs, and takes only these two from there
    install "$(grep '^uv==' requirements/pins.txt)"
    .venv/bin/python -m uv pip install -q --python .venv --torch-backend cpu --no-deps \
      $torch_pins
    ;;
  *) # Both variables, since pip would also use an extra index from the user's settings.
    PIP_INDEX_URL=$torch PIP_EXTRA_INDEX_URL=$torch install --no-deps $torch_pins
    ;;
esac
install -r requirements/pins.txt
say 'installing toast_mm, editable'
install --no-deps --no-build-isolation -e .

{ origin "$wanted"; contents; } > "$stamp"
say 'done: source .venv/bin/activate'
