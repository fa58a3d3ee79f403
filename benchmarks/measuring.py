"""What benchmarks share: options that name a pair and problems, lines that appear at once, time and memory of a GPU."""

import argparse

import torch

from lightreasoner.cli.pairs import add_pair_options, pair_refs
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, load_pair
from lightreasoner.settings import from_environment


def pair_parser(doc: str, source: str, **numbers: int) -> argparse.ArgumentParser:
    """A parser with options for a pair, for a source of problems, and for these numbers. doc: the benchmark's."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    add_pair_options(parser)
    parser.add_argument("--source", default=source, help="a source of problems, or a file")
    for name, usual in numbers.items():
        parser.add_argument(f"--{name}", type=int, default=usual)
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


def used_bytes(peak: bool = False) -> float:
    """GPU memory of this process's tensors; with `peak`, the most since the last call without it. 0 on the CPU."""
    if not torch.cuda.is_available():
        return 0.0
    if peak:
        return torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()
