"""The calls of the viewer's script that compare traces: what a branch was made from, two traces side by side, and a
problem on which a tuned expert's verdict flipped.

Users can send any arguments over HTTP. Ids cannot be guessed, and the engine checks the rest.
"""

from collections.abc import Callable

from lightreasoner.errors import UserError
from lightreasoner.evaluation.flips import flip_of_adapter
from lightreasoner.storage.runs import run_folder
from lightreasoner.tracing.compare import compare
from lightreasoner.training.runs import ADAPTER, tuned_run
from ui.access.permissions import action
from ui.components.flip_traces import SIDES, score_side, scored_record
from ui.components.script_calls import answering
from ui.studio import Studio


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
        """The first problem that a fine-tuning run's tuned expert gained, else lost: {"traces": [before, after]} once
        both models have scored both responses, {"status"} until then; {} where no evaluation has one."""
        tuned_run(studio.settings, run)
        found = flip_of_adapter(studio.settings, run_folder(studio.settings, run) / ADAPTER)
        if found is None:
            return {}
        traces = []
        for side in SIDES:  # one after the other: both wait for the accelerator
            traces.append(score_side(studio, *found, side))
            answer = scored_record(studio, traces[-1])
            if "status" in answer:
                return {"status": answer["status"]}
        return {"traces": traces}

    return [origin, beside, flip]
