# Sourced by the launchers. Sets PYTHON, unless it is set, to the interpreter that runs toast_mm:
# the active environment's, else that of the repository's .venv, else python3. Puts the repository
# on its path, so that a checkout runs without being installed.
repository=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=${VIRTUAL_ENV:-${CONDA_PREFIX:-$repository/.venv}}/bin/python
  [[ -x $PYTHON ]] || PYTHON=python3
fi
export PYTHONPATH=$repository${PYTHONPATH:+:$PYTHONPATH}
