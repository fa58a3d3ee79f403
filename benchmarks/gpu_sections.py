"""The sections of the check on a GPU (benchmarks/gpu.py): what each measures and prints, in Markdown.

A section is a function of (a folder for its files, the seconds that it has, whether to use tiny shapes).
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.measuring import say, synchronize, used_bytes
from benchmarks.random_pair import pair_folders, random_model
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import flat, read_shard, shards
from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.batch_size import fitting_rows
from lightreasoner.decoding.generate import CHUNK, DecodingConfig
from lightreasoner.evaluation.run import EvaluationJob, run_evaluation
from lightreasoner.formatting import format_duration
from lightreasoner.models.adapters import USUAL, add_lora
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.devices import choose_device, free_bytes, release_memory
from lightreasoner.models.float32_head import widen_head
from lightreasoner.models.loading import load_model
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.problems.stream import load_problems
from lightreasoner.progress import SilentProgress, StopRequested
from lightreasoner.sampling.estimate import sampling_memory
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.plan import TYPICAL_PROMPT
from lightreasoner.sampling.run import read_result, run_sampling
from lightreasoner.scoring.divergence import measure_steps
from lightreasoner.settings import ROOT, Settings, from_environment
from lightreasoner.storage.remote import RunLocation
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.job import FinetuneJob
from lightreasoner.training.loss import PackedExample, Target, collate, step_logits, step_losses
from lightreasoner.training.run import estimate_finetune, run_as_job
from lightreasoner.training.trainer import of_like_length

LAUNCHES = ("cudaLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernel", "cuLaunchKernelEx", "cudaGraphLaunch")
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class Deadline(SilentProgress):
    """A Progress that asks the run to stop, and to keep its results, when its time is over."""

    def __init__(self, seconds: float):
        self.end, self.notes, self.cut = time.monotonic() + seconds, [], False

    def event(self, kind: str, **data) -> None:
        if kind in ("halved", "note"):
            self.notes.append(str(data.get("text", f"halved to {data.get('rows')} rows")))

    def checkpoint(self) -> None:
        if time.monotonic() > self.end:
            self.cut = True
            raise StopRequested(keep=True)


def timed(call: Callable[[], object]) -> float:
    """Seconds of a call, after one to warm up."""
    call()
    synchronize()
    began = time.perf_counter()
    call()
    synchronize()
    return time.perf_counter() - began


def counted(call: Callable[[], object], units: int) -> str:
    """Launches, waits, copies and GPU time of a call, each by unit. Whatever runs in this process later is slower."""
    from torch.profiler import ProfilerActivity, profile

    cuda = torch.cuda.is_available()
    before = used_bytes()
    with profile(activities=[ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * cuda) as profiled:
        call()
    peak = used_bytes(peak=True) - before
    counts = Counter({event.key: event.count for event in profiled.key_averages()})
    if not cuda:
        waits = counts["aten::_local_scalar_dense"] + counts["aten::nonzero"]
        return f"{counts.total() / units:,.0f} operators | {waits / units:.1f} | | | "
    busy = sum(event.time_range.elapsed_us() for event in profiled.events() if event.device_type.name == "CUDA") / 1000
    launches, waits = (sum(counts[name] for name in names) / units for names in (LAUNCHES, WAITS))
    copies = counts["cudaMemcpyAsync"] / units
    return f"{launches:,.0f} | {waits:.1f} | {copies:.1f} | {busy / units:.2f} | {peak / 1e9:.2f}"


def device(folder: Path, seconds: float, tiny: bool) -> None:
    import peft
    import transformers

    place = choose_device(from_environment())
    say(
        f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, Python "
        f"{sys.version.split()[0]}, {os.cpu_count()} CPU cores."
    )
    if place.type != "cuda":
        return say("No CUDA: this run only shows that the program works.")
    about = torch.cuda.get_device_properties(place)
    say(
        f"{about.name}: {about.total_memory / 1e9:.1f} GB, {about.multi_processor_count} multiprocessors, capability "
        f"{about.major}.{about.minor}; CUDA {torch.version.cuda}; {free_bytes(place) / 1e9:.1f} GB free."
    )
    x = torch.randn(8192, 8192, device=place, dtype=torch.bfloat16)
    y = torch.empty(1 << 30, dtype=torch.uint8, device=place)
    for name, call, work in (
        ("bf16 matrix product, TFLOP/s", lambda: x @ x, 2 * 8192**3 / 1e12),
        ("copy in memory, GB/s", lambda: y.clone(), 2 * y.numel() / 1e9),
    ):
        call(), synchronize()
        began = time.perf_counter()
        for _ in range(10):
            call()
        synchronize()
        say(f"- {name}: {10 * work / (time.perf_counter() - began):,.0f}")


def tests(folder: Path, seconds: float, tiny: bool) -> None:
    import pytest

    if not torch.cuda.is_available():
        os.environ["LIGHTREASONER_GPU_TEST"] = "cpu"
    words = ["tests/test_gpu.py", "-m", "gpu", "--noconftest", "-rA", "--tb=short", "--show-capture=no"]
    words += ["-p", "no:cacheprovider", "-W", "ignore", "--durations=4"]
    if tiny:
        words += ["-k", "trace and float32"]
    os.chdir(ROOT)
    say("```")
    ended = pytest.main(words)
    say("```")
    if ended:
        raise SystemExit(f"pytest ended with {int(ended)}")


def waits(folder: Path, seconds: float, tiny: bool) -> None:
    """Launches, waits and GPU time: the scorer, batched decoding, the live trace, an update."""
    calls = [*scorer_calls(tiny), *model_calls(folder, tiny)]
    took = [timed(prepare()) for _, prepare, _ in calls]  # all before the profiler
    say("| what | ms | launches | waits | copies | ms of the GPU | peak GB |", "|---|--:|--:|--:|--:|--:|--:|")
    for (what, prepare, units), wall in zip(calls, took, strict=True):
        release_memory()  # of the call before, whose cache would keep the static buffers of CUDA graphs
        call = prepare()
        call()
        say(f"| {what} | {1000 * wall / units:.2f} | {counted(call, units)} |")


def scorer_calls(tiny: bool) -> list[tuple[str, Callable[[], Callable[[], object]], int]]:
    """(what, what makes the call, its units) of the scorer, on logits of which a fifth of the steps diverge."""
    place = choose_device(from_environment())
    count, vocabulary = (64, 2048) if tiny else (256 * CHUNK, 151_665)
    dtype = torch.float32 if place.type == "cpu" else torch.bfloat16
    torch.manual_seed(0)
    made = (8 * torch.randn(count, vocabulary, device=place)).to(dtype)
    other = made + (0.1 * torch.randn_like(made))
    other[::5] = made[::5].roll(1, -1)
    chunk = made, other, made.argmax(-1)
    few = [tensor[:8] for tensor in chunk]
    return [
        (f"scorer, {count:,} steps of {vocabulary:,} tokens", lambda: partial(measure_steps, *chunk, 0.05), 1),
        ("scorer, 8 steps", lambda: partial(measure_steps, *few), 1),
    ]


def model_calls(folder: Path, tiny: bool) -> list[tuple[str, Callable[[], Callable[[], object]], int]]:
    """(what, what makes the call, its units) of decoding and training with the 1.5B pair's shape."""
    settings, place = from_environment(), choose_device(from_environment())
    expert, amateur = pair_folders(folder, "tiny" if tiny else "1.5b")
    pair = load_pair(str(expert), str(amateur), LoadedModels(settings))
    problems = load_problems("bundled-train", limit=8 if tiny else 256).problems
    prompts = [pair_prompts(pair, problem.question)[0] for problem in problems]
    steps, tokens = 8, 16

    def decode(rows: int) -> Callable[[], None]:
        decoder = BatchDecoder(pair.expert, rows, None, 32)
        decoder.prefill([[5] * 70] * rows)  # so that no step needs a graph of its own
        unread = torch.zeros(rows, dtype=torch.long, device=place)

        def step() -> None:
            for _ in range(steps):
                logits = decoder.step(unread)
                logits[:, :1000].float().argmax(-1).tolist()

        return step

    request = TraceRequest(problems[0].question, max_new_tokens=tokens)
    update = [
        PackedExample(
            (prompts[n] + list(range(128)))[: len(prompts[n]) + 128],
            len(prompts[n]),
            tuple(Target(step, (5, 6, 7), (0.5, 0.3, 0.2)) for step in range(0, 128, 16)),
        )
        for n in range(2)
    ]
    trained = load_model(str(expert), settings)
    model = add_lora(trained.model, 8, 16, 0.0, ("q_proj", "v_proj"), 0).to(place)

    def train() -> None:
        batch = collate(update).to(place)
        step_losses(step_logits(model, batch), batch, len(pair.expert.tokenizer)).mean().backward()

    return [
        *((f"a step of the expert, {count} rows", partial(decode, count), steps) for count in (1, len(prompts))),
        ("live trace, a token", lambda: lambda: list(trace(pair, request, settings)), tokens),
        ("an update of 16 samples, 2 trajectories", lambda: train, 1),
    ]


