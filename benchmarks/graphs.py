"""Single steps with and without CUDA graphs, at the paper's shapes: logits, times, and what sampling takes.

    python -m benchmarks.graphs [--size 1.5b] [--rows 1,256,1024] [--only pass,steps,parts,trace,sampling]

Random weights (benchmarks/random_pair.py). Both ways read the same tokens. Without CUDA: tiny shapes, buffers without
graphs, to see that the program works. Parts of sampling are timed with the device waited for, which makes them slower
than they are side by side.
"""

import argparse
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

import torch

from benchmarks.measuring import say, synchronize, timed_parts, used_bytes
from benchmarks.random_pair import pair_folders
from lightreasoner.decoding import reading_check
from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.batch_size import fitting_rows
from lightreasoner.decoding.cuda_graphs import StepGraphs
from lightreasoner.decoding.forward_pass import describe_pass, known_pass
from lightreasoner.decoding.generate import CHUNK, DecodingConfig, GenerationRow, generate_batch
from lightreasoner.decoding.lean_forward import Lean
from lightreasoner.errors import first_line
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.devices import release_memory
from lightreasoner.models.loading import LoadedModel
from lightreasoner.models.pairs import Pair, load_pair
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.problems.stream import load_problems
from lightreasoner.sampling.estimate import sampling_memory
from lightreasoner.sampling.trajectory_table import batch_table
from lightreasoner.settings import from_environment
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace

STEPS = 32  # of a decoder, of which the first 8 are not timed


@contextmanager
def graphs(loaded: LoadedModel, on: bool):
    """The model with its single steps as graphs, whatever its check said, or without them."""
    lean = known_pass(loaded).lean if known_pass(loaded) else None
    if lean is None:  # read by transformers
        yield
        return
    before = lean.steps
    lean.steps = (before or StepGraphs(loaded.device, loaded.device.type == "cuda")) if on else None
    try:
        yield
    finally:
        lean.steps = before


def steps(loaded: LoadedModel, prompts: list[list[int]], rows: int) -> tuple[float, float, torch.Tensor]:
    """(ms of a step, seconds of the first one, the logits of some steps and rows)."""
    decoder = BatchDecoder(loaded, rows, None, STEPS)
    decoder.prefill([prompt[:-1] for prompt in (prompts * rows)[:rows]])
    torch.manual_seed(0)
    tokens = torch.randint(3, 200, (STEPS, rows)).to(loaded.device)
    kept, first, began = [], 0.0, 0.0
    for n, column in enumerate(tokens):
        if n in (1, 8):
            synchronize()
            first = first or time.perf_counter() - began
        if n in (0, 8):
            synchronize()
            began = time.perf_counter()
        logits = decoder.step(column)
        if n % 8 == 7:
            kept.append(logits[:32].float().log_softmax(-1))
    synchronize()
    took = time.perf_counter() - began
    return 1000 * took / (STEPS - 8), first, torch.cat(kept)


def compare_steps(loaded: LoadedModel, prompts: list[list[int]], counts: list[int]) -> None:
    say("| rows | ms without | ms with graphs | capture s | mean \\|Δ log p\\| | most | other favourite | GB |")
    say("|--:|--:|--:|--:|--:|--:|--:|--:|")
    usual = Lean.__dict__["_seen"]  # a static method, which Lean._seen is not

    def all_seen(ids, before, mask):
        return torch.ones(1, 1, 1, before + 1, dtype=torch.bool, device=ids.device) if before else None

    for rows in counts:
        found = {}
        for on in (False, True):
            with graphs(loaded, on):
                if rows == 1:  # without a mask attention is another kernel, which rounds otherwise
                    Lean._seen = staticmethod(all_seen)
                before = used_bytes()
                found[on] = steps(loaded, prompts, rows)
                Lean._seen = usual
                memory = used_bytes(peak=True) - before
        plain, other = found[False][2], found[True][2]
        gap = (plain.exp() * (plain - other).abs()).sum(-1)
        favourite = (plain.argmax(-1) != other.argmax(-1)).float().mean()
        say(
            f"| {rows} | {found[False][0]:.2f} | {found[True][0]:.2f} | {found[True][1]:.2f} | {gap.mean():.2g} | "
            f"{gap.max():.2g} | {favourite:.1%} | {memory / 1e9:.2f} |"
        )
        release_memory()


