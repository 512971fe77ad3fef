# Sourced by the launchers. Sets PYTHON, unless it is set: to the interpreter of the active
# environment, else that of the repository's .venv, else python3. Adds the repository to PYTHONPATH,
# so that a checkout runs without installation.
repository=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [[ -z ${PYTHON:-} ]]; then
  PYTHON=${VIRTUAL_ENV:-${CONDA_PREFIX:-$repository/.venv}}/bin/python
  [[ -x $PYTHON ]] || PYTHON=python3
fi
export PYTHONPATH=$repository${PYTHONPATH:+:$PYTHONPATH}
