"""A whole evaluation: reads the problems, loads the base model, and measures pass@1 of every model variant."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

from lightreasoner.decoding.contrast import Contrast, check_greedy
from lightreasoner.errors import UserError
from lightreasoner.evaluation.evaluate import Sampling, Solving, evaluate
from lightreasoner.evaluation.results import Variant
from lightreasoner.evaluation.summaries import Summary
from lightreasoner.grading.reference_answers import words_sentence
from lightreasoner.hub.download import ADAPTER_FILES
from lightreasoner.jobs.context import job_context
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.identity import describe_models
from lightreasoner.models.loading import LoadedModel, load_model
from lightreasoner.models.pairs import Pair, device_names, load_pair
from lightreasoner.models.prompt_settings import PAPER, PromptSettings, check_prompt
from lightreasoner.models.prompts import describe_prompt, prompt_ids, prompt_marks, settle_date
from lightreasoner.models.weights import check_adapter
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.stream import ProblemStream, open_problems, source_fingerprint
from lightreasoner.progress import Progress, while_loading
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import sha256
from lightreasoner.storage.runs import RECORD, begin_run, stored_run, versions
from lightreasoner.training.runs import adapter_folder
from lightreasoner.validation import number

MOST_SAMPLES = 1024  # responses per problem
MOST_PROBLEMS = 200_000  # of one evaluation, which keeps their texts and prompts in memory: some 1 kB each
MAX_NEW_TOKENS = 512  # where the user names no limit
ACROSS_TOKENIZERS = (
    "The tokenizers differ: KL is a lower bound, and where the amateur's probability of a plausible token is not "
    "known, a contrast leaves the expert's own token."
)


@dataclass(frozen=True)
class EvaluationJob:
    """Everything that defines an evaluation, as the user chose it."""

    run_dir: Path
    model: str  # reference of the base model
    adapters: tuple[Path, ...]  # adapter folders, or run folders of fine-tuning
    problems: str  # a source's key, or a file
    base: bool = True  # evaluate the base model without an adapter, too
    split: str | None = None  # of a benchmark; None: its test split
    limit: int | None = None  # the first problems only
    max_new_tokens: int | None = None  # None: MAX_NEW_TOKENS, or fewer where the model's context is short
    batch_size: int | None = None  # problems per batch; None: as many as fit into memory
    stop: tuple[str, ...] = ()  # texts that end a response, besides the ends of the model's turn
    prompt: PromptSettings = PAPER
    samples: int = 1  # responses per problem
    temperature: float = 0.0  # 0 is greedy
    seed: int = 0  # of sampling
    amateur: str | None = None  # its reference; the contrasts need one
    contrasts: tuple[Contrast, ...] = ()  # decoded beside the models: what training would come to, at most
    workers: int | None = None  # of a Ray cluster; None: this process computes
    skip_unreadable: bool = True  # use the rest of a file that has rows which cannot be read

    @property
    def title(self) -> str:
        return f"Evaluate {self.model.rpartition('/')[2]} on {Path(self.problems).name}"

    def variants(self) -> list[Variant]:
        """The models to evaluate, the base first. Equal names get numbers. Raises UserError."""
        adapters = [adapter_of(folder) for folder in self.adapters]
        if not self.base and not adapters and not self.contrasts:
            raise UserError("--no-base leaves nothing to evaluate; add an --adapter or omit --no-base.")
        names = [adapter_name(folder) for folder in adapters]
        taken = names + (["base"] if self.base else [])
        variants = [
            Variant(f"{name}-{n}" if taken.count(name) > 1 else name, folder)
            for n, (name, folder) in enumerate(zip(names, adapters, strict=True), 1)
        ]
        contrasts = [Variant(contrast.title, contrast=contrast) for contrast in self.contrasts]
        return [*([Variant("base")] if self.base else []), *variants, *contrasts]


@dataclass(frozen=True)
class AskedProblems:
    """The problems of an evaluation, and what was found on reading them."""

    problems: list[Problem]
    graded: bool  # whether their answers are known; else contrasts tell how far they depart from the expert
    stream: ProblemStream

    @cached_property
    def words(self) -> str:
        """A sentence on unusual reference answers; "" where there are none."""
        return words_sentence(self.problems)

    @property
    def unknown(self) -> int:
        """How many of the problems that were read have no known answer."""
        return self.stream.count - (len(self.problems) if self.graded else 0)


def run_evaluation(
    job: EvaluationJob,
    settings: Settings,
    on_notice: Callable[[str], None] = lambda sentence: None,
    console: Callable[[Progress], Progress] = lambda progress: progress,
) -> list[Summary]:
    """Evaluate every variant in the job's run folder; one summary per variant. Raises UserError, StopRequested.

    on_notice: receives sentences on unusual reference answers, before any model is loaded, and on the pair. console:
    wraps the progress, for example to print it.
    """
    if job.contrasts:
        check_greedy(job.temperature)
    variants, sampling = job.variants(), checked_sampling(job.samples, job.temperature, job.seed)
    with job_context(job.run_dir, "evaluate", settings, title=job.title) as context:
        progress = console(context)
        progress.status("Reading the problems")
        asked = _read_problems(job, settings)
        if job.contrasts and asked.unknown:
            on_notice(_without_answers(asked.unknown, asked.stream.count))
        if asked.words:
            on_notice(asked.words)
            progress.event("answers", message=asked.words)
        loaded, pair = _load(job, settings, progress)
        if pair and pair.across:
            on_notice(ACROSS_TOKENIZERS)
        models = {"model": loaded} | ({"amateur": pair.amateur} if pair else {})
        stored = stored_run(job.run_dir)
        tokenizers = [model.tokenizer for model in models.values()]
        prompt = settle_date(check_prompt(job.prompt), tokenizers, stored["config"].get("prompt"))
        max_new_tokens = job.max_new_tokens or default_max_new_tokens(loaded, asked.problems, prompt)
        job = replace(job, prompt=prompt, max_new_tokens=max_new_tokens)
        about = _about(job, variants, models, asked, stored["about"])
        about["device"] = device_names(pair) if pair else str(loaded.device)
        about |= {"across": ACROSS_TOKENIZERS} if pair and pair.across else {}
        begin_run(job.run_dir, "evaluation", _config(job, variants, sampling), about)
        solving, parallel_map = Solving(variants, max_new_tokens, job.stop, sampling), None
        if job.workers is not None:
            from lightreasoner.evaluation.on_cluster import cluster_map

            parallel_map = cluster_map(loaded, solving, job.workers, settings, pair)
        shared = {"prompt": prompt, "pair": pair, "batch_size": job.batch_size, "parallel_map": parallel_map}
        summaries = evaluate(job.run_dir, loaded, asked.problems, solving, progress, **shared)
        if asked.graded:
            progress.result(**{summary.name: round(summary.pass_at_1, 4) for summary in summaries})
        else:
            progress.result(problems=len(asked.problems))
    return summaries


def _load(job: EvaluationJob, settings: Settings, progress: Progress) -> tuple[LoadedModel, Pair | None]:
    """(the base model, with an amateur the pair)."""
    progress.status("Loading the models" if job.amateur else "Loading the model")
    say = while_loading(progress, (job.run_dir / RECORD).exists())
    if not job.amateur:
        return load_model(job.model, settings, say), None
    pair = load_pair(job.model, job.amateur, LoadedModels(settings), say)
    return pair.expert, pair


def _read_problems(job: EvaluationJob, settings: Settings) -> AskedProblems:
    """Raises UserError, also where no answer is known to grade by."""
    stream = open_problems(
        job.problems,
        split=job.split,
        limit=job.limit,
        max_rows=MOST_PROBLEMS,
        max_chars=settings.max_problem_chars,
        distinct=True,  # a repeated problem is no second observation
        skip_unreadable=job.skip_unreadable,
    )
    everything = list(stream)
    if answered := [problem for problem in everything if problem.answer]:
        return AskedProblems(answered, True, stream)
    if everything and job.contrasts:
        return AskedProblems(everything, False, stream)
    raise UserError(
        f"None of the {stream.count:,} problems of {stream.title} has a known answer, so no response can be "
        "graded; choose problems with answers."
    )


def _config(job: EvaluationJob, variants: list[Variant], sampling: Sampling) -> dict:
    """The settings in run.json. What earlier versions did not have is named only where it is used."""
    config = {name: getattr(job, name) for name in ("model", "base", "problems", "split", "limit", "batch_size")}
    config["adapters"] = [str(variant.adapter) for variant in variants if variant.adapter]
    config["max_new_tokens"] = job.max_new_tokens
    config |= asdict(sampling) if sampling.temperature else {}
    if job.amateur:
        config |= {"amateur": job.amateur, "contrasts": [contrast.as_json() for contrast in job.contrasts]}
    config |= {"stop": list(job.stop)} if job.stop else {}
    return config | ({"prompt": job.prompt.as_json()} if job.prompt.as_json() else {})


def _about(
    job: EvaluationJob, variants: list[Variant], models: dict[str, LoadedModel], asked: AskedProblems, stored: dict
) -> dict:
    """The facts in run.json on models, prompt and problems. stored: those of an earlier start."""
    about = describe_models(models, stored)
    about["marks"] |= prompt_marks(models, job.prompt)
    about["prompt"] = describe_prompt(models["model"], job.prompt)
    about["fingerprints"]["file of problems"] = source_fingerprint(job.problems)
    for variant in variants:
        if variant.adapter:
            about["fingerprints"][f"adapter {variant.name}"] = sha256(variant.adapter / ADAPTER_FILES[1])[:32]
    return about | {
        **({} if asked.graded else {"graded": False}),
        "answers": asked.words,
        "models": [variant.name for variant in variants],
        "versions": versions(),
        "dtype": str(models["model"].dtype).removeprefix("torch."),
        "problems": len(asked.problems),
        "without answer": asked.unknown if asked.graded else 0,
        "duplicates": asked.stream.duplicates,
        "unreadable rows": len(asked.stream.skipped),
    }


def _without_answers(unknown: int, count: int) -> str:
    if unknown == count:
        return f"None of the {count:,} problems has a known answer, so accuracy cannot be told."
    return f"{unknown:,} of the {count:,} problems have no known answer and are left out."


def checked_sampling(
    samples: object, temperature: object, seed: object = 0, names: tuple[str, str] = ("--samples", "--temperature")
) -> Sampling:
    """The responses that are asked for. names: what samples and temperature are called where they were entered.

    Raises UserError for several greedy ones, which would all be the same.
    """
    samples = number(names[0], samples, 1, MOST_SAMPLES, whole=True)
    temperature = number(names[1], temperature, 0, 10)
    if samples > 1 and not temperature:
        raise UserError(
            f"{names[0]} is {samples} at temperature 0, where every response to a problem is the same; give a "
            "temperature such as 0.6, or ask for one response."
        )
    return Sampling(samples, temperature, number("--seed", seed, 0, 2**53, whole=True))


def default_max_new_tokens(loaded: LoadedModel, problems: list[Problem], prompt: PromptSettings = PAPER) -> int:
    """MAX_NEW_TOKENS, or fewer where the model's context has no room for them after the longest prompt."""
    longest = max(len(prompt_ids(loaded, problem.question, prompt, problem.context)) for problem in problems)
    return max(1, min(MAX_NEW_TOKENS, loaded.max_positions - longest)) if loaded.max_positions else MAX_NEW_TOKENS


def adapter_of(folder: Path) -> Path:
    """The adapter's folder: of a fine-tuning run, or the given folder itself. Raises UserError."""
    folder = adapter_folder(folder) if (folder / RECORD).is_file() else folder
    check_adapter(folder)
    return folder


def adapter_name(adapter: Path) -> str:
    """The name of the run that made the adapter, or of its own folder."""
    return adapter.parent.name if adapter.name == "adapter" else adapter.name