def pipeline(size: str, folder: Path, seconds: float, tiny: bool) -> None:
    """Sample 1,000 problems of 128 tokens, fine-tune 1,000 updates of 16 samples, evaluate; plan against use."""
    until, tokens = time.monotonic() + seconds, 16 if tiny else 128
    left = lambda: until - time.monotonic()  # noqa: E731
    expert, amateur = map(str, pair_folders(folder, "tiny" if tiny else size))
    say(f"- random weights written in {seconds - left():.1f} s")
    settings = replace(from_environment(), workspace=folder / "workspace")
    planned = read_and_trace(expert, amateur, settings, tokens)
    left_over("the trace")
    limit = 24 if tiny else 1000
    decoding = DecodingConfig(max_new_tokens=tokens)
    job = SamplingJob(folder / f"dataset-{size}", expert, amateur, "bundled-train", decoding, limit=limit)
    sample(job, settings, planned, left() * 0.4)
    left_over("sampling")
    adapter = tune(job, folder / f"tuned-{size}", settings, 6 if tiny else 1000, lambda: left() - 8 - 0.1 * seconds)
    left_over("fine-tuning")
    if adapter and left() > 10:
        since, limit = time.monotonic(), 8 if tiny else 64
        used_bytes()
        place = folder / f"evaluated-{size}"
        job = EvaluationJob(place, expert, (adapter,), "bundled-test", limit=limit, max_new_tokens=tokens)
        run_evaluation(job, settings)
        say(
            f"- evaluated {limit} problems with and without the adapter in {time.monotonic() - since:.1f} s, loading "
            f"included; {used_bytes(peak=True) / 1e9:.2f} GB used at most"
        )


