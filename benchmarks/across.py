"""Pairs across tokenizers against one tokenizer: the same models read the other way, whose true numbers are known.

    python -m benchmarks.across [--pair NAME | --expert REF --amateur REF] [--problems 16] [--tokens 128] [--rounds 3]

The pair must share its tokenizer. It is read as if it did not, then with permuted ids, then with the last merges of the
expert's tokenizer undone, where the truth is a sum over the amateur's tokens. Times are CPU seconds, by turns.
"""

from __future__ import annotations

import argparse
import copy
import json
import statistics
import time
from dataclasses import replace

import numpy as np
import torch
from tokenizers import Tokenizer

from benchmarks.measuring import named_pair, pair_parser
from lightreasoner.decoding.amateur_reader import Responses
from lightreasoner.decoding.contrast import Contrast, contrast_grid
from lightreasoner.decoding.cross_tokenizer_reader import AcrossScorer
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, generate_batch
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import ExpertOnly, Pair
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.models.tokenizer_pair import across_vocabulary
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.problems.stream import load_problems
from lightreasoner.scoring.divergence import contrastive_target, kl

UNDONE = 502  # merges


def across(pair: Pair, expert: LoadedModel, amateur: LoadedModel) -> Pair:
    found = across_vocabulary(expert.tokenizer, amateur.tokenizer)
    whole = ExpertOnly(found.expert.size)
    return replace(pair, expert=expert, amateur=amateur, across=found, alignment=whole, same_special_tokens=False)


def retokenized(loaded: LoadedModel, change) -> LoadedModel:
    """The model with a changed tokenizer. change: takes tokenizer.json's content and changes it."""
    data = json.loads(loaded.tokenizer.backend_tokenizer.to_str())
    change(data)
    tokenizer = copy.deepcopy(loaded.tokenizer)
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(data))
    return replace(loaded, tokenizer=tokenizer)


def permuted(loaded: LoadedModel) -> LoadedModel:
    """The same model whose tokens, but for the added ones, have other ids."""
    fixed = set(loaded.tokenizer.get_added_vocab().values())
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    free = np.array([id for id in range(rows) if id not in fixed])
    order = np.arange(rows)  # old id → new id
    order[free] = np.random.default_rng(0).permutation(free)

    def change(data: dict) -> None:
        data["model"]["vocab"] = {token: int(order[id]) for token, id in data["model"]["vocab"].items()}

    found = replace(retokenized(loaded, change), model=copy.deepcopy(loaded.model))
    with torch.no_grad():
        tables = (found.model.get_input_embeddings().weight, found.model.get_output_embeddings().weight)
        for table in {table.data_ptr(): table for table in tables}.values():  # one, where they are tied
            table[order] = table.clone()
    return found


def rows_of(pair: Pair, questions: list) -> list[GenerationRow]:
    return [GenerationRow(problem, 0, *pair_prompts(pair, problem.question)) for problem in questions]


def compare(name: str, usual: Responses, found: Responses) -> None:
    """Print how far the numbers of the same responses are apart."""
    assert usual.tokens == found.tokens
    gap = found.measures["kl"] - usual.measures["kl"]
    flips = (found.measures["kl"] > BETA) != (usual.measures["kl"] > BETA)
    print(
        f"{name}: {len(gap):,} steps, |ΔKL| ≤ {np.abs(gap).max():.2g} nats, KL above the truth by ≤ {gap.max():.2g}; "
        f"{flips.sum()} selected otherwise; compared {found.measures['compared'].mean():.4%} of the mass, "
        f"{(found.measures['compared'] > 0.99).mean():.2%} of the steps more than 99 %"
    )


