"""Pair check: try a pair on a few problems before building a dataset with it.

It measures both models' accuracy, the divergence between them and the resources that sampling would take. It assesses
the pair by the paper's rule (arXiv 2510.07962): the expert must clearly outperform the amateur, and the amateur must
still be coherent.
"""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from lightreasoner.datasets.trajectories import COMPARED, KL_EDGES, kl_histogram
from lightreasoner.decoding.generate import DecodingConfig, greedy_generate
from lightreasoner.grading.grading import grade
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.identity import describe_models
from lightreasoner.models.pairs import Pair, describe_pair, load_pair
from lightreasoner.models.prompt_settings import PAPER, PromptSettings, check_prompt
from lightreasoner.models.prompts import describe_prompt, prompt_ids, prompt_marks, settle_date
from lightreasoner.models.turn_ends import finished_text
from lightreasoner.paper import BETA
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.stream import open_problems, source_fingerprint
from lightreasoner.progress import Progress, SilentProgress, while_loading
from lightreasoner.sampling.estimate import BETAS, ResourceEstimate, estimate_resources
from lightreasoner.scoring.significance import Z, wilson
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import write_text
from lightreasoner.storage.runs import begin_run, note_versions, stored_run, versions
from lightreasoner.validation import number

LEFT_OUT = ("run_dir", "pair_name", "skip_unreadable")  # of the configuration in run.json
KIND = "preflight"  # the run's kind in run.json, and the job's verb
RESULT = "preflight.json"  # in the run folder
#: Bounds of the assessment. A gap below SMALL_GAP hurt in the paper: in its table Qwen2.5-Math-7B and -1.5B are 7.6
#: points apart over seven benchmarks, and the tuned model ended below its baseline.
SMALL_GAP = 0.10
MAX_LOSS = 4.0  # nats per token, of a coherent amateur on the expert's text
MAX_TRUNCATED = 0.5  # of the responses
FEW_SELECTED, MANY_SELECTED = 0.02, 0.6  # of the steps


@dataclass(frozen=True)
class ModelAccuracy:
    """How one model did on the problems. None: no answers are known."""

    accuracy: float | None
    low: float | None  # 95 % interval
    high: float | None
    truncated: float  # share of responses that hit the token limit
    unanswered: float | None  # share of responses from which no answer was extracted


@dataclass(frozen=True)
class PairCheck:
    """The measurements of a pair and its assessment. Shares are from 0 to 1, losses and KL in nats."""

    estimate: ResourceEstimate
    expert: ModelAccuracy
    amateur: ModelAccuracy
    gap: float | None  # expert's accuracy − amateur's
    gap_low: float | None  # 95 % interval, paired
    gap_high: float | None
    amateur_loss: float  # mean −log p of the amateur on the expert's text; NaN where it is known of no token
    mean_kl: float
    histogram: tuple[int, ...]  # steps per bin of trajectories.KL_EDGES
    tone: str  # good, warn or bad
    assessment: tuple[str, ...]  # sentences, the worst first
    #: Of a pair across tokenizers, whose KLs are lower bounds: how much of the expert's probability was compared.
    compared: float | None = None

    def as_json(self) -> dict:
        """The document saved as RESULT."""
        document = asdict(self) | {"betas": BETAS, "edges": KL_EDGES, "sentence": self.estimate.sentence()}
        document["verdict"], document["probe"] = document.pop("assessment"), document.pop("estimate")
        document["probe"]["probed"] = document["probe"].pop("measured")
        if math.isnan(self.amateur_loss):
            del document["amateur_loss"]
        return document


@dataclass(frozen=True)
class PairCheckJob:
    """Which pair to check on which problems, and into which run folder."""

    run_dir: Path
    expert: str
    amateur: str
    problems: str  # a problem source or a file
    pair_name: str | None = None  # the preset that named both models
    split: str | None = None  # of a benchmark
    limit: int = 24  # problems to try
    target: int = 1000  # problems to estimate resources for
    max_new_tokens: int = 128  # per response
    stop: tuple[str, ...] = ()  # texts that end a response, besides the ends of the model's turn
    skip_unreadable: bool = True  # use the rest of a file that has rows which cannot be read
    prompt: PromptSettings = PAPER

    @property
    def title(self) -> str:
        return f"Check the pair {self.pair_name or self.expert}"

    def check(self, settings: Settings) -> None:
        """Raises UserError for a number out of bounds."""
        number("--limit", self.limit, 2, 200, whole=True)
        number("--target", self.target, 1, 10_000_000, whole=True)
        check_prompt(self.prompt)
        number("--max-new-tokens", self.max_new_tokens, 1, settings.max_new_tokens, whole=True)


