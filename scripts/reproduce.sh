#!/bin/sh
# The experiments of docs/results.md with the commands alone, and their tables.
# scripts/reproduce.sh [FOLDER]       about an hour on two CPU cores; run it again to resume
set -eu
cd "$(dirname "$0")/.."
OUT=${1:-workspace/reproduce}
PYTHON=${PYTHON:-.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3
VERB="$PYTHON -m lightreasoner"
EXPERT=lightreasoner-expert-4m
mkdir -p "$OUT"

# preview NAME SPLIT OPTIONS: what training would come to, on the problems that it is measured on
preview() {
    name=$1
    split=$2
    shift 2
    $VERB preview --problems "bundled-$split" --limit 500 --max-new-tokens 200 --run-dir "$OUT/$name" "$@"
}

preview preview test
preview preview-shifted shifted
$VERB experiment scripts/reproduce/quick.toml --run-dir "$OUT/quick"
$VERB experiment scripts/reproduce/methods.toml --run-dir "$OUT/methods"

# Amateurs that are the expert without some of its layers
for drop in 1-1 3-3 2-3; do
    amateur=$OUT/without-$drop
    [ -f "$amateur/config.json" ] || $PYTHON -m scripts.drop_layers $EXPERT "$amateur" --drop $drop
    preview "preview-$drop" test --expert $EXPERT --amateur "$amateur"
    $VERB experiment --expert $EXPERT --amateur "$amateur" --problems bundled-train --test bundled-test \
        --test-max-new-tokens 200 --preview 0 --no-control --run-dir "$OUT/amateur-$drop" \
        --arm learning_rate=1e-3,max_steps=300,max_samples_per_trajectory=16
done

# The methods of methods.toml, its first fifteen arms, on problems with larger numbers
set --
for run in "$OUT"/methods-[1-9]-* "$OUT"/methods-1[0-5]-*; do
    case $run in *-test) ;; *) set -- "$@" --adapter "$run" ;; esac
done
$VERB evaluate --model $EXPERT "$@" --problems bundled-shifted --max-new-tokens 200 --run-dir "$OUT/shifted"
$PYTHON scripts/report_results.py "$OUT"
