"""Verdicts on stored responses: given again by today's rules, without a model, or set by hand.

A verdict set by hand lies beside the answers, in verdicts.json. It counts in place of the grader's, is counted as set
by hand, and stays when the responses are judged again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import (
    FOLDER,
    SCHEMA,
    VERDICTS,
    open_results,
    read_results,
    read_shard,
    read_verdicts,
    variants_of,
    verdict_key,
    write_results,
    write_shard,
)
from lightreasoner.grading.grading import grade
from lightreasoner.storage.atomic import locked, write_json
from lightreasoner.storage.runs import LOCK, read_run

WORKING = "A job is working on this evaluation; let it end or stop it first."


@dataclass(frozen=True)
class Change:
    """A response whose verdict or extracted answer is another by today's rules."""

    model: str
    problem_id: str
    sample: int
    answer: str  # the reference answer
    before: tuple[bool, str | None]  # right, extracted
    after: tuple[bool, str | None]
    by_hand: bool | None = None  # the verdict set by hand, which counts in place of both

    @property
    def flipped(self) -> bool:
        """Whether the verdict changed, not only the answer that was read."""
        return self.before[0] != self.after[0]


def regrade(folder: Path, on_progress: Callable[[int, int], None] = lambda done, total: None) -> list[Change]:
    """Judge every stored response of an evaluation again; the changes, those of the verdict first.

    on_progress: receives how many responses are judged, of how many, after each.

    Files are replaced whole, and only those with a change; results.json last. Raises UserError for a folder that is no
    evaluation or is being worked on, and for a damaged file, before anything is written.
    """
    run = read_run(folder, "evaluation")
    opening = (run["about"].get("prompt") or {}).get("opening") or ""  # of every answer: it stands in the prompt
    with locked(folder / LOCK, WORKING):
        changes, tables, done, by_hand = [], {}, 0, read_verdicts(folder)
        paths = sorted((folder / FOLDER).glob("[0-9][0-9]-[0-9]*.parquet"))
        total = sum(read_shard(path, ["problem_id"]).num_rows for path in paths)
        for path in paths:
            rows, found = read_shard(path).to_pylist(), []
            for row in rows:
                if change := _judge(row, opening, int(path.name[:2]), by_hand):
                    found.append(change)
                done += 1
                on_progress(done, total)
            if found:
                changes += found
                schema = pa.schema([field for field in SCHEMA if field.name in rows[0]])
                tables[path] = pa.Table.from_pylist(rows, schema)
        for path, table in tables.items():
            write_shard(path, table)
        if read_results(folder):  # it had ended
            write_results(folder, variants_of(run))
    return sorted(changes, key=lambda change: not change.flipped)


def _judge(row: dict, opening: str, variant: int, by_hand: dict[str, bool]) -> Change | None:
    """Put today's verdict into a row of a variant; None if it is the one that stood there. by_hand: as stored."""
    if row["answer"] is None:
        return None
    found = grade(opening + row["response"], row["answer"])
    before, after = (row["right"], row["extracted"]), (found.right, found.extracted)
    row["right"], row["extracted"] = after
    place = row["model"], row["problem_id"], row.get("sample") or 0, row["answer"]
    given = by_hand.get(verdict_key(variant, row["problem_id"], place[2]))
    return None if before == after else Change(*place, before, after, given)


def set_verdict(folder: Path, variant: int, problem_id: str, right: bool | None, sample: int = 0) -> None:
    """Set the verdict on a response by hand; None takes it back. Raises UserError where there is no such response."""
    run = read_run(folder)
    with locked(folder / LOCK, WORKING):
        if open_results(folder, variants_of(run)).row(variant, problem_id, sample)["answer"] is None:
            raise UserError(
                "No answer to this problem is known, and this evaluation tells no accuracy, so a verdict would not "
                "count; evaluate problems with answers."
            )
        verdicts = read_verdicts(folder)
        verdicts.pop(verdict_key(variant, problem_id, sample), None)
        if right is not None:
            verdicts[verdict_key(variant, problem_id, sample)] = bool(right)
        write_json(folder / VERDICTS, verdicts)
        if read_results(folder):
            write_results(folder, variants_of(run))