def run_pair_check(job: PairCheckJob, settings: Settings, progress: Progress) -> PairCheck:
    """Load both models, check the pair and save the result in the run folder. Raises UserError."""
    progress.status("Reading the problems")
    limits = {"limit": job.limit, "max_chars": settings.max_problem_chars, "distinct": True}
    stream = open_problems(job.problems, split=job.split, skip_unreadable=job.skip_unreadable, **limits)
    problems = list(stream)
    pair = load_pair(job.expert, job.amateur, LoadedModels(settings), while_loading(progress), job.pair_name)
    stored = stored_run(job.run_dir)
    tokenizers = (pair.expert.tokenizer, pair.amateur.tokenizer)
    prompt = settle_date(job.prompt, tokenizers, stored["config"].get("prompt"))
    config = {name: value for name, value in asdict(job).items() if name not in LEFT_OUT}
    config |= {"prompt": prompt.as_json()}
    config = {name: value for name, value in config.items() if name not in ("stop", "prompt") or value}
    about = describe_models({"expert": pair.expert, "amateur": pair.amateur}, stored["about"])
    about["marks"] |= prompt_marks({"expert": pair.expert, "amateur": pair.amateur}, prompt)
    about["prompt"] = describe_prompt(pair.expert, prompt)
    about["fingerprints"]["file of problems"] = source_fingerprint(job.problems)
    about |= {"versions": versions(), "pair": describe_pair(pair)}
    begin_run(job.run_dir, KIND, config, about)
    if changed := note_versions(job.run_dir):
        progress.status(changed)
    decoding = DecodingConfig(job.max_new_tokens, stop=job.stop)
    result = check_pair(pair, problems, decoding, job.target, progress, prompt)
    write_text(job.run_dir / RESULT, json.dumps(result.as_json(), indent=1) + "\n")
    progress.result(tone=result.tone, verdict=list(result.assessment), sentence=result.estimate.sentence())
    return result


def check_pair(
    pair: Pair,
    problems: list[Problem],
    decoding: DecodingConfig,
    total: int,
    progress: Progress | None = None,
    prompt: PromptSettings = PAPER,
) -> PairCheck:
    """Check a pair on a few dozen problems and estimate the resources for `total` of them. Raises UserError."""
    progress = progress or SilentProgress()
    progress.status("The expert solves the problems; the amateur predicts the same tokens")
    estimate, table = estimate_resources(pair, problems, decoding, 1, total, progress.checkpoint, prompt)
    truncated = [reason == "length" for reason in table["finish_reason"].to_pylist()]
    opening = describe_prompt(pair.expert, prompt)["opening"]
    expert, expert_right = _accuracy(problems, table["response"].to_pylist(), truncated, opening)
    amateur, amateur_right = expert, expert_right
    if not pair.same_model:
        progress.status("The amateur solves the problems")
        prompts = [prompt_ids(pair.amateur, problem.question, prompt, problem.context) for problem in problems]
        opening = describe_prompt(pair.amateur, prompt)["opening"]
        ids = greedy_generate(pair.amateur, prompts, decoding.max_new_tokens, progress.checkpoint, decoding.stop)
        ended = [finished_text(pair.amateur, own, decoding.stop) for own in ids]
        texts, truncated = [text for text, _ in ended], [reason == "length" for _, reason in ended]
        amateur, amateur_right = _accuracy(problems, texts, truncated, opening)
    gap = _gap(expert_right, amateur_right)
    logprobs = table["amateur_logprob"].combine_chunks().flatten().drop_null().to_numpy()
    loss = float(-logprobs.mean()) if len(logprobs) else math.nan
    kl = table["kl"].combine_chunks().flatten().to_numpy()
    tone, sentences = assess_pair(pair.same_model, expert, amateur, gap, loss, float((kl > BETA).mean()))
    share, across = None, []
    if pair.across:
        share = float(table[COMPARED.name].combine_chunks().flatten().to_numpy().mean(dtype=np.float64))
        across.append(
            f"The tokenizers differ: KL is a lower bound, {share:.0%} of the expert's mass was compared, and steps "
            "whose plausible tokens were not all compared are not trained on."
        )
    return PairCheck(
        estimate,
        expert,
        amateur,
        *(gap or (None, None, None)),
        amateur_loss=loss,
        mean_kl=float(np.mean(kl)),
        histogram=tuple(kl_histogram(kl).tolist()),
        tone=tone,
        assessment=tuple(sentences + across),
        compared=share,
    )


