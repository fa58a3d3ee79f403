#!/bin/sh
# The experiment of docs/results.md with the commands alone: sample, fine-tune, evaluate, write the tables.
# scripts/reproduce.sh [FOLDER]       about an hour on two CPU cores; run it again to resume
set -eu
cd "$(dirname "$0")/.."
OUT=${1:-workspace/reproduce}
PYTHON=${PYTHON:-.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3
VERB="$PYTHON -m lightreasoner"
SEEDS=${SEEDS:-"0 1 2"}
mkdir -p "$OUT/tuned" "$OUT/evaluated"

# Stores details of every step, because the controls train on steps that the method does not select.
$VERB sample --problems bundled-train --beta-floor 0 --run-dir "$OUT/dataset"

# tune NAME OPTIONS: 300 updates of 16 samples, at most 16 from one trajectory, so that all methods have the same budget
tune() {
    name=$1
    shift
    $VERB finetune --dataset "$OUT/dataset" --run-dir "$OUT/tuned/$name" --max-samples-per-trajectory 16 --max-steps 300 "$@"
}

for seed in $SEEDS; do
    for method in lightreasoner no-contrast all-steps random-steps sft; do
        tune "$method-$seed" --method $method --learning-rate 1e-3 --seed "$seed"
    done
done
# One setting changed at a time
for rate in 5e-5 3e-4 3e-3; do tune "rate-$rate" --learning-rate $rate; done
tune rank-64 --learning-rate 1e-3 --rank 64 --lora-alpha 128
for beta in 0.05 2.0; do tune "beta-$beta" --learning-rate 1e-3 --beta $beta; done

# evaluate NAME SPLIT RUNS...: the expert and these adapters, in one job on one base model
evaluate() {
    name=$1
    split=$2
    shift 2
    for run in "$@"; do set -- "$@" --adapter "$run"; shift; done
    $VERB evaluate --model lightreasoner-expert-4m "$@" --problems "bundled-$split" --max-new-tokens 200 \
        --run-dir "$OUT/evaluated/$name"
}

tuned=""
for seed in $SEEDS; do
    for method in lightreasoner no-contrast all-steps random-steps sft; do tuned="$tuned $OUT/tuned/$method-$seed"; done
done
# shellcheck disable=SC2086  # one word per run
evaluate test test $tuned
# shellcheck disable=SC2086
evaluate shifted shifted $tuned
evaluate settings test "$OUT"/tuned/rate-* "$OUT"/tuned/rank-* "$OUT"/tuned/beta-*
$PYTHON scripts/report_results.py "$OUT"
