"""Run a sampling job: read the problems or responses, load both models, do what is missing, and save the result."""

from dataclasses import asdict, dataclass, replace

from lightreasoner.datasets.tokenizer import save_tokenizer
from lightreasoner.datasets.trajectories import shards
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.identity import describe_models
from lightreasoner.models.pairs import Pair, describe_pair, load_pair
from lightreasoner.models.prompts import describe_prompt, prompt_marks, settle_date
from lightreasoner.paper import BETA
from lightreasoner.progress import Progress, StopRequested, while_loading
from lightreasoner.sampling.given import GivenPrompts
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.on_cluster import cluster_map
from lightreasoner.sampling.plan import TYPICAL_PROMPT, TYPICAL_ROW, Prompts, Skipped, planned_rows
from lightreasoner.sampling.sampler import SamplingCounts, sample_dataset
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import RECORD, add_to_run, begin_run, read_run, stored_run, versions


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
    progress.status("Reading the responses" if job.responses else "Reading the problems")
    total = job.count(settings)  # a mistake in the last row shows now, not after hours
    say = while_loading(progress, (job.run_dir / RECORD).exists())
    pair = load_pair(job.expert, job.amateur, LoadedModels(settings), say, job.pair_name)
    prompt = settle_date(
        job.prompt, (pair.expert.tokenizer, pair.amateur.tokenizer), stored_run(job.run_dir)["config"].get("prompt")
    )
    job = replace(job, prompt=prompt)
    prompts, origin = job.open_prompts(pair, settings), None
    if isinstance(prompts, GivenPrompts):
        progress.status("Checking the responses")
        origin, total = prompts.check(progress.checkpoint), prompts.responses
    batch_size = _begin(job, pair, origin)["about"]["batch_size"]
    save_tokenizer(pair.expert.tokenizer, job.run_dir)  # the dataset stays readable without the model
    counts = SamplingCounts(job.samples_per_problem)
    parallel_map = None if job.num_workers is None else cluster_map(job, pair, batch_size, settings, progress)

    def save() -> SamplingResult:
        result = _result(job, counts, prompts)
        progress.result(**asdict(result))
        add_to_run(job.run_dir, result=asdict(result))
        return result

    try:
        sample_dataset(
            *(pair, prompts, job.run_dir, job.decoding),
            batch_size=batch_size,
            total=total,
            progress=progress,
            counts=counts,
            parallel_map=parallel_map,
        )
    except StopRequested as stop:
        if stop.keep:
            counts.recount(job.run_dir)  # it may have stopped before it reached all existing shards
            save()
        raise
    return save()


def read_result(job: SamplingJob) -> SamplingResult:
    """The saved result of a job that has run. Raises UserError."""
    stored = read_run(job.run_dir)["result"]
    return SamplingResult(**stored | {"skipped": Skipped(**stored["skipped"])})


def _begin(job: SamplingJob, pair: Pair, origin: dict | None) -> dict:
    """Write or check run.json; the record of the run's first start, whose batch size decides the batches.

    origin: where responses that something else wrote come from.
    """
    batch_size = job.batch_size
    if batch_size is None:
        tokens = TYPICAL_ROW if job.responses else TYPICAL_PROMPT + job.decoding.max_new_tokens
        batch_size = planned_rows(pair, tokens)
    about = describe_models({"expert": pair.expert, "amateur": pair.amateur}, stored_run(job.run_dir)["about"])
    about["fingerprints"] |= job.fingerprints()
    about["marks"] |= prompt_marks({"expert": pair.expert, "amateur": pair.amateur}, job.prompt)
    about["prompt"] = describe_prompt(pair.expert, job.prompt)
    about |= {"versions": versions(), "pair": describe_pair(pair)}
    about |= {"batch_size": batch_size, "problems": job.problems or job.responses, "title": job.title}
    about |= {"device": str(pair.expert.device)}
    about |= {"responses": origin} if origin else {}
    dtypes = {str(model.dtype).removeprefix("torch.") for model in (pair.expert, pair.amateur)}
    config = job.config() | {"dtype": ", ".join(sorted(dtypes))}
    return begin_run(job.run_dir, "dataset", config, about)


def _result(job: SamplingJob, counts: SamplingCounts, prompts: Prompts | GivenPrompts) -> SamplingResult:
    seconds = counts.seconds
    earlier = read_run(job.run_dir).get("result")
    if earlier and not counts.new_responses:  # nothing was missing: reading the shards is not sampling
        seconds = earlier["seconds"]
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
