"""Run a sampling job: read the problems or responses, load both models, do what is missing, and save the result."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from lightreasoner.datasets.amateurs import further_folder, model_title
from lightreasoner.datasets.tokenizer import save_tokenizer
from lightreasoner.datasets.trajectories import shards
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, device_names, load_further, load_pair
from lightreasoner.models.prompts import settle_date
from lightreasoner.paper import BETA
from lightreasoner.progress import Progress, StopRequested, while_loading
from lightreasoner.sampling.given_responses import GivenPrompts
from lightreasoner.sampling.job import SamplingJob, pair_facts
from lightreasoner.sampling.on_cluster import cluster_map
from lightreasoner.sampling.plan import TYPICAL_PROMPT, TYPICAL_ROW, Prompts, Skipped, planned_rows
from lightreasoner.sampling.sampler import SamplingCounts, sample_dataset
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import RECORD, add_to_run, begin_run, read_run, stored_run


@dataclass(frozen=True)
class SamplingResult:
    """What the dataset contains; run.json stores it under "result"."""

    problems: int
    responses: int
    steps: int
    above_beta: int  # steps with KL > beta
    beta: float  # nats
    bytes: int  # of all shards
    seconds: float  # spent sampling
    skipped: Skipped


def run_sampling(job: SamplingJob, settings: Settings, progress: Progress) -> SamplingResult:
    """Sample the job's dataset, or what is missing of it, and save the result in run.json. Raises UserError.

    When stopped early with the results kept, it saves the result of the shards present and raises StopRequested.
    """
    job.check(settings)
    if shards(job.run_dir) and not (job.run_dir / RECORD).exists():
        raise UserError(
            f"{job.run_dir} contains shards but no {RECORD}, so their origin is unknown; use another folder."
        )
    job = _stored_amateur_first(job)
    progress.status("Reading the responses" if job.responses else "Reading the problems")
    total = job.count(settings)  # a mistake in the last row shows now, not after hours
    say = while_loading(progress, (job.run_dir / RECORD).exists())
    models = LoadedModels(settings)
    pair = load_pair(job.expert, job.amateur, models, say, job.pair_name)
    others = load_further(pair, job.other_amateurs, models, say)
    tokenizers = [loaded.tokenizer for loaded in (pair.expert, *(each.amateur for each in (pair, *others)))]
    job = replace(job, prompt=settle_date(job.prompt, tokenizers, stored_run(job.run_dir)["config"].get("prompt")))
    prompts, origin = job.open_prompts(pair, settings, others), None
    if isinstance(prompts, GivenPrompts):
        progress.status("Checking the responses")
        origin, total = prompts.check(progress.checkpoint), prompts.responses
    batch_size = _begin(job, (pair, *others), origin)["about"]["batch_size"]
    further = []  # the job of each further amateur's own dataset
    for ref, other in zip(job.other_amateurs, others, strict=True):
        own = {"run_dir": further_folder(job.run_dir, ref), "amateur": ref, "batch_size": batch_size}
        further.append(replace(job, **own, other_amateurs=(), pair_name=None))
        _begin(further[-1], (other,), origin, {"title": f"{job.title} · {model_title(ref)}"})
    for each in (job, *further):
        save_tokenizer(pair.expert.tokenizer, each.run_dir)  # the dataset stays readable without the model
    counts, cluster = SamplingCounts(job.samples_per_problem), None
    if job.num_workers is not None:
        cluster = cluster_map(job, (pair, *others), batch_size, settings, progress)
    try:
        sample_dataset(
            *(pair, prompts, job.run_dir, job.decoding),
            batch_size=batch_size,
            total=total,
            progress=progress,
            counts=counts,
            parallel_map=cluster,
            others=[(other, own.run_dir) for other, own in zip(others, further, strict=True)],
        )
    except StopRequested as stop:
        if stop.keep:
            counts.recount(job.run_dir)  # it may have stopped before it reached all existing shards
            _save(job, further, counts, prompts, progress)
        raise
    return _save(job, further, counts, prompts, progress)


def read_result(job: SamplingJob) -> SamplingResult:
    """The saved result of a job that has run. Raises UserError."""
    stored = read_run(job.run_dir)["result"]
    return SamplingResult(**stored | {"skipped": Skipped(**stored["skipped"])})


def _stored_amateur_first(job: SamplingJob) -> SamplingJob:
    """The job with the amateur of an existing dataset first, in whatever order the amateurs were named."""
    first = stored_run(job.run_dir)["config"].get("amateur", job.amateur)
    if first not in job.other_amateurs:
        return job
    return replace(job, amateur=first, other_amateurs=tuple(ref for ref in job.amateurs if ref != first))


def _begin(job: SamplingJob, pairs: Sequence[Pair], origin: dict | None, facts: dict | None = None) -> dict:
    """Write or check run.json; the record of the run's first start, whose batch size decides the batches.

    pairs: the expert beside the job's amateur, and beside further ones, which need memory, too. origin: where responses
    that something else wrote come from. facts: for the record's part "about".
    """
    pair = pairs[0]
    batch_size = job.batch_size
    if batch_size is None:
        tokens = TYPICAL_ROW if job.responses else TYPICAL_PROMPT + job.decoding.max_new_tokens
        batch_size = planned_rows(pair, tokens, pairs[1:])
    about = pair_facts(pair, job.prompt, stored_run(job.run_dir)["about"])
    about["fingerprints"] |= job.fingerprints()
    about |= {"batch_size": batch_size, "problems": job.problems or job.responses, "title": job.title}
    about |= {"device": device_names(pair)} | ({"responses": origin} if origin else {}) | (facts or {})
    dtypes = {str(model.dtype).removeprefix("torch.") for model in (pair.expert, pair.amateur)}
    config = job.config() | {"dtype": ", ".join(sorted(dtypes))}
    return begin_run(job.run_dir, "dataset", config, about)


def _save(
    job: SamplingJob,
    further: Sequence[SamplingJob],
    counts: SamplingCounts,
    prompts: Prompts | GivenPrompts,
    progress: Progress,
) -> SamplingResult:
    """Save the results of the dataset and of its further amateurs' datasets in their run.json."""
    result = _result(job, counts, prompts)
    progress.result(**asdict(result))
    add_to_run(job.run_dir, result=asdict(result))
    for own in further:
        seen = SamplingCounts(job.samples_per_problem)
        seen.recount(own.run_dir)
        add_to_run(own.run_dir, result=asdict(_result(own, seen, prompts)) | {"seconds": result.seconds})
    return result


def _result(job: SamplingJob, counts: SamplingCounts, prompts: Prompts | GivenPrompts) -> SamplingResult:
    earlier = read_run(job.run_dir).get("result")  # with nothing missing, reading the shards is not sampling
    seconds = earlier["seconds"] if earlier and not counts.new_responses else counts.seconds
    return SamplingResult(
        counts.problems,
        counts.responses,
        counts.steps,
        counts.above_beta,
        BETA,
        bytes=sum(path.stat().st_size for path in shards(job.run_dir)),
        seconds=round(seconds, 2),
        skipped=prompts.skipped(),
    )
