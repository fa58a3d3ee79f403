"""Before hours are spent on a pair: a few problems tell what a dataset would be like, and whether the pair is any good.

`probe` is the quick half: what would sampling so many problems cost and bring? `preflight` also asks how well each
model solves the problems, and judges the pair by the paper's rule: the expert must clearly outperform the amateur, and
the amateur must still be coherent (arXiv 2510.07962).
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lightreasoner.datasets.trajectories import KL_EDGES, kl_histogram
from lightreasoner.decoding.batch_decoder import fitting_rows
from lightreasoner.decoding.generate import CHUNK, Decoding, Item, respond
from lightreasoner.decoding.greedy import solve
from lightreasoner.decoding.kv_cache import cache_bytes
from lightreasoner.formatting import spoken_time
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.paper import BETA
from lightreasoner.problems.grading import judge
from lightreasoner.problems.rows import Problem
from lightreasoner.sampling.batch_table import batch_table
from lightreasoner.scoring.significance import Z, wilson

BETAS = tuple(round(0.05 * n, 2) for n in range(1, 41))  # nats, at which the kept fraction is given
#: The verdict's bounds, in words there. A gap below SMALL was one that hurt in the paper (its table: 7.6 points between
#: Qwen2.5-Math-7B and -1.5B over seven benchmarks, and the tuned model ended below its baseline).
SMALL_GAP, LOST_LOSS, LOST_SHARE = 0.10, 4.0, 0.5
FEW, MANY = 0.02, 0.6  # of steps above β


@dataclass(frozen=True)
class Probe:
    """What a few problems measured, and what that makes for `problems` of them."""

    probed: int  # problems sampled just now
    problems: int  # that the forecast is for
    steps: float  # a problem
    samples: float  # of KL above BETA, in all
    seconds: float  # in all
    disk_bytes: float  # in all
    memory_bytes: float  # models, caches and one chunk of logits, with as many rows as a batch takes
    kept: tuple[float, ...]  # fraction of the steps with KL > BETAS[n]

    def sentence(self) -> str:
        """For people."""
        return (
            f"About {_round(self.samples)} samples at β = {BETA:g} in {spoken_time(self.seconds)}, "
            f"{self.disk_bytes / 1e6:.1f} MB on disk; measured on {self.probed} of the problems."
        )


def probe(
    pair: Pair,
    problems: list[Problem],
    decoding: Decoding,
    samples_per_problem: int,
    total: int,
    checkpoint: Callable[[], None] = lambda: None,
) -> tuple[Probe, pa.Table]:
    """Sample these few problems, all at once, and forecast `total`. The table is theirs, as sampling would write it.

    Raises UserError for a problem that no prompt can be made of or a model that gives no distribution.
    """
    items = []
    for problem in problems:
        prompt = prompt_ids(pair.expert, problem.question)
        items.append(
            Item(problem, 0, prompt, prompt if pair.same_specials else prompt_ids(pair.amateur, problem.question))
        )
    began = time.perf_counter()
    table = batch_table(pair, items, respond(pair, items, decoding, lambda ended: checkpoint()))
    seconds = time.perf_counter() - began
    kl = table["kl"].combine_chunks().flatten().to_numpy()
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    times = total * samples_per_problem / len(items)
    found = Probe(
        probed=len(items),
        problems=total,
        steps=len(kl) / len(items),
        samples=float((kl > BETA).sum()) * times,
        seconds=seconds * times,
        disk_bytes=buffer.tell() * times,
        memory_bytes=memory(pair, max(len(item.prompt) for item in items) + decoding.max_new_tokens),
        kept=tuple(float((kl > beta).mean()) for beta in BETAS),
    )
    return found, table


def memory(pair: Pair, tokens: int) -> float:
    """Bytes that sampling takes at its usual batch size with sequences of so many tokens."""
    models = list({id(loaded): loaded for loaded in (pair.expert, pair.amateur)}.values())
    rows = fitting_rows(models, tokens, CHUNK)
    caches = sum(rows * tokens * cache_bytes(loaded) for loaded in models)
    heads = [loaded.model.get_output_embeddings().weight.shape[0] * loaded.dtype.itemsize for loaded in models]
    return sum(loaded.memory_bytes for loaded in models) + caches + 3 * rows * CHUNK * sum(heads)


@dataclass(frozen=True)
class Solved:
    """How one model did on the problems with known answers. None: there were none."""

    accuracy: float | None
    low: float | None  # 95 % interval
    high: float | None
    truncated: float  # share of responses that hit the token limit
    unanswered: float | None  # share of responses without a recognisable answer


@dataclass(frozen=True)
class Preflight:
    """Everything that the verdict rests on. Shares from 0 to 1, nats."""

    probe: Probe
    expert: Solved
    amateur: Solved
    gap: float | None  # expert's accuracy − amateur's
    gap_low: float | None  # 95 % interval, paired
    gap_high: float | None
    amateur_loss: float  # mean −log p of the amateur on the expert's text
    mean_kl: float
    histogram: tuple[int, ...]  # steps in trajectories.KL_EDGES
    tone: str  # good, warn or bad
    verdict: tuple[str, ...]  # sentences

    def as_json(self) -> dict:
        return asdict(self) | {"betas": BETAS, "edges": KL_EDGES, "sentence": self.probe.sentence()}


def preflight(
    pair: Pair,
    problems: list[Problem],
    decoding: Decoding,
    total: int,
    checkpoint: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda text: None,
) -> Preflight:
    """Try a pair on these problems (a few dozen), forecast `total`. Raises UserError."""
    say("The expert solves the problems, the amateur reads along")
    found, table = probe(pair, problems, decoding, 1, total, checkpoint)
    responses = table["response"].to_pylist()
    cut_off = [reason == "length" for reason in table["finish_reason"].to_pylist()]
    expert, right = _solved(problems, responses, cut_off)
    amateur, amateur_right = expert, right
    if not pair.same_model:
        say("The amateur solves them too")
        prompts = [prompt_ids(pair.amateur, problem.question) for problem in problems]
        ids = solve(pair.amateur, prompts, decoding.max_new_tokens, checkpoint)
        ended = [bool(own) and own[-1] in pair.amateur.end_ids for own in ids]
        texts = [pair.amateur.tokenizer.decode(own[:-1] if end else own) for own, end in zip(ids, ended, strict=True)]
        amateur, amateur_right = _solved(problems, texts, [not end for end in ended])
    gap = _gap(right, amateur_right)
    logprobs = table["amateur_logprob"].combine_chunks().flatten().drop_null().to_numpy()
    loss = float(-logprobs.mean()) if len(logprobs) else math.nan
    kl = table["kl"].combine_chunks().flatten().to_numpy()
    tone, verdict = judged(pair.same_model, expert, amateur, gap, loss, float((kl > BETA).mean()))
    return Preflight(
        found,
        expert,
        amateur,
        *(gap or (None, None, None)),
        amateur_loss=loss,
        mean_kl=float(np.mean(kl)),
        histogram=tuple(kl_histogram(kl).tolist()),
        tone=tone,
        verdict=tuple(verdict),
    )


def _solved(problems: list[Problem], responses: list[str], cut_off: list[bool]) -> tuple[Solved, list[bool | None]]:
    """(summary, right or wrong for each problem, None where no answer is known)."""
    verdicts = [judge(r, p.answer) if p.answer else None for p, r in zip(problems, responses, strict=True)]
    known = [verdict for verdict in verdicts if verdict]
    truncated = sum(cut_off) / len(problems)
    if not known:
        return Solved(None, None, None, truncated, None), [None] * len(problems)
    right = sum(verdict.right for verdict in known)
    unanswered = sum(verdict.extracted is None for verdict in known) / len(known)
    summary = Solved(right / len(known), *wilson(right, len(known)), truncated, unanswered)
    return summary, [verdict and verdict.right for verdict in verdicts]


def _gap(expert: list[bool | None], amateur: list[bool | None]) -> tuple[float, float, float] | None:
    """(difference of the accuracies, its 95 % interval): paired, normal approximation."""
    differences = [e - a for e, a in zip(expert, amateur, strict=True) if e is not None]
    if not differences:
        return None
    mean, reach = float(np.mean(differences)), Z * float(np.std(differences)) / math.sqrt(len(differences))
    return mean, max(-1.0, mean - reach), min(1.0, mean + reach)


def judged(
    same: bool,
    expert: Solved,
    amateur: Solved,
    gap: tuple[float, float, float] | None,
    loss: float,
    kept: float,
) -> tuple[str, list[str]]:
    """(tone, sentences): what to think of the pair, the worst first."""
    if same:
        return "bad", ["Both models are the same, so they never diverge and there is nothing to select."]
    bad, warn, good = [], [], []
    if not loss < LOST_LOSS or amateur.truncated > LOST_SHARE + expert.truncated:
        bad.append(
            f"The amateur is hardly coherent: it loses {loss:.1f} nats a token on the expert's text and runs into the "
            f"token limit in {amateur.truncated:.0%} of its own responses. Contrast with it rewards what is merely "
            "odd; take a better amateur."
        )
    if gap is None:
        warn.append("No answers are known, so the gap in accuracy cannot be told; only the divergence can.")
    else:
        points = f"{100 * gap[0]:+.0f} points (95 % interval {100 * gap[1]:+.0f} to {100 * gap[2]:+.0f})"
        if gap[0] <= 0:
            bad.append(f"The expert is not better than the amateur here: {points}. Swap them, or take another pair.")
        elif gap[0] < SMALL_GAP:
            warn.append(
                f"The gap in accuracy is small: {points}. In the paper a gap of 8 points ended below the baseline; a "
                "weaker amateur may teach more."
            )
        elif gap[1] <= 0:
            warn.append(f"The expert seems better, but these problems are too few to be sure: {points}.")
        else:
            good.append(f"The expert clearly outperforms the amateur: {points}.")
    if kept < FEW:
        warn.append(f"Only {kept:.1%} of the steps diverge by more than β = {BETA:g}: there is little to learn.")
    elif kept > MANY:
        warn.append(f"{kept:.0%} of the steps diverge by more than β = {BETA:g}, so selecting hardly selects; raise β.")
    else:
        good.append(f"{kept:.0%} of the steps diverge by more than β = {BETA:g} (the paper's pairs: about 20 %).")
    if expert.truncated > LOST_SHARE:
        warn.append(f"{expert.truncated:.0%} of the expert's responses hit the token limit; allow more tokens.")
    if not bad and loss < LOST_LOSS:
        good.append(f"The amateur is coherent: it loses {loss:.2f} nats a token on the expert's text.")
    return "bad" if bad else "warn" if warn else "good", bad + warn + good


def _round(value: float) -> str:
    """Two significant figures: a probe knows no more."""
    if value < 10:
        return f"{value:.0f}"
    unit = 10 ** (int(math.log10(value)) - 1)
    return f"{round(value / unit) * unit:,.0f}"
