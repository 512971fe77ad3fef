#!/usr/bin/env bash
# TOAST beside the head alone on two tasks with handwritten digits: installs, makes the data, tunes
# and tests four models, prints a table and draws two pictures. Minutes on two CPU cores.
# Interrupted, it goes on when it is called again; what is done is not done again.
set -euo pipefail
cd -P "$(dirname "${BASH_SOURCE[0]}")/.."

scenes=vit-1m_upernet_1xb16-500_digits-scenes-64x64
cued=vit-1m_1xb32-2e_digits-cued-64x64
python=.venv/bin/python

say() { echo "quickstart.sh: $*"; }
trap 'echo; say "interrupted; called again, it goes on from here" >&2; exit 130' INT

# What a run follows from: one of other configs, weights, code or data is not taken for this one.
origin() {
  find configs toast_mm tools requirements data/digits/digits.json -type f ! -name '*.pyc' -print0 |
    LC_ALL=C sort -z | xargs -0 cat | cksum
}

# Runs a tool. Its output goes to a log; a terminal shows how far it counts.
quietly() {
  local title=$1 log=$2 start=$SECONDS
  shift 2
  if ! "$python" "$@" 2>&1 | tee -i "$log" | show_counter "$title"; then
    say "$title failed; the end of $PWD/$log:" >&2
    tail -n 15 "$log" >&2
    exit 1
  fi
  say "$title: $((SECONDS - start)) s"
}

show_counter() {
  trap '' INT # the tool ends, and then its output
  local line counter='\) *(\[[][ 0-9/]*\]).* eta: ([0-9:]*)'
  if [[ ! -t 1 ]]; then
    cat > /dev/null
    return
  fi
  printf '%s' "$1"
  while IFS= read -r line; do
    [[ ! $line =~ $counter ]] ||
      printf '\r\e[K%s %s, %s left' "$1" "${BASH_REMATCH[1]}" "${BASH_REMATCH[2]}"
  done
  printf '\r\e[K'
}

checkpoint() { echo "work_dirs/$1/$(basename "$(< "work_dirs/$1/last_checkpoint")")"; }

# Tunes and tests one job in its folder of work_dirs, unless that is done.
run() {
  local title=$1 job=$2 folder=work_dirs/$2 config=configs/quickstart/$2.py
  if [[ -e $folder && ! -e $folder/quickstart.origin ]]; then
    mv "$folder" "$folder.$(date +%Y%m%d_%H%M%S)"
    say "$folder was not made by this script; it is kept under its name and the date"
  elif [[ -e $folder && $(< "$folder/quickstart.origin") != "$origin" ]]; then
    rm -rf "$folder"
  fi
  [[ ! -e $folder/metrics.json ]] || return 0
  mkdir -p "$folder"
  echo "$origin" > "$folder/quickstart.origin"

  quietly "tuning $title" "$folder/train.log" \
    tools/train.py "$config" --work-dir "$folder" --resume --no-validate
  quietly "testing $title" "$folder/test.log" \
    tools/test.py "$config" "$(checkpoint "$job")" --work-dir "$folder" \
    --out "$folder/partial.json" --out-item metrics
  mv "$folder/partial.json" "$folder/metrics.json"
}

draw() {
  local title=$1 job=$2 picture=work_dirs/$2/attention.png
  [[ -e $picture ]] || quietly "drawing $title" "work_dirs/$job/attention.log" \
    tools/visualization/attention.py "configs/quickstart/$job.py" "$(checkpoint "$job")" \
    --out "$picture"
}

compare() {
  local title=$1 jobs=$2 metric=$3 method
  printf '%-36s' "$title"
  for method in linear toast; do
    sed "s|.*\"$metric\": *\([0-9]*\.[0-9]\).*|\1|" "work_dirs/$method-$jobs/metrics.json" |
      xargs printf '%12s'
  done
  echo
}

bash tools/setup_env.sh
"$python" tools/dataset_converters/digits.py data/digits > /dev/null
origin=$(origin)
run 'the head alone on scenes' "linear-$scenes"
run 'TOAST on scenes' "toast-$scenes"
run 'the head alone on cued digits' "linear-$cued"
run 'TOAST on cued digits' "toast-$cued"
draw 'scenes' "toast-$scenes"
draw 'cued digits' "toast-$cued"

printf '\n%-36s%12s%12s\n' 'on images that nobody has tuned on' 'head alone' TOAST
compare 'scenes of digits: mIoU' "$scenes" mIoU
compare 'digit on the red card: accuracy' "$cued" accuracy/top1
printf '\nWhere the model looks, before and after steering:\n'
printf '  %s\n' "$PWD/work_dirs/toast-$scenes/attention.png" "$PWD/work_dirs/toast-$cued/attention.png"