def left_over(what: str) -> None:
    """Release what is no longer used, and say what stays on the device nevertheless: nothing should."""
    release_memory()
    if used_bytes() > 1e8:
        say(f"- {used_bytes() / 1e9:.2f} GB are still on the device after {what}")


def read_and_trace(expert: str, amateur: str, settings: Settings, tokens: int) -> tuple[int, float]:
    """Read the pair and trace two problems; (rows per batch, bytes) that sampling plans for."""
    since = time.monotonic()
    pair = load_pair(expert, amateur, LoadedModels(settings))
    synchronize()
    say(
        f"- pair read in {time.monotonic() - since:.1f} s: {pair.expert.parameters / 1e9:.2f} and "
        f"{pair.amateur.parameters / 1e9:.2f} billion parameters in {pair.expert.dtype}, {used_bytes() / 1e9:.2f} GB "
        f"on the device, {(pair.expert.memory_bytes + pair.amateur.memory_bytes) / 1e9:.2f} planned"
    )
    longest = TYPICAL_PROMPT + tokens
    planned = fitting_rows((pair.expert, pair.amateur), longest, CHUNK), sampling_memory(pair, longest)
    for n in range(2):  # the first warms up
        since = time.monotonic()
        request = TraceRequest(load_problems("bundled-test").problems[n].question, max_new_tokens=tokens)
        count = sum(len(event.steps) for event in trace(pair, request, settings) if isinstance(event, StepsEvent))
        took = time.monotonic() - since
    say(f"- live trace: {count / took:.1f} tokens/s")
    return planned


