"""Sampling against the released procedure and against a bare batched `generate`, one process, alternating.

    python -m benchmarks.sampling [--pair NAME | --expert REF --amateur REF] [--problems 512] [--released 16]

(a) Ours: tokenise, generate, teacher-force the amateur, score every step, write shards. (b) Our implementation of the
released procedure: one prompt at a time; every prefix of the response is rendered as text, tokenised again and read by
the amateur from the start, 64 prefixes per padded forward; scores are computed step by step in Python. Unlike the
released code it uses raw logits and scores step 0, so that its numbers can be compared. (c) transformers' greedy
`generate` of the same expert on (a)'s batches.
Checked in float32: the same tokens and steps, and no KL differs by more than 1e-4 (of the mean KL, where that is above
1 nat). In 16 bits a batch rounds otherwise than a single row, so tokens may part where two are nearly equal. Up to
there the mean difference may be ROUNDING of the mean KL, and flips of the selection are counted.
"""

import math
import tempfile
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import torch

from benchmarks.measuring import named_pair, pair_parser, timed_parts
from lightreasoner.datasets.trajectories import read_shard, write_shard
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, generate_batch
from lightreasoner.models.pairs import Pair
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.problems.stream import open_problems, training_split
from lightreasoner.sampling.plan import TYPICAL_PROMPT, Prompts, batches, planned_rows
from lightreasoner.sampling.sampler import shard_name
from lightreasoner.sampling.trajectory_table import batch_table
from lightreasoner.settings import from_environment

RELEASED_CHUNK = 64
ROUNDING = {torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.1}


def ours(
    pair: Pair, batch_rows: list[GenerationRow], decoding: DecodingConfig, folder: Path, batch: int, spent: Counter
) -> None:
    """(a) for one batch, as `sampling.sample` does it."""
    responses = generate_batch(pair, batch_rows, decoding, lambda ended: None)
    began = time.perf_counter()
    write_shard(folder, shard_name(batch), batch_table(pair, batch_rows, responses))
    spent["Parquet"] += time.perf_counter() - began


@torch.inference_mode()
def released(pair: Pair, item: GenerationRow, tokens: int) -> tuple[list[int], list[float]]:
    """(b) for one problem: (response ids, KL of every step)."""
    tokenizer = pair.expert.tokenizer
    prompt = torch.tensor([item.prompt], device=pair.expert.device)
    out = pair.expert.model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=sorted(pair.expert.end_ids),
        pad_token_id=tokenizer.pad_token_id,
        output_logits=True,
        return_dict_in_generate=True,
    )
    response = out.sequences[0, prompt.shape[1] :].tolist()
    prefixes = []
    for step in range(len(response)):  # each prefix is rendered as text and tokenised again
        text = tokenizer.decode(item.prompt + response[:step])
        again = tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = item.prompt + response[:step]
        prefixes.append(torch.tensor(again if again == ids else ids))  # the ids may differ
    amateur_logits = []
    for start in range(0, len(prefixes), RELEASED_CHUNK):
        chunk = prefixes[start : start + RELEASED_CHUNK]
        padded = torch.nn.utils.rnn.pad_sequence(chunk, batch_first=True).to(pair.amateur.device)
        lengths = torch.tensor([len(prefix) for prefix in chunk], device=padded.device)
        mask = (torch.arange(padded.shape[1], device=padded.device) < lengths[:, None]).long()
        logits = pair.amateur.model(padded, attention_mask=mask).logits  # of every position
        amateur_logits += [logits[row, length - 1] for row, length in enumerate(lengths.tolist())]
    divergences = []
    for expert, amateur in zip(out.logits, amateur_logits, strict=True):
        log_e = torch.log_softmax(pair.alignment.expert(expert[0]).float(), -1)
        log_a = torch.log_softmax(pair.alignment.amateur(amateur).float(), -1)
        divergences.append((log_e.exp() * (log_e - log_a)).sum().item())
        if divergences[-1] > BETA:
            mask = log_e >= log_e.max() + math.log(ALPHA)
            torch.softmax((log_e - log_a)[mask], -1).tolist()
            [tokenizer.decode([token]) for token in mask.nonzero().flatten().tolist()]
    return response, divergences


