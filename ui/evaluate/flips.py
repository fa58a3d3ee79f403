"""Flips: problems that only one of two models solves, and the KL divergence of the models along both responses."""

from lightreasoner.errors import UserError
from lightreasoner.evaluation.flips import GAINED, LOST, flipped
from lightreasoner.evaluation.results import ResultsReader
from lightreasoner.problems.conversations import stored_context
from lightreasoner.validation import number
from ui.access.actions import action
from ui.components.flip_traces import SIDES, is_scored, score_side, scored_record, trace_id
from ui.evaluate.catalogue import Evaluation, Evaluations
from ui.studio import Studio

PAGE = 20  # flips per answer


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
        if direction not in (GAINED, LOST):
            raise UserError(f"Flips are gained or lost, not {str(direction)[:20]!r}.")
        start = number("The place in the list", start, 0, 1e6, whole=True)
        before, after = answers.rows[0], answers.rows[n]
        found = flipped(answers, n, direction)
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
                **{key: row[key] for key in ("response", "extracted", "right", "judged", "by_hand")},
                "tokens": len(row["response_ids"]),
                "cut": row["finish_reason"] == "length",
                "trace": trace if is_scored(self.studio, trace) else None,
            }
        before = [f"{turn.role}: {turn.text}\n\n" for turn in stored_context(rows[0].get("context"))]
        question = "".join(before) + rows[0]["question"]
        return {"question": question, "answer": rows[0]["answer"], "shared": shared} | sides

    @action("evaluate.score_response")
    def score(self, run_id, model, problem, side) -> dict:
        """Start to score one response with both models, unless it has been scored: {"trace": id}."""
        evaluation, answers, n = self._opened(run_id, model)
        if side not in SIDES:
            raise UserError(f"A response is before or after, not {str(side)[:20]!r}.")
        args = (evaluation.id, evaluation.run, answers, n, str(problem), side)
        return {"trace": score_side(self.studio, *args)}

    @action("evaluate.watch_scoring")
    def scored(self, trace) -> dict:
        """{"status"} while a response is scored, then {"record"}."""
        answer = scored_record(self.studio, trace)
        for step in answer.get("record", {}).get("steps", ()):
            del step["support"]  # the page computes it from the candidates, at any α
        return answer