class Undone:
    """The truth for an expert whose last merges are undone: sums over the tokens that both models really have."""

    def __init__(self, pair: Pair):
        def undo(data: dict) -> None:
            lost = {"".join(merge) for merge in data["model"]["merges"][-UNDONE:]}
            data["model"]["merges"] = data["model"]["merges"][:-UNDONE]
            kept = {token: id for token, id in data["model"]["vocab"].items() if token not in lost}
            data["model"]["vocab"] = {token: n for n, token in enumerate(sorted(kept, key=kept.get))}

        self.pair = pair
        self.fine = across(pair, retokenized(pair.expert, undo), pair.amateur)
        own, self.size = self.fine.across.amateur, self.fine.across.expert.size
        texts = (own.tokenizer.convert_ids_to_tokens(id) for id in range(own.size))
        ids = [self.fine.across.expert.encode(bytes_) if bytes_ else None for bytes_ in own.bytes_of]
        self.pieces = [
            tuple(found or [self.fine.expert.tokenizer.convert_tokens_to_ids(text)])
            for found, text in zip(ids, texts, strict=True)
        ]
        self.first = torch.tensor([pieces[0] for pieces in self.pieces])

    def next(self, rows: torch.Tensor, taken: list[int], n: int) -> torch.Tensor:
        """log P of the fine token after n tokens (tokens,). rows: the model's log-probabilities before each."""
        found = torch.zeros(self.size).index_add_(0, self.first, rows[n, : len(self.first)].exp())
        if n:
            before = self.pieces[taken[n - 1]]
            found *= float(rows[n - 1, taken[n - 1]].exp())
            for id, pieces in enumerate(self.pieces):
                if len(pieces) > len(before) and pieces[: len(before)] == before:
                    found[pieces[len(before)]] += float(rows[n - 1, id].exp())
        return found.log() - found.sum().log()

    @torch.inference_mode()
    def measure(self, tokens: list[int], prompts: tuple[list[int], list[int]]) -> list[tuple[float, float, float]]:
        """Per step between two real tokens: (KL − the true one, total variation of the target, −1 without one, mass of
        the expert that was compared)."""
        models = zip((self.pair.expert, self.pair.amateur), prompts, strict=True)
        rows = [
            loaded.model(input_ids=torch.tensor([prompt + tokens])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            for loaded, prompt in models
        ]
        log_e, log_a = (torch.stack([self.next(own, tokens, n) for n in range(len(tokens))]) for own in rows)
        places = np.cumsum([0, *(len(self.pieces[id]) for id in tokens[:-1])]).tolist()
        fine = [piece for id in tokens for piece in self.pieces[id]]
        logits = log_e[(torch.tensor(places)[None] <= torch.arange(len(fine))[:, None]).sum(-1) - 1]
        found, _, compared = AcrossScorer(self.fine, [prompts[1]]).measure(fine, logits)
        starts, result = found.counts.cumsum(0) - found.counts, []
        for n, place in enumerate(places):
            own = slice(int(starts[place]), int(starts[place] + found.counts[place]))
            apart = -1.0
            if own.start < own.stop:
                target = torch.zeros(self.size)
                target[found.ids[own]] = contrastive_target(
                    found.expert_logprobs[own], found.amateur_logprobs[own], ALPHA
                )
                apart = float((target - contrastive_target(log_e[n], log_a[n], ALPHA)).abs().sum() / 2)
            result.append((float(found.kl[place] - kl(log_e[n], log_a[n])), apart, float(compared[place])))
        return result


def print_contrast(pair: Pair, other: Pair, questions: list, options: argparse.Namespace) -> None:
    """Decode by contrast with four β, with one tokenizer and across, by turns."""
    times, texts, contrasts = [], [], [Contrast(ALPHA, beta) for beta in (0.2, 0.4, 0.8, 1.6)]
    for _ in range(options.rounds + 1):  # the first ones warm up
        for own in (pair, other):
            prompts, began = [pair_prompts(own, problem.question) for problem in questions], time.process_time()
            found = contrast_grid(own, prompts, contrasts, options.tokens)
            times.append(time.process_time() - began)
            texts.append([response.tokens.tolist() for cell in found for response in cell])
    ratios = [across_ / one for one, across_ in zip(times[2::2], times[3::2], strict=True)]
    differ = sum(one != across_ for one, across_ in zip(*texts[:2], strict=True))
    print(
        f"contrast, {len(questions)} problems, four β, permuted ids: {differ} texts differ; "
        f"{statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})"
    )


def main() -> None:
    options = pair_parser(__doc__, "bundled-test", problems=16, tokens=128, rounds=3).parse_args()
    torch.set_num_threads(1)
    _, pair = named_pair(options)
    questions = load_problems(options.source, limit=options.problems).problems
    decoding = DecodingConfig(max_new_tokens=options.tokens, beta_floor=0.0)

    def sample(own: Pair) -> tuple[Responses, float]:
        began = time.process_time()
        return generate_batch(own, rows_of(own, questions), decoding, lambda ended: None), time.process_time() - began

    usual, _ = sample(pair)
    for title, other in (("same tokenizer", pair.amateur), ("permuted ids", permuted(pair.amateur))):
        compare(title, usual, sample(across(pair, pair.expert, other))[0])
    undone, steps = Undone(pair), []
    for problem, tokens in zip(questions, usual.tokens, strict=True):
        steps += undone.measure(tokens, pair_prompts(pair, problem.question))
    gaps, apart, compared = np.array(steps).T
    told = apart >= 0
    print(
        f"{UNDONE} undone merges: {len(steps):,} steps, KL − truth from {gaps.min():.2g} to {gaps.max():.2g}, "
        f"median {np.median(gaps):.2g}; {told.mean():.1%} have a target, "
        f"its total variation ≤ {apart[told].max():.2g}, median "
        f"{np.median(apart[told]):.2g}; compared {compared.mean():.2%}"
    )
    print_contrast(pair, across(pair, pair.expert, permuted(pair.amateur)), questions[:12], options)
    other = across(pair, pair.expert, pair.amateur)
    times = [(sample(pair)[1], sample(other)[1]) for _ in range(options.rounds)]
    ratios = [across_ / one for one, across_ in times]
    print(
        f"sampling: {statistics.median(one for one, _ in times):.2f} s with one tokenizer, as across "
        f"{statistics.median(two for _, two in times):.2f} s; {statistics.median(ratios):.2f} times "
        f"({min(ratios):.2f} to {max(ratios):.2f})"
    )


if __name__ == "__main__":
    main()