def sample(job: SamplingJob, settings: Settings, planned: tuple[int, float], seconds: float) -> None:
    used_bytes()
    progress = Deadline(seconds)
    try:
        result = run_sampling(job, settings, progress)
    except StopRequested:
        result = read_result(job)
    say(
        f"- sampled {result.responses:,} responses, {result.steps:,} tokens in {result.seconds:.1f} s"
        f"{' (cut)' if progress.cut else ''}: {result.responses / result.seconds:.1f} problems/s, "
        f"{result.steps / result.seconds:,.0f} tokens/s; batches of {planned[0]}; {result.above_beta:,} steps above β; "
        f"{result.bytes / 1e6:.1f} MB on disk",
        f"- memory of sampling: {planned[1] / 1e9:.2f} GB planned, {used_bytes(peak=True) / 1e9:.2f} GB used at most",
        *(f"- {note}" for note in progress.notes),
    )


def tune(
    job: SamplingJob, run_dir: Path, settings: Settings, updates: int, seconds: Callable[[], float]
) -> Path | None:
    """Fine-tune the expert on what was sampled; the adapter's folder, or None without an update. seconds: left, when
    the estimate has been made."""
    config = FinetuneConfig(max_steps=updates, evaluate_every=max(1, updates // 4), save_every=max(1, updates // 2))
    if not shards(job.run_dir):
        say("- nothing to fine-tune on: the time was up within the first batch")
        return None
    kl = np.concatenate([flat(read_shard(path, ["kl"]), "kl") for path in shards(job.run_dir)])
    beta = float(np.quantile(kl, 0.85))  # as many steps as trained models have: about 20 of 128
    place = RunLocation(job.run_dir, str(job.run_dir))
    tuning = FinetuneJob(run_dir, place, job.expert, config, Selection(beta=beta))
    estimate = estimate_finetune(tuning, settings)
    left_over("the estimate")
    say(
        f"- fine-tuning, as estimated: {format_duration(estimate.seconds)}, {estimate.update_seconds * 1000:.0f} ms an "
        f"update, {estimate.memory_bytes / 1e9:.2f} GB"
    )
    used_bytes()
    progress, since = Deadline(seconds()), time.monotonic()

    def console(inner):
        inner.checkpoint = progress.checkpoint
        return inner

    try:
        result = run_as_job(tuning, settings, console)
    except StopRequested:
        say("- fine-tuning was cut before its first update")
        return None
    say(
        f"- fine-tuned {result.updates:,} of {updates:,} updates, {result.samples_seen:,} samples in "
        f"{time.monotonic() - since:.1f} s{' (cut)' if progress.cut else ''}, loading included; held-out loss "
        f"{result.held_out_loss:.3f}; {used_bytes(peak=True) / 1e9:.2f} GB used at most"
    )
    return run_dir / "adapter"


def training(folder: Path, seconds: float, tiny: bool) -> None:
    """What a forward pass keeps for the backward pass, and an update read at once or in parts of like length."""
    place, dtype = choose_device(from_environment()), torch.float32 if tiny else torch.bfloat16
    for name in ("tiny-expert",) if tiny else ("qwen2.5-math-1.5b", "qwen2.5-math-7b"):
        base = random_model(name, place, dtype)
        widen_head(base)
        for targets in (("q_proj", "v_proj"), USUAL):
            model = add_lora(base, 8, 16, 0.05, targets, 0).to(place).train()
            say(f"- {name}, LoRA on {len(targets)} matrices of a layer: {kept(model, place):.2f} MB a token are kept")
            base = model.unload()
        model = add_lora(base, 8, 16, 0.05, USUAL[:3:2], 0).to(place).train()
        for samples, lengths in ((16, (60, 260)), (64, (60, 260)), (16, (200, 2000))):
            many = f"{samples} samples, trajectories of {lengths[0]} to {lengths[1]} tokens"
            say(f"- {name}, an update of {many}: {parts(model, samples, lengths, place)}")
        del model, base
        release_memory()


def kept(model, place: torch.device) -> float:
    """MB per token that a forward pass of 1,024 tokens keeps, logits of some steps aside."""
    batch = collate([PackedExample([7] * 512, 100, (Target(3, (5, 6), (0.5, 0.5)),))] * 2).to(place)
    step_logits(model, batch).sum().backward()
    model.zero_grad()
    synchronize()
    before = used_bytes()
    logits = step_logits(model, batch)
    return (used_bytes() - before - logits.nbytes) / batch.input_ids.numel() / 1e6


def parts(model, samples: int, lengths: tuple[int, int], place: torch.device) -> str:
    """Milliseconds and GB of an update's forward and backward passes, its trajectories at once or by like length."""
    draw = torch.Generator().manual_seed(0)
    sizes = torch.randint(*lengths, (samples // 4,), generator=draw).tolist()  # of four samples each
    update = []
    for size in sizes:
        steps = range(0, size - 51, (size - 50) // 4)[:4]
        update.append(PackedExample([7] * size, 50, tuple(Target(step, (5, 6), (0.5, 0.5)) for step in steps)))

    def run(divided: list) -> None:
        for part in divided:
            batch = collate(part).to(place)
            step_losses(step_logits(model, batch), batch, 2000).sum().backward()

    said = []
    for name, divided in (("at once", [update]), ("in parts", of_like_length(update))):
        before = used_bytes()
        took = timed(lambda: run(divided))  # noqa: B023 (called at once)
        said.append(f"{name} ({len(divided)}) {1000 * took:.0f} ms, {(used_bytes(peak=True) - before) / 1e9:.2f} GB")
    return "; ".join(said)


def dtypes(folder: Path, seconds: float, tiny: bool) -> None:
    from benchmarks.dtypes import table

    problems, tokens = (2, 16) if tiny else (24, 64)
    pair = "lightreasoner-expert-4m", "lightreasoner-amateur-1m"
    say(*table(*pair, from_environment(), problems, tokens, "bundled-test"))


def program(main: Callable[[], None], *options: str) -> None:
    sys.argv = ["benchmark", *options]
    say("```")
    main()
    say("```")


def finetuning(folder: Path, seconds: float, tiny: bool) -> None:
    from benchmarks.finetuning import main

    program(main, "--rounds", "1", "--shape", "bundled" if tiny else "qwen2.5-math-1.5b")


def graphs(folder: Path, seconds: float, tiny: bool) -> None:
    from benchmarks.graphs import main

    sys.argv = ["benchmark", "--folder", str(folder), "--size", "tiny" if tiny else "1.5b"]
    sys.argv += ["--rows", "1,5", "--tokens", "16"] if tiny else ["--rows", "1,256,1024"]
    main()


def sampling(folder: Path, seconds: float, tiny: bool) -> None:
    expert, amateur = map(str, pair_folders(folder, "tiny" if tiny else "1.5b"))
    counts = ("8", "1", "16") if tiny else ("256", "1", "64")
    options = ("--problems", counts[0], "--released", counts[1], "--tokens", counts[2])
    from benchmarks.sampling import main

    program(main, "--expert", expert, "--amateur", amateur, *options)


def trace_speed(folder: Path, seconds: float, tiny: bool) -> None:
    expert, amateur = map(str, pair_folders(folder, "tiny" if tiny else "1.5b"))
    options = ("--problems", "2", "--rounds", "1", "--tokens", "16" if tiny else "128")
    from benchmarks.trace import main

    program(main, "--expert", expert, "--amateur", amateur, *options)


@dataclass(frozen=True)
class Section:
    title: str
    share: int  # of the time, in parts of all shares
    run: Callable[[Path, float, bool], None]


#: In the order in which they run, the most important ones first.
SECTIONS = {
    "device": Section("Device", 4, device),
    "graphs": Section("Single steps with and without CUDA graphs, 1.5B's shape", 16, graphs),
    "pipeline-1.5b": Section("The paper's pipeline, Qwen2.5-Math-1.5B and 0.5B", 22, partial(pipeline, "1.5b")),
    "pipeline-7b": Section("The paper's pipeline, Qwen2.5-Math-7B and 0.5B", 24, partial(pipeline, "7b")),
    "tests": Section("Tests marked gpu", 24, tests),
    "finetuning": Section("Fine-tuning against one forward per sample", 10, finetuning),
    "dtypes": Section("What 16 bits do to the bundled pair", 8, dtypes),
    "sampling": Section("Sampling against the released procedure and a bare generate", 8, sampling),
    "trace": Section("Live trace against a bare generate", 6, trace_speed),
    "waits": Section("Launches and waits, Qwen2.5-Math-1.5B's shape", 10, waits),
    "training": Section("What training keeps, and updates in parts", 10, training),
}
