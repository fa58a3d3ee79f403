"""The responses of an evaluation: every one can be read, and its verdict set by hand."""

from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import ResultsReader
from lightreasoner.evaluation.summaries import Answer
from lightreasoner.evaluation.verdicts import set_verdict
from lightreasoner.problems.conversations import stored_context
from lightreasoner.validation import number
from ui.access.actions import action
from ui.evaluate.catalogue import Evaluation, Evaluations
from ui.evaluate.regrading import Regrading

PAGE = 10  # responses per answer
#: Name of a filter → whether a response passes it
FILTERS = {
    "all": lambda answer: True,
    "right": lambda answer: answer.right is True,
    "wrong": lambda answer: answer.right is False,
    "unread": lambda answer: answer.extracted is None,
    "by_hand": lambda answer: answer.by_hand,
}


class Responses:
    """The calls on single responses. Users can send any arguments; all methods raise UserError for invalid ones."""

    def __init__(self, evaluations: Evaluations, regrading: Regrading):
        self.evaluations, self.regrading = evaluations, regrading

    def _opened(self, run_id: object, model: object) -> tuple[Evaluation, ResultsReader, int]:
        evaluation, answers = self.evaluations.answered(run_id)
        return evaluation, answers, number("The model", model, 0, len(answers.variants) - 1, whole=True)

    @action("evaluate.list_responses")
    def listed_responses(self, run_id, model, which, start) -> dict:
        """A page of a model's responses that pass a filter: {"rows", "total", "size"}."""
        _, answers, n = self._opened(run_id, model)
        if not isinstance(which, str) or which not in FILTERS:
            raise UserError(f"There are the filters {', '.join(FILTERS)}, not {str(which)[:20]!r}.")
        start = number("The place in the list", start, 0, 1e7, whole=True)
        passes = FILTERS[which]
        found = [
            (problem, answer)
            for problem, responses in answers.responses[n].items()
            for _, answer in sorted(responses.items())
            if passes(answer)
        ]
        rows = [
            {"problem": problem, "question": answer.question, "answer": answer.answer} | _verdict(answer)
            for problem, answer in found[start : start + PAGE]
        ]
        return {"rows": rows, "total": len(found), "size": PAGE}

    @action("evaluate.read_response")
    def response(self, run_id, model, problem, sample) -> dict:
        """One response in full, with its question and its verdict."""
        _, answers, n = self._opened(run_id, model)
        row = answers.row(n, str(problem), number("The sample", sample, 0, 1e6, whole=True))
        before = [f"{turn.role}: {turn.text}\n\n" for turn in stored_context(row.get("context"))]
        shown = {name: row[name] for name in ("answer", "response", "extracted", "right", "judged", "by_hand")}
        shown |= {"tokens": len(row["response_ids"] or ()), "cut": row["finish_reason"] == "length"}
        return shown | {"question": "".join(before) + row["question"]}

    @action("evaluate.set_verdict")
    def set_verdict(self, run_id, model, problem, sample, right) -> dict:
        """Set the verdict on one response by hand; None takes it back. Returns the verdict that counts now."""
        evaluation, answers, n = self._opened(run_id, model)
        if right is not None and not isinstance(right, bool):
            raise UserError(f"A verdict is right, wrong or the grader's, not {str(right)[:20]!r}.")
        if self.regrading.busy(evaluation.id):
            raise UserError("The responses are being judged again; set the verdict when that has ended.")
        sample = number("The sample", sample, 0, 1e6, whole=True)
        set_verdict(evaluation.folder, n, str(problem), right, sample)
        answers = self.evaluations.answers(evaluation)
        return _verdict(answers.responses[n][str(problem)][sample])


def _verdict(answer: Answer) -> dict:
    """judged: the grader's verdict; right: the one that counts, which may be set by hand."""
    return {name: getattr(answer, name) for name in ("sample", "extracted", "right", "judged", "by_hand")}
