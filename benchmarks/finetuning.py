"""Fine-tuning: one forward per trajectory against one forward per sample.

The other side is our implementation of the released procedure: every sample has its prefix in its own row,
micro-batches are padded on the right, logits are computed for all positions, and the loss reads one position per row:
the true last one, where the released code read padding, so both sides have the same loss, which is checked. Both train
the same LoRA adapter. Speed is measured by turns in one process, memory on a CPU in a process per side.

python -m benchmarks.finetuning                              SmolLM2-135M's shape, random weights
python -m benchmarks.finetuning --shape bundled              the bundled expert
python -m benchmarks.finetuning --shape qwen2.5-math-1.5b    for a GPU; then also with --samples 128

On a GPU the host takes longer to launch either side's passes, one and two, than the GPU to compute them, so ours is
about twice as fast, whatever the tokens saved. Floors are for the CPU.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import random_pair
from benchmarks.measuring import number_parser
from benchmarks.random_pair import VOCABULARY
from lightreasoner.models.adapters import add_lora
from lightreasoner.models.devices import choose_device, dtypes_to_try
from lightreasoner.models.float32_head import widen_head
from lightreasoner.models.loading import load_model
from lightreasoner.settings import from_environment
from lightreasoner.training.batches import BatchSampler, count_samples
from lightreasoner.training.loss import PackedExample, Target, collate, step_logits, step_losses

RESPONSE, SUPPORT = 128, 3
#: Tokens of a prompt, template included: the mean of the bundled problems, and of GSM8K in SmolLM2's tokens.
BUNDLED_PROMPT, PROMPT = 68, 82
PER_UPDATE, MICRO = 16, 8  # samples; of the other side's rows, so many are forwarded at once
SHAPES = {"smollm2-135m": 49_152, "qwen2.5-math-1.5b": VOCABULARY}  # of random weights → tokens
FLOORS = {11: 10, 20: 18}  # times the samples per second, on a CPU; a GPU's follow when they have been measured
MEMORY_FLOOR = 0.55
#: How far the two sides' losses may be apart, nats: they add the same terms in another order, and round otherwise.
ROUNDING = {torch.float32: 1e-3, torch.float16: 0.02, torch.bfloat16: 0.1}
PACKED_UPDATES = 12  # a round; the other side does one of them


def examples(selected: int, trajectories: int, shape: str, vocabulary: int) -> list[PackedExample]:
    """Random trajectories with so many selected steps each, anywhere in the response."""
    generator = torch.Generator().manual_seed(0)
    prompt = BUNDLED_PROMPT if shape == "bundled" else PROMPT
    made = []
    for _ in range(trajectories):
        ids = torch.randint(3, vocabulary, (prompt + RESPONSE,), generator=generator).tolist()
        steps = torch.randperm(RESPONSE, generator=generator)[:selected].sort().values.tolist()
        targets = []
        for step in steps:
            weights = torch.softmax(torch.randn(SUPPORT, generator=generator), -1).tolist()
            targets.append(Target(step, torch.randperm(vocabulary, generator=generator)[:SUPPORT].tolist(), weights))
        made.append(PackedExample(ids, prompt, tuple(targets)))
    return made


def model_for(shape: str):
    """(model with a fresh adapter, vocabulary, device)."""
    settings = from_environment()
    if shape == "bundled":
        loaded = load_model("lightreasoner-expert-4m", settings)
        model, vocabulary, device = loaded.model, len(loaded.tokenizer), loaded.device
    else:
        device, vocabulary = choose_device(settings), SHAPES[shape]
        model = random_pair.SHAPES[shape].model(device, dtypes_to_try(settings, device, None)[0])
        widen_head(model)
        model.requires_grad_(False)
    return add_lora(model, 8, 16, 0.0, ("q_proj", "v_proj"), 0).to(device), vocabulary, device


def packed(model, update: list[PackedExample], vocabulary: int, device) -> float:
    batch = collate(update).to(device)
    loss = step_losses(step_logits(model, batch), batch, vocabulary).mean()
    loss.backward()
    return loss.item()


def one_by_one(model, update: list[PackedExample], vocabulary: int, device) -> float:
    """The released procedure: one prefix a row."""
    rows = [(example.ids[: example.prompt_length + t.step], t) for example in update for t in example.targets]
    random.Random(0).shuffle(rows)  # its loader draws samples, not trajectories
    total = 0.0
    for start in range(0, len(rows), MICRO):
        part = rows[start : start + MICRO]
        width = max(len(prefix) for prefix, _ in part)
        ids = torch.tensor([prefix + [0] * (width - len(prefix)) for prefix, _ in part], device=device)
        mask = torch.tensor([[1] * len(prefix) + [0] * (width - len(prefix)) for prefix, _ in part], device=device)
        last = torch.tensor([len(prefix) - 1 for prefix, _ in part], device=device)
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits  # (rows, width, vocabulary rows)
        log_p = torch.log_softmax(logits[torch.arange(len(part), device=device), last, :vocabulary].float(), -1)
        tokens = torch.tensor([t.token_ids for _, t in part], device=device)
        weights = torch.tensor([t.weights for _, t in part], device=device)
        loss = (weights * (weights.log() - log_p.gather(1, tokens))).sum() / len(rows)
        loss.backward()
        total += loss.item()
    return total


SIDES = {"packed": packed, "one_by_one": one_by_one}


def run(
    side: str, model, updates: BatchSampler, which: range, vocabulary: int, device
) -> tuple[float, int, list[float]]:
    """(seconds, samples, losses) of some updates, optimiser included."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.0)  # both sides stay where they are
    samples, losses, began = 0, [], time.perf_counter()
    for n in which:
        update = updates[n]
        losses.append(SIDES[side](model, update, vocabulary, device))
        optimiser.step()
        optimiser.zero_grad()
        samples += count_samples(update)
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, samples, losses


