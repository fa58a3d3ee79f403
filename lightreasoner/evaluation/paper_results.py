"""Reads the paper's results (assets/paper.toml), which are always shown as the paper's, beside our measurements."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from lightreasoner.errors import UserError
from lightreasoner.settings import ASSETS

FILE = ASSETS / "paper.toml"
METHODS = ("base", "sft", "lightreasoner")


@dataclass(frozen=True)
class Paper:
    """`scores`: model → method → benchmark's key → zero-shot pass@1 from 0 to 1. `averages`: model → method → theirs.

    `costs`: model → method → hours, problems, tuned_tokens, and gain from 0 to 1.
    """

    source: str
    hardware: str
    benchmarks: tuple[str, ...]
    scores: dict[str, dict[str, dict[str, float]]]
    averages: dict[str, dict[str, float]]
    costs: dict[str, dict[str, dict[str, float]]]


def read_paper() -> Paper:
    """The paper's results. Raises UserError for an unreadable file."""
    try:
        found = tomllib.loads(FILE.read_text(encoding="utf-8"))
        keys, results = tuple(found["benchmarks"]), found["result"]
        scores = {r["model"]: {m: shares(keys, r[m]) for m in METHODS} for r in results}
        averages = {r["model"]: {m: percent(r["averages"][m]) for m in METHODS} for r in results}
        costs = {c["model"]: {m: c[m] | {"gain": percent(c[m]["gain"])} for m in METHODS[1:]} for c in found["cost"]}
        return Paper(found["source"], found["hardware"], keys, scores, averages, costs)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{FILE} cannot be read: {error}. Restore it from the repository.") from None


def shares(keys: tuple[str, ...], values: list[float]) -> dict[str, float]:
    return {key: percent(value) for key, value in zip(keys, values, strict=True)}


def percent(value: float) -> float:
    return round(value / 100, 6)
