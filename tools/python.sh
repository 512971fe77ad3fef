# Sourced by the launchers: sets PYTHON, unless it is set, to the interpreter that runs toast_mm:
# the active environment's, else that of the repository's .venv, else python3.
if [[ -z ${PYTHON:-} ]]; then
  repository=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  PYTHON=${VIRTUAL_ENV:-${CONDA_PREFIX:-$repository/.venv}}/bin/python
  [[ -x $PYTHON ]] || PYTHON=python3
fi