def peak_on_gpu(side: str, model, updates: BatchSampler, vocabulary: int, device) -> int:
    """The bytes that one side's updates take beyond the loaded model, as the allocator counts them."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run(side, model, updates, range(2), vocabulary, device)
    return torch.cuda.max_memory_allocated() - before


def peak(side: str, shape: str, selected: int) -> None:
    """In a process of its own, on the CPU: print the bytes that one side's updates take beyond the loaded model."""
    model, vocabulary, device = model_for(shape)
    updates = BatchSampler(examples(selected, 20, shape, vocabulary), 2, PER_UPDATE, 64, 0)
    short = [PackedExample(example.ids[:9], 8, (Target(0, (1,), (1.0,)),)) for example in updates[0]]
    SIDES[side](model, short, vocabulary, device)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        run(side, model, updates, range(2), vocabulary, device)
    with tempfile.TemporaryDirectory() as folder:
        profiled.export_chrome_trace(f"{folder}/trace.json")
        trace = json.loads(Path(folder, "trace.json").read_text(encoding="utf-8"))
    held = [event["args"]["Total Allocated"] for event in trace["traceEvents"] if event["name"] == "[memory]"]
    print(max(held) - held[0])


def main() -> None:
    parser = number_parser(__doc__, rounds=3)
    parser.add_argument("--shape", choices=("bundled", *SHAPES), default="smollm2-135m")
    parser.add_argument("--samples", type=int, default=PER_UPDATE, help="of an update")
    parser.add_argument("--peak", nargs=2, metavar=("SIDE", "SELECTED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        return peak(options.peak[0], options.shape, int(options.peak[1]))
    model, vocabulary, device = model_for(options.shape)
    name = torch.cuda.get_device_name() if device.type == "cuda" else device
    print(f"{options.shape} on {name}, {model.dtype}, {options.samples} samples an update")
    failed = []
    for selected, floor in FLOORS.items():
        trajectories = max(30, 2 * options.samples // selected)
        made = examples(selected, trajectories, options.shape, vocabulary)
        updates = BatchSampler(made, PACKED_UPDATES, options.samples, 64, 0)
        for side in SIDES:
            run(side, model, updates, range(1), vocabulary, device)  # warm up
        rates, losses = {side: [] for side in SIDES}, {}
        for turn in range(options.rounds):
            for side, some in (("packed", range(PACKED_UPDATES)), ("one_by_one", range(turn, turn + 1))):
                seconds, samples, found = run(side, model, updates, some, vocabulary, device)
                rates[side].append(samples / seconds)
                losses[side, turn] = found
        apart = max(
            abs(a - b)
            for turn in range(options.rounds)
            for a, b in zip(losses["packed", turn][turn:], losses["one_by_one", turn], strict=False)
        )
        fast, slow = (sorted(rates[side])[options.rounds // 2] for side in SIDES)
        command = [sys.executable, "-m", "benchmarks.finetuning", "--shape", options.shape, "--peak"]
        taken = [
            peak_on_gpu(side, model, updates, vocabulary, device)
            if device.type == "cuda"
            else json.loads(subprocess.check_output([*command, side, str(selected)], stderr=subprocess.PIPE))
            for side in SIDES
        ]
        ratio, share, cpu = fast / slow, taken[0] / taken[1], device.type == "cpu"
        floor_text = f"floor {floor}" if cpu else "no floor on a GPU yet"
        print(
            f"{selected} selected steps a trajectory: {fast:,.0f} samples/s against {slow:,.1f}, {ratio:.1f} times "
            f"({floor_text}); peak memory {taken[0] / 1e6:,.0f} MB against {taken[1] / 1e6:,.0f} MB, {share:.2f} (at "
            f"most {MEMORY_FLOOR}); losses differ by {apart:.1e} at most",
            flush=True,
        )
        failed += [selected] if (cpu and ratio < floor) or share > MEMORY_FLOOR or apart > ROUNDING[model.dtype] else []
    raise SystemExit(f"below a floor at {failed}" if failed else None)


if __name__ == "__main__":
    main()