def _accuracy(
    problems: list[Problem], responses: list[str], truncated: list[bool], opening: str
) -> tuple[ModelAccuracy, list[bool | None]]:
    """(summary, whether each problem's answer is right; None where no answer is known)."""
    grades = [grade(opening + r, p.answer) if p.answer else None for p, r in zip(problems, responses, strict=True)]
    known = [grade for grade in grades if grade]
    share = sum(truncated) / len(problems)
    if not known:
        return ModelAccuracy(None, None, None, share, None), [None] * len(problems)
    right = sum(grade.right for grade in known)
    unanswered = sum(grade.extracted is None for grade in known) / len(known)
    summary = ModelAccuracy(right / len(known), *wilson(right, len(known)), share, unanswered)
    return summary, [grade and grade.right for grade in grades]


def _gap(expert: list[bool | None], amateur: list[bool | None]) -> tuple[float, float, float] | None:
    """(difference of the accuracies, bounds of its 95 % interval): paired, by the normal approximation."""
    differences = [e - a for e, a in zip(expert, amateur, strict=True) if e is not None]
    if not differences:
        return None
    mean, reach = float(np.mean(differences)), Z * float(np.std(differences)) / math.sqrt(len(differences))
    return mean, max(-1.0, mean - reach), min(1.0, mean + reach)


def assess_pair(
    same: bool,
    expert: ModelAccuracy,
    amateur: ModelAccuracy,
    gap: tuple[float, float, float] | None,
    loss: float,
    selected: float,
) -> tuple[str, list[str]]:
    """(tone, sentences with the worst first). loss: the amateur's on the expert's text, nats per token.

    selected: share of the steps with KL > β.
    """
    if same:
        return "bad", ["Both models are the same, so they never diverge and there is nothing to select."]
    bad, warn, good = [], [], []
    if math.isnan(loss):
        bad.append(
            "What the amateur gives to the expert's tokens is known of none of them, so whether it is coherent is not "
            "known either. Choose an amateur whose tokenizer is nearer to the expert's."
        )
    if loss >= MAX_LOSS or amateur.truncated > MAX_TRUNCATED + expert.truncated:
        bad.append(
            "The amateur is hardly coherent: "
            + ("" if math.isnan(loss) else f"its loss is {loss:.1f} nats per token on the expert's text, and ")
            + f"{amateur.truncated:.0%} of its own responses hit the token limit. Contrast with it rewards tokens that "
            "are merely unusual; use a better amateur."
        )
    if gap is None:
        warn.append("No answers are known, so only the divergence can be measured, not the gap in accuracy.")
    else:
        points = f"{100 * gap[0]:+.0f} points (95 % interval {100 * gap[1]:+.0f} to {100 * gap[2]:+.0f})"
        if gap[0] <= 0:
            bad.append(f"The expert is not better than the amateur here: {points}. Swap them, or use another pair.")
        elif gap[0] < SMALL_GAP:
            warn.append(
                f"The gap in accuracy is small: {points}. In the paper a pair with a gap of 8 points ended below the "
                "baseline; a weaker amateur may give better samples."
            )
        elif gap[1] <= 0:
            warn.append(f"The expert seems better, but the problems are too few to be sure: {points}.")
        else:
            good.append(f"The expert clearly outperforms the amateur: {points}.")
    if selected < FEW_SELECTED:
        warn.append(f"Only {selected:.1%} of the steps diverge by more than β = {BETA:g}: there is little to learn.")
    elif selected > MANY_SELECTED:
        warn.append(
            f"{selected:.0%} of the steps diverge by more than β = {BETA:g}, so selection leaves out little; raise β."
        )
    else:
        good.append(f"{selected:.0%} of the steps diverge by more than β = {BETA:g} (the paper's pairs: about 20 %).")
    if expert.truncated > MAX_TRUNCATED:
        warn.append(f"{expert.truncated:.0%} of the expert's responses hit the token limit; allow more tokens.")
    if not bad and loss < MAX_LOSS:
        good.append(f"The amateur is coherent: its loss is {loss:.2f} nats per token on the expert's text.")
    return "bad" if bad else "warn" if warn else "good", bad + warn + good
