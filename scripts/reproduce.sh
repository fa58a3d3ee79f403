#!/bin/sh
# The experiment of docs/results.md, from nothing but the commands: sample, fine-tune, evaluate, write the table.
# scripts/reproduce.sh [FOLDER]       about an hour on two CPU cores; run it again to go on where it stopped
set -eu
cd "$(dirname "$0")/.."
OUT=${1:-workspace/reproduce}
PYTHON=${PYTHON:-.venv/bin/python}
[ -x "$PYTHON" ] || PYTHON=python3
VERB="$PYTHON -m lightreasoner"
SEEDS=${SEEDS:-"0 1 2"}
mkdir -p "$OUT/tuned" "$OUT/evaluated"

# Details of every step are kept, because the controls train on steps that the method leaves out.
$VERB sample --problems bundled-train --beta-floor 0 --run-dir "$OUT/dataset"

# tune NAME OPTIONS: 300 updates of 16 samples, at most 16 from one trajectory, so that every method has one budget
tune() {
    name=$1
    shift
    $VERB finetune --dataset "$OUT/dataset" --run-dir "$OUT/tuned/$name" --group 16 --max-steps 300 "$@"
}

for seed in $SEEDS; do
    for method in lightreasoner no-contrast all-steps random-steps sft; do
        tune "$method-$seed" --method $method --learning-rate 1e-3 --seed "$seed"
    done
done
# What one setting too far does, each from the method's own settings
for rate in 5e-5 3e-4 3e-3 1e-2; do tune "rate-$rate" --learning-rate $rate; done
for rank in 1 64; do tune "rank-$rank" --learning-rate 1e-3 --rank $rank --lora-alpha $((2 * rank)); done
for beta in 0.05 2; do tune "beta-$beta" --learning-rate 1e-3 --beta $beta; done
for alpha in 0.01 0.5; do tune "alpha-$alpha" --learning-rate 1e-3 --alpha $alpha; done

ADAPTERS=$(for run in "$OUT"/tuned/*; do printf ' --adapter %s' "$run"; done)
for split in test shifted; do
    # shellcheck disable=SC2086
    $VERB evaluate --model lightreasoner-expert-4m $ADAPTERS --problems bundled-$split --max-new-tokens 200 \
        --run-dir "$OUT/evaluated/$split"
done
$PYTHON scripts/results.py "$OUT"
