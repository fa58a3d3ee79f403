"""Flips: problems that only one of two models solves, and the KL divergence of the models along both responses.

Each response is scored with the fine-tuned model as expert and the first model as amateur: a large KL shows where
fine-tuning changed the distribution. Beside a contrast it is scored with the two models that decided in it.

A trace's id is derived from evaluation, model, problem and side, so that it is found again.
"""

import hashlib
from pathlib import Path

from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import ResultsReader
from lightreasoner.problems.conversations import stored_context
from lightreasoner.tracing.trace import TraceRequest
from lightreasoner.validation import number
from ui.access.permissions import action
from ui.components.prompt_form import stored_prompt
from ui.evaluate.catalogue import Evaluation, Evaluations
from ui.studio import Studio

PAGE = 20  # flips per answer
SIDES = ("before", "after")


class Flips:
    """The calls on flips. Users can send any arguments; all methods raise UserError for invalid ones."""

    def __init__(self, studio: Studio, evaluations: Evaluations):
        self.studio, self.evaluations = studio, evaluations

    def _opened(self, run_id: object, model: object) -> tuple[Evaluation, ResultsReader, int]:
        evaluation, answers = self.evaluations.answered(run_id)
        if len(answers.variants) < 2:
            raise UserError("This evaluation has only one model, so there is nothing to compare.")
        return evaluation, answers, number("The model", model, 1, len(answers.variants) - 1, whole=True)

    @action("evaluate.list_flips")
    def listed(self, run_id, model, direction, start) -> dict:
        """A page of the problems that a model gained or lost against the first one: {"rows", "total", "size"}."""
        _, answers, n = self._opened(run_id, model)
        if direction not in ("gained", "lost"):
            raise UserError(f"Flips are gained or lost, not {str(direction)[:20]!r}.")
        start = number("The place in the list", start, 0, 1e6, whole=True)
        before, after = answers.rows[0], answers.rows[n]
        wanted = (False, True) if direction == "gained" else (True, False)
        found = [p for p in before if p in after and (before[p].right, after[p].right) == wanted]
        rows = [
            {
                "problem": problem,
                "question": before[problem].question,
                "answer": before[problem].answer,
                "before": before[problem].extracted,
                "after": after[problem].extracted,
            }
            for problem in found[start : start + PAGE]
        ]
        for row in rows:
            sides = zip(SIDES, (before, after), strict=True)
            if by_hand := [side for side, of in sides if of[row["problem"]].by_hand]:
                row["by_hand"] = by_hand
        return {"rows": rows, "total": len(found), "size": PAGE}

    @action("evaluate.read_flip")
    def flip(self, run_id, model, problem) -> dict:
        """Both responses to a problem, the length of their common prefix in tokens, and their traces if scored."""
        evaluation, answers, n = self._opened(run_id, model)
        rows = [answers.row(variant, str(problem)) for variant in (0, n)]
        names = self.evaluations.names(evaluation.run)
        ids = [row["response_ids"] for row in rows]
        shared = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), min(map(len, ids)))
        sides = {}
        for side, variant, row in zip(SIDES, (0, n), rows, strict=True):
            trace = trace_id(evaluation.id, n, row["problem_id"], side)
            sides[side] = {
                "name": names[variant],
                "model": variant,
                "sample": row.get("sample") or 0,
                "response": row["response"],
                "extracted": row["extracted"],
                "right": row["right"],
                "judged": row["judged"],
                "by_hand": row["by_hand"],
                "tokens": len(row["response_ids"]),
                "cut": row["finish_reason"] == "length",
                "trace": trace if self._known(trace) else None,
            }
        before = [f"{turn.role}: {turn.text}\n\n" for turn in stored_context(rows[0].get("context"))]
        question = "".join(before) + rows[0]["question"]
        return {"question": question, "answer": rows[0]["answer"], "shared": shared} | sides

    def _file(self, trace: str) -> Path:
        return self.studio.settings.traces / f"{trace}.json"

    def _known(self, trace: str) -> bool:
        return trace in self.studio.live_runs or self._file(trace).exists()

    @action("evaluate.score_response")
    def score(self, run_id, model, problem, side) -> dict:
        """Start to score one response with both models, unless it has been scored: {"trace": id}."""
        evaluation, answers, n = self._opened(run_id, model)
        if side not in SIDES:
            raise UserError(f"A response is before or after, not {str(side)[:20]!r}.")
        row = answers.row(0 if side == "before" else n, str(problem))
        trace = trace_id(evaluation.id, n, row["problem_id"], side)
        if self._known(trace):
            return {"trace": trace}
        config = evaluation.run["config"]
        base, compared = str(config.get("model")), answers.variants[n]
        before, after = (model_ref(base, answers.variants[v].adapter) for v in (0, n))
        if compared.contrast:  # by which the two decided
            before, after = str(config.get("amateur")), base
        context = stored_context(row.get("context"))
        prompt = stored_prompt(evaluation.run["config"].get("prompt"))
        request = TraceRequest(row["question"], response=row["response"], context=context, prompt=prompt)
        self.studio.start(request, (None, after, before), problem_id=row["problem_id"], trace_id=trace)
        return {"trace": trace}

    @action("evaluate.watch_scoring")
    def scored(self, trace) -> dict:
        """{"status"} while a response is scored, then {"record"}."""
        live = self.studio.live_runs.get(trace) if isinstance(trace, str) else None
        if live and not live.done.is_set():
            return {"status": live.status}
        if live and live.error:
            self.studio.live_runs.pop(trace, None)
            raise UserError(live.error)
        record = self.studio.record(trace)
        if live and self._file(trace).exists():
            self.studio.live_runs.pop(trace, None)
        for step in record["steps"]:
            del step["support"]  # the page computes it from the candidates, at any α
        return {"record": record}


def trace_id(run_id: str, model: int, problem_id: str, side: str) -> str:
    """A trace id that is as hard to guess as the evaluation's id."""
    return hashlib.sha256(f"{run_id}/{model}/{side}/{problem_id}".encode()).hexdigest()[:32]


def model_ref(base: str, adapter: Path | None) -> str:
    return f"{base}::{adapter}" if adapter else base
