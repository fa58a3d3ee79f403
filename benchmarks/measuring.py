"""What benchmarks share: options that name a pair and problems, lines that appear at once, time and memory of a GPU."""

import argparse
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch

from lightreasoner.cli.pairs import add_pair_options, pair_refs
from lightreasoner.decoding import amateur_reader, generate
from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, load_pair
from lightreasoner.settings import from_environment


def number_parser(doc: str, **numbers: int) -> argparse.ArgumentParser:
    """A parser with options for these numbers. doc: the benchmark's."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    for name, usual in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
    return parser


def pair_parser(doc: str, source: str, **numbers: int) -> argparse.ArgumentParser:
    """A parser with options for a pair, for a source of problems, and for these numbers."""
    parser = number_parser(doc, **numbers)
    add_pair_options(parser)
    parser.add_argument("--source", default=source, help="a source of problems, or a file")
    return parser


def named_pair(options: argparse.Namespace) -> tuple[str, Pair]:
    """(a line that says which pair computes and how, the pair) of the options."""
    name, expert, amateur = pair_refs(options)
    pair = load_pair(expert, amateur, LoadedModels(from_environment()), name=name)
    how = f"{pair.expert.device}, {pair.expert.dtype}, {torch.get_num_threads()} threads"
    return f"{expert} against {amateur}: {how}", pair


def say(*lines: str) -> None:
    print(*lines, sep="\n", flush=True)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@contextmanager
def timed_parts(pair: Pair, wait: bool = False) -> Iterator[Counter[str]]:
    """Inside, the seconds that each part of sampling takes are counted. wait: for the device before and after each, so
    that no part's work counts as another's; parts that run side by side then take longer."""
    spent: Counter[str] = Counter()

    def timed(call, what):
        def wrapped(*arguments, **named):
            if wait:
                synchronize()
            began = time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                if wait:
                    synchronize()
                spent[what(arguments[0])] += time.perf_counter() - began

        return wrapped

    role = lambda decoder: "expert" if decoder.loaded is pair.expert else "amateur"  # noqa: E731
    parts = (
        (BatchDecoder, "prefill", lambda decoder: f"{role(decoder)}: prompts"),
        (BatchDecoder, "step", lambda decoder: f"{role(decoder)}: steps"),
        (BatchDecoder, "select", lambda decoder: "rows that leave"),
        (amateur_reader.AmateurReader, "_logits", lambda reader: "amateur: chunks"),
        (amateur_reader, "measure_steps", lambda logits: "scorer"),
        (amateur_reader, "to_host", lambda found: "scores to the host"),
        (generate._Batch, "_choose", lambda batch: "choice of the token"),
    )
    with ExitStack() as patches:
        for owner, name, what in parts:
            patches.enter_context(mock.patch.object(owner, name, timed(getattr(owner, name), what)))
        yield spent


def used_bytes(peak: bool = False) -> float:
    """GPU memory of this process's tensors; with `peak`, the most since the last call without it. 0 on the CPU."""
    if not torch.cuda.is_available():
        return 0.0
    if peak:
        return torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()
