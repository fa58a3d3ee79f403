"""The calls of the viewer's script that compare traces: a branch with its origin, two of them, before and after tuning.

The problem before and after tuning is one on which the verdict flipped, else one of the dataset.

Users can send any arguments over HTTP. Ids cannot be guessed, and the engine checks the rest.
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import islice

from lightreasoner.datasets.trajectories import rows
from lightreasoner.errors import UserError
from lightreasoner.evaluation.flips import flip_of_adapter
from lightreasoner.grading.grading import grade
from lightreasoner.problems.conversations import stored_context
from lightreasoner.storage.runs import read_run, run_folder
from lightreasoner.tracing.compare import compare
from lightreasoner.tracing.trace import TraceRequest
from lightreasoner.tracing.tuned_decoder import EXPERT, TUNED
from lightreasoner.training.runs import ADAPTER, tuned_run
from ui.access.actions import action
from ui.components.flip_traces import PATIENCE, SIDES, is_scored, score_side, scored_record, trace_id
from ui.components.pair_form import pair_refs
from ui.components.prompt_form import stored_prompt
from ui.components.script_calls import answering
from ui.inspect.tuned_form import run_fields
from ui.studio import Studio

LOOKED_THROUGH = 64  # responses of a dataset, for one that is wrong


def comparison_calls(studio: Studio) -> list[Callable[..., dict]]:
    """The functions origin, beside and flip, bound to this server's runs."""

    @action("inspect.read_origin", visitors=True)
    @answering
    def origin(run) -> dict:
        """What a branch was made from: the token in whose place another was forced, and how the parent was judged."""
        record = studio.record(run)
        if not record["parent"]:
            raise UserError("This trace was made from no other one.")
        parent, at = studio.record(record["parent"]["id"]), record["parent"]["step"]
        step = parent["steps"][at] if at < len(parent["steps"]) else {"text": ""}
        return {"replaced": step["text"], "graded": parent.get("graded")}

    @action("inspect.compare_traces", visitors=True)
    @answering
    def beside(run, other) -> dict:
        """Two traces of one problem, how their steps belong together, and what was asked differently."""
        records = [studio.record(one) for one in (run, other)]
        found = compare(*records)
        for record in records:
            for one in record["steps"]:
                one.pop("support", None)  # the page computes it from the candidates, at any α
        return {"left": records[0], "right": records[1]} | found

    @action("inspect.find_flip")
    @answering
    def flip(run) -> dict:
        """The first problem that a fine-tuning run's tuned expert gained, else lost, as {"as": "flip"}; where no
        evaluation has one, a problem of the run's dataset, as {"as": "asked"}; where that is gone, {}.

        {"traces": [before, after]} once both are there, {"status"} until then.
        """
        tuned_run(studio.settings, run)
        found = flip_of_adapter(studio.settings, run_folder(studio.settings, run) / ADAPTER)
        problem = None if found else problem_of(studio, run)
        if not (found or problem):
            return {}
        kind, traces = {"as": "flip" if found else "asked"}, []
        for side in SIDES:  # one after the other: both wait for the accelerator
            traces.append(score_side(studio, *found, side) if found else ask_side(studio, run, *problem, side))
            answer = scored_record(studio, traces[-1])
            if "status" in answer:
                return kind | {"status": answer["status"]}
        return kind | {"traces": traces}

    return [origin, beside, flip]


def problem_of(studio: Studio, run: str) -> tuple[dict, dict] | None:
    """(a response of a fine-tuning run's dataset, the dataset's settings): the first wrong one among the first, else
    the first. None where the dataset is gone, or was imported without its responses."""
    with suppress(UserError):
        folder = tuned_run(studio.settings, run).dataset
        columns = ["problem_id", "question", "context", "answer", "response"]
        found = list(islice(rows(folder, columns, lambda path, error: None), LOOKED_THROUGH))
        wrong = (row for row in found if row["answer"] and not grade(row["response"], row["answer"]).right)
        if found:
            return next(wrong, found[0]), read_run(folder)["config"]
    return None


def ask_side(studio: Studio, run: str, row: dict, config: dict, side: str) -> str:
    """Let the expert ("before") or the tuned expert ("after") answer a problem of the dataset, unless it has; returns
    the trace's id. Raises UserError."""
    trace = trace_id(run, 0, row["problem_id"], f"asked {side}")
    if is_scored(studio, trace):
        return trace
    fields, tuned, _ = run_fields(studio, run)
    most = studio.settings.max_new_tokens
    request = TraceRequest(
        row["question"],
        max_new_tokens=min(int(config.get("max_new_tokens") or most), most),
        stop=tuple(config.get("stop") or ()),
        context=stored_context(row["context"]),
        prompt=stored_prompt(config.get("prompt")),
    )
    writer = {"writer": EXPERT if side == SIDES[0] else TUNED}
    known = {"problem_id": row["problem_id"], "answer": row["answer"]}
    studio.start(request, pair_refs(*fields), tuned=tuned | writer, trace_id=trace, patience=PATIENCE, **known)
    return trace
