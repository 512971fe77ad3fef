# Sourced by the launchers, for checks of environment variables. They end with a sentence.

# check_numbers LEAST NAME...: those that are set must be whole numbers.
check_numbers() {
  local name
  for name in "${@:2}"; do
    if [[ ! ${!name:-$1} =~ ^(0|[1-9][0-9]{0,4})$ ]] || ((${!name:-$1} < $1 || ${!name:-$1} > 65535)); then
      echo "$0: $name=${!name} must be a whole number from $1 to 65535" >&2
      exit 2
    fi
  done
}

# Those of torchrun.
check_nodes() {
  check_numbers 1 NNODES PORT
  check_numbers 0 NODE_RANK
  if ((${NODE_RANK:-0} >= ${NNODES:-1})); then
    echo "$0: NODE_RANK=$NODE_RANK must be below NNODES=${NNODES:-1}" >&2
    exit 2
  fi
}
