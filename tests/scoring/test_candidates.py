"""Numbers of many steps at once from their stored candidates: what divergence.py finds step by step."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from lightreasoner.scoring.candidates import last_plausible, prefix_signals, teaching_signals
from lightreasoner.scoring.divergence import teaching_signal


def candidates(generator: np.random.Generator, steps: int, denied: bool, unsorted: bool):
    """(log_e, log_a, bounds) of steps with 1 to 12 candidates each."""
    sizes = generator.integers(1, 13, steps)
    columns = []
    for size in sizes:
        log_e = np.sort(np.log(generator.dirichlet(np.full(size + 1, 0.4))[:-1] + 1e-9))[::-1]
        log_a = np.log(generator.dirichlet(np.full(size + 1, 0.4))[:-1] + 1e-9)
        if denied:
            log_a[generator.random(size) < 0.2] = -np.inf
        order = generator.permutation(size) if unsorted else np.arange(size)
        columns.append(np.stack([log_e[order], log_a[order]]))
    log_e, log_a = np.concatenate(columns, 1).astype(np.float32)
    return log_e, log_a, np.concatenate([[0], np.cumsum(sizes)])


@pytest.mark.parametrize("denied", [False, True])
@pytest.mark.parametrize("unsorted", [False, True])
@pytest.mark.parametrize("cap", [None, 0.0, 1.5])
def test_one_pass_serves_every_alpha(denied, unsorted, cap):
    """The first page of 100,000 steps at a new α took 53 to 65 ms, since every α went through all candidates again."""
    log_e, log_a, bounds = candidates(np.random.default_rng(denied + 2 * unsorted), 60, denied, unsorted)
    for alpha in (0.01, 0.05, 0.2, 0.7, 1.0):
        found = teaching_signals(log_e, log_a, bounds, alpha, cap)
        for n, (start, end) in enumerate(itertools.pairwise(bounds)):
            step = torch.from_numpy(log_e[start:end]), torch.from_numpy(log_a[start:end])
            assert found[n] == pytest.approx(float(teaching_signal(*step, alpha, cap)), rel=1e-5, abs=2e-6)


def test_what_is_below_the_lowest_alpha_changes_nothing():
    """The explorer keeps the plausible candidates alone, training reads all: a threshold τ must not part the two."""
    log_e, log_a, bounds = candidates(np.random.default_rng(5), 60, True, False)
    gaps = log_e - np.repeat(log_e[bounds[:-1]], np.diff(bounds))
    last = last_plausible(gaps, bounds, 0.01)
    kept = np.concatenate([np.arange(start, end + 1) for start, end in zip(bounds[:-1], last, strict=True)])
    few = np.concatenate([[0], np.cumsum(last - bounds[:-1] + 1)])
    whole, short = prefix_signals(log_e, log_a, bounds), prefix_signals(log_e[kept], log_a[kept], few)
    assert np.array_equal(whole[kept], short)


def test_no_step_has_no_signal():
    none = np.zeros(0, np.float32)
    assert len(teaching_signals(none, none, np.zeros(1, np.int64), 0.2)) == 0
