"""The two traces of a flip: a problem that only one of two evaluated models solves. Both score both responses.

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
from ui.components.prompt_form import stored_prompt
from ui.studio import Studio

SIDES = ("before", "after")
PATIENCE = 8.0  # seconds without a look after which nobody waits any more; a tab in the background looks each second


def trace_id(run_id: str, model: int, problem_id: str, side: str) -> str:
    """A trace id that is as hard to guess as the evaluation's id."""
    return hashlib.sha256(f"{run_id}/{model}/{side}/{problem_id}".encode()).hexdigest()[:32]


def model_ref(base: str, adapter: Path | None) -> str:
    return f"{base}::{adapter}" if adapter else base


def _file(studio: Studio, trace: str) -> Path:
    return studio.settings.traces / f"{trace}.json"


def is_scored(studio: Studio, trace: str) -> bool:
    """Whether a response has been scored, or is just now."""
    live = studio.live_runs.get(trace)
    return bool(live and not live.given_up) or _file(studio, trace).exists()


def score_side(
    studio: Studio, evaluation_id: str, run: dict, answers: ResultsReader, model: int, problem: str, side: str
) -> str:
    """Start to score one response with both models, unless it has been; returns the trace's id. Raises UserError.

    run: the evaluation's record; model: the place of the later of the two models; side: of SIDES.
    """
    row = answers.row(0 if side == "before" else model, problem)
    trace = trace_id(evaluation_id, model, row["problem_id"], side)
    if is_scored(studio, trace):
        return trace
    config = run["config"]
    base, compared = str(config.get("model")), answers.variants[model]
    before, after = (model_ref(base, answers.variants[v].adapter) for v in (0, model))
    if compared.contrast:  # by which the two decided
        before, after = str(config.get("amateur")), base
    context = stored_context(row.get("context"))
    prompt = stored_prompt(config.get("prompt"))
    request = TraceRequest(row["question"], response=row["response"], context=context, prompt=prompt)
    known = {"problem_id": row["problem_id"], "answer": row["answer"]}
    studio.start(request, (None, after, before), trace_id=trace, patience=PATIENCE, **known)
    return trace


def scored_record(studio: Studio, trace: object) -> dict:
    """{"status"} while a response is scored, then {"record"}. Raises UserError."""
    live = studio.live_runs.get(trace) if isinstance(trace, str) else None
    if live:
        live.looked()
    if live and live.given_up:
        raise UserError("Nobody looked at this page for a while, so scoring was stopped; ask for it again.")
    if live and not live.done.is_set():
        return {"status": live.status}
    if live and live.error:
        studio.live_runs.pop(trace, None)
        raise UserError(live.error)
    record = studio.record(trace)
    if live and _file(studio, trace).exists():
        studio.live_runs.pop(trace, None)
    return {"record": record}
