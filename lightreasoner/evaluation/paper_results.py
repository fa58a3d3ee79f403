"""The paper's own results (assets/paper_results.toml), shown beside those measured here and marked as the paper's."""

import tomllib
from dataclasses import dataclass

from lightreasoner.errors import UserError
from lightreasoner.settings import ASSETS

FILE = ASSETS / "paper_results.toml"
METHODS = ("base", "sft", "lightreasoner")


@dataclass(frozen=True)
class Paper:
    """`scores`: model → method → benchmark's key → zero-shot pass@1 from 0 to 1. `averages`: model → method → mean.

    `costs`: model → method → hours, problems, tuned_tokens, and gain from 0 to 1.
    """

    source: str
    hardware: str
    benchmarks: tuple[str, ...]
    scores: dict[str, dict[str, dict[str, float]]]
    averages: dict[str, dict[str, float]]
    costs: dict[str, dict[str, dict[str, float]]]


def read_paper() -> Paper:
    """Raises UserError on a file that cannot be read."""
    try:
        found = tomllib.loads(FILE.read_text(encoding="utf-8"))
        keys, results = tuple(found["benchmarks"]), found["result"]
        scores = {r["model"]: {m: dict(zip(keys, map(share, r[m]), strict=True)) for m in METHODS} for r in results}
        averages = {r["model"]: {m: share(r["averages"][m]) for m in METHODS} for r in results}
        costs = {c["model"]: {m: c[m] | {"gain": share(c[m]["gain"])} for m in METHODS[1:]} for c in found["cost"]}
        return Paper(found["source"], found["hardware"], keys, scores, averages, costs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{FILE} cannot be read: {error}. Restore it from the repository.") from None


def share(percent: float) -> float:
    return round(percent / 100, 6)