def bare(pair: Pair, batch_rows: list[GenerationRow], tokens: int) -> None:
    """(c) for one batch."""
    width = max(len(item.prompt) for item in batch_rows)
    ids = torch.zeros(len(batch_rows), width, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, item in enumerate(batch_rows):
        ids[row, width - len(item.prompt) :] = torch.tensor(item.prompt)
        mask[row, width - len(item.prompt) :] = 1
    pair.expert.model.generate(
        ids.to(pair.expert.device),
        attention_mask=mask.to(pair.expert.device),
        max_new_tokens=tokens,
        do_sample=False,
        eos_token_id=sorted(pair.expert.end_ids),
        pad_token_id=pair.expert.tokenizer.pad_token_id or 0,
    )


def compare(
    pair: Pair, folder: Path, batch: int, place: int, theirs: tuple[list[int], list[float]]
) -> tuple[float, int, int]:
    """(largest difference of a KL, selections that flip, steps up to where the tokens part) between (a) and (b).

    Raises AssertionError where they disagree by more than rounding.
    """
    row = read_shard(folder / "trajectories" / f"{shard_name(batch)}.parquet").slice(place, 1).to_pylist()[0]
    tokens, divergences = theirs
    exact, allowed = pair.expert.dtype == torch.float32, ROUNDING[pair.expert.dtype]
    pairs = list(zip(row["response_ids"], tokens, strict=False))
    common = next((n for n, (a, b) in enumerate(pairs) if a != b), len(pairs))
    if exact:
        assert row["response_ids"] == tokens, f"{row['problem_id']}: other tokens"
    else:
        common = min(common + 1, len(pairs))  # the step at which they part has still the same prefix
    kls = list(zip(row["kl"][:common], divergences[:common], strict=True))
    flips = sum((a > BETA) != (b > BETA) for a, b in kls)
    assert not (exact and flips), f"{row['problem_id']}: other steps above β"
    apart = [abs(a - b) for a, b in kls]
    worst, mean = max(apart), sum(apart) / len(apart)
    bound = allowed * max(1.0, sum(b for _, b in kls) / len(kls))
    assert (worst if exact else mean) < bound, f"{row['problem_id']}: KL differs by {worst:.2g}, {mean:.2g} on average"
    return worst, flips, common


def main() -> None:
    parser = pair_parser(__doc__, "bundled-train", problems=512, tokens=128, rounds=1)
    parser.add_argument("--released", type=int, default=16, help="how many of them the released procedure gets")
    parser.add_argument("--batch-size", type=int, help="default: the sampler's own choice")
    options = parser.parse_args()
    settings, decoding = from_environment(), DecodingConfig(options.tokens)
    heading, pair = named_pair(options)
    size = options.batch_size or planned_rows(pair, TYPICAL_PROMPT + options.tokens)
    stream = open_problems(options.source, split=training_split(options.source), limit=options.problems, distinct=True)
    began = time.perf_counter()
    plan = list(batches(Prompts(pair, stream, decoding, settings), size, 1))
    planning = time.perf_counter() - began
    count = sum(len(batch_rows) for _, batch_rows in plan)
    print(f"{heading}; {count} problems in batches of {size}")
    seconds, found = Counter(), []
    with tempfile.TemporaryDirectory() as place, ExitStack() as patches:
        folder = Path(place)
        first = plan[0][1][:2]
        ours(pair, first, DecodingConfig(8), folder / "warm", 0, Counter())
        bare(pair, first, 8)
        released(pair, first[0], 8)
        spent = patches.enter_context(timed_parts(pair))
        every = max(1, count // options.released)
        for turn in range(options.rounds):
            for batch, batch_rows in plan:
                for side in "ac" if (batch + turn) % 2 else "ca":  # each side goes first half of the time
                    began = time.perf_counter()
                    if side == "a":
                        ours(pair, batch_rows, decoding, folder, batch, spent)
                    else:
                        bare(pair, batch_rows, options.tokens)
                    seconds[side] += time.perf_counter() - began
                for n in range(len(batch_rows)) if turn == 0 else ():
                    if (batch * size + n) % every == every // 2:  # short and long problems alike
                        began = time.perf_counter()
                        theirs = released(pair, batch_rows[n], options.tokens)
                        seconds["b"] += time.perf_counter() - began
                        found.append((*compare(pair, folder, batch, n, theirs), len(theirs[0])))
    seconds["a"] += planning * options.rounds
    single = len(found)
    rates = {"a": count * options.rounds / seconds["a"], "b": single / seconds["b"]}
    rates["c"] = count * options.rounds / seconds["c"]
    for side, what in (("a", "ours"), ("b", f"released procedure, {single} problems"), ("c", "bare generate")):
        print(f"({side}) {what}: {rates[side]:.3g} problems/s")
    print(f"(a) is {rates['a'] / rates['b']:.1f} times as fast as (b), and takes {rates['c'] / rates['a']:.3f} of (c)")
    flips, common, steps = (sum(column) for column in list(zip(*found, strict=True))[1:])
    print(
        f"(b) writes the same tokens in {common} of {steps} steps, where {flips} selections differ; the largest "
        f"difference of a KL is {max(worst for worst, *_ in found):.1e}"
    )
    spent["tokenising and sorting"] = planning * options.rounds
    spent["the rest"] = seconds["a"] - sum(spent.values())
    for what, took in spent.most_common():
        print(f"  {took / seconds['a']:6.1%}  {what}")


if __name__ == "__main__":
    main()