def batch(pair: Pair, count: int) -> list[GenerationRow]:
    problems = load_problems("bundled-train").problems
    prompts = [pair_prompts(pair, problem.question) for problem in problems[:64]]
    rows = [GenerationRow(problems[n % 64], n // 64, *prompts[n % 64]) for n in range(count)]
    return sorted(rows, key=lambda row: row.length)  # as the sampler does


def compare_sampling(pair: Pair, counts: list[int], tokens: int) -> None:
    for rows in counts:
        for on in (False, True) if rows == counts[0] else (True,):
            with graphs(pair.expert, on), graphs(pair.amateur, on):
                items, decoding = batch(pair, rows), DecodingConfig(max_new_tokens=tokens)
                before, times = used_bytes(), []
                for _ in range(2 if on else 1):
                    synchronize()
                    began = time.perf_counter()
                    found = generate_batch(pair, items, decoding, lambda ended: None)
                    times.append(time.perf_counter() - began)
                tables = time.perf_counter()
                table = batch_table(pair, items, found, decoding.stop)
                tables = time.perf_counter() - tables
                count = sum(map(len, found.tokens))
                say(
                    f"- {rows} rows, graphs {'on' if on else 'off'}: {times[0]:.2f} s, last {times[-1]:.2f} s: "
                    f"{count / times[-1]:,.0f} tokens/s; table {tables:.2f} s, {table.nbytes / 1e6:.0f} MB; "
                    f"{(used_bytes(peak=True) - before) / 1e9:.2f} GB beside the models"
                )
                del found, table
                release_memory()


def parts(pair: Pair, rows: int, tokens: int) -> None:
    """Seconds of each part of sampling."""
    items = batch(pair, rows)
    with timed_parts(pair, wait=True) as spent:
        began = time.perf_counter()
        generate_batch(pair, items, DecodingConfig(max_new_tokens=tokens), lambda ended: None)
        whole = time.perf_counter() - began
    spent["the rest, on the host"] = whole - sum(spent.values())
    say(f"- parts of sampling {rows} rows, {whole:.2f} s: " + ", ".join(f"{k} {v:.2f}" for k, v in spent.most_common()))


def compare_traces(pair: Pair, tokens: int) -> None:
    problems = load_problems("bundled-test").problems
    for on in (False, True):
        with graphs(pair.expert, on), graphs(pair.amateur, on):
            for problem in problems[:2]:  # the first warms up
                synchronize()
                began = time.perf_counter()
                events = trace(pair, TraceRequest(problem.question, max_new_tokens=tokens), from_environment())
                count = sum(len(event.steps) for event in events if isinstance(event, StepsEvent))
                took = time.perf_counter() - began
        say(f"- live trace, graphs {'on' if on else 'off'}: {count / took:.1f} tokens/s")


def head(loaded: LoadedModel) -> None:
    """The output head in float32 against 16 bits: milliseconds for 256 rows."""
    if loaded.device.type != "cuda":
        return
    weight = loaded.model.get_output_embeddings().weight
    x = torch.randn(256, weight.shape[1], device=weight.device).to(weight.dtype)
    right = x.float() @ weight.float().t()
    for name, call in (
        ("in the dtype", lambda: torch.nn.functional.linear(x, weight)),
        ("in float32", lambda: torch.mm(x, weight.t(), out_dtype=torch.float32)),
    ):
        call(), synchronize()
        began = time.perf_counter()
        for _ in range(20):
            found = call()
        synchronize()
        took = 1000 * (time.perf_counter() - began) / 20
        say(f"- output head {name}: {took:.3f} ms, error at most {(found.float() - right).abs().max():.2g}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--size", default="1.5b" if torch.cuda.is_available() else "tiny")
    parser.add_argument("--rows", default="1,32,256,1024" if torch.cuda.is_available() else "1,5")
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--only", default="pass,steps,trace,sampling,parts,head")
    parser.add_argument("--folder", type=Path, help="where the random weights are kept")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        reading_check.GRAPH_DEVICES = ("cpu",)
    counts, chosen = [int(n) for n in options.rows.split(",")], options.only.split(",")
    with torch.inference_mode(), tempfile.TemporaryDirectory() as place:
        expert, amateur = map(str, pair_folders(options.folder or Path(place), options.size))
        pair = load_pair(expert, amateur, LoadedModels(from_environment()))
        for name, loaded in (("expert", pair.expert), ("amateur", pair.amateur)):
            began = time.perf_counter()
            found = reading_check.check_reading(loaded)
            say(f"- {name}: {found}")
            say(f"- {name}, {loaded.dtype}: {describe_pass(loaded)}; checked in {time.perf_counter() - began:.1f} s")
        prompts = [row.prompt for row in batch(pair, 64)]
        longest = max(map(len, prompts)) + options.tokens
        say(
            f"- planned for {longest} tokens: {fitting_rows((pair.expert, pair.amateur), longest, CHUNK)} rows, "
            f"{sampling_memory(pair, longest) / 1e9:.2f} GB with the models"
        )
        work = {
            "sampling": lambda: compare_sampling(pair, [n for n in counts if n > 1], options.tokens),
            "parts": lambda: parts(pair, min(256, counts[-1]), options.tokens),
            "trace": lambda: compare_traces(pair, options.tokens),
            "steps": lambda: compare_steps(pair.expert, prompts, counts),
            "head": lambda: head(pair.expert),
        }
        failed = []
        for name, call in work.items():
            if name in chosen:
                began = time.perf_counter()
                try:
                    call()
                except Exception as error:  # the others may work
                    failed.append(name)
                    say(f"- {name} failed: {type(error).__name__}: {first_line(error, 300)}")
                say(f"- ({name} took {time.perf_counter() - began:.0f} s)")
    if failed:
        raise SystemExit(f"{', '.join(failed)} failed")


if __name__ == "__main__":
    main()
