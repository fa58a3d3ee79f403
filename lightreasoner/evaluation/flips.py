"""Flips: problems that only one of two models of an evaluation solves."""

from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import ResultsReader, open_results, variants_of
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import list_runs

GAINED, LOST = "gained", "lost"


def flipped(answers: ResultsReader, model: int, direction: str) -> list[str]:
    """The problems that a model gained or lost against the first one, in order."""
    before, after = answers.rows[0], answers.rows[model]
    wanted = (False, True) if direction == GAINED else (True, False)
    return [p for p in before if p in after and (before[p].right, after[p].right) == wanted]


def flip_of_adapter(settings: Settings, adapter: Path) -> tuple[str, dict, ResultsReader, int, str] | None:
    """The first problem that an adapter gained, else lost, in its newest evaluation beside the base that has one:
    (id and record of the evaluation, its answers, the adapter's place, the problem)."""
    for folder, run in list_runs(settings.runs, "evaluation"):
        variants = variants_of(run)
        if len(variants) < 2 or not variants[0].is_base:
            continue
        adapters = [variant.adapter and variant.adapter.resolve() for variant in variants]
        if adapter.resolve() not in adapters:
            continue
        place = adapters.index(adapter.resolve())
        try:
            answers = open_results(folder, variants)
        except UserError:  # the Evaluate tab says what is damaged
            continue
        for direction in (GAINED, LOST):
            if found := flipped(answers, place, direction):
                return folder.name, run, answers, place, found[0]
    return None
