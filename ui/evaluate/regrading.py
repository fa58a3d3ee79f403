"""Judging stored responses again, in a thread of its own: how far it is, then what changed."""

import threading
from dataclasses import asdict

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.evaluation.verdicts import Change, regrade
from lightreasoner.jobs.store import FINISHED
from ui.evaluate.catalogue import Evaluation

MAX_CHANGES = 200  # that the page lists; the command line lists all
KEPT = 20  # evaluations whose outcome stays in memory
AT_ONCE = 0.5  # seconds in which a small evaluation is judged before the call is answered


class Regrading:
    """One thread per evaluation. No request waits for it, and it holds nothing that another visitor's request needs."""

    def __init__(self):
        #: Evaluation id → {"done", "total"}; at the end {"judged", "flipped", "read", "changes"} or {"error"}.
        self._states: dict[str, dict] = {}
        self._lock = threading.Lock()

    def begin(self, evaluation: Evaluation) -> None:
        """Begin to judge an evaluation's responses, unless they are being judged. Raises UserError where a job runs."""
        if evaluation.job and evaluation.job.state not in FINISHED:
            raise UserError("A job is working on this evaluation; let it end or stop it first.")
        with self._lock:
            if self.busy(evaluation.id):
                return
            ended = [run_id for run_id in self._states if not self.busy(run_id)]
            for run_id in [evaluation.id, *ended[: max(0, len(ended) - KEPT)]]:
                self._states.pop(run_id, None)
            self._states[evaluation.id] = {"done": 0, "total": 0}
        thread = threading.Thread(target=self._judge, args=[evaluation], daemon=True, name="regrading")
        thread.start()
        thread.join(AT_ONCE)

    def busy(self, run_id: str) -> bool:
        return "done" in self._states.get(run_id, {})

    def state(self, run_id: str) -> dict | None:
        """None where the evaluation has not been judged again since the server started."""
        return self._states.get(run_id)

    def _judge(self, evaluation: Evaluation) -> None:
        total = 0

        def on_progress(done: int, of: int) -> None:
            nonlocal total
            total = of
            self._states[evaluation.id] = {"done": done, "total": of}

        try:
            state = outcome(regrade(evaluation.folder, on_progress), total)
        except UserError as error:
            state = {"error": str(error)}
        except Exception:
            state = {"error": log_unexpected("judging again")}
        self._states[evaluation.id] = state


def outcome(changes: list[Change], judged: int) -> dict:
    """What the page shows of the changes: how many of `judged` responses, and the first of them.

    "flipped": verdicts that changed; "read": answers that are read in another way, with the same verdict.
    """
    flipped = sum(change.flipped for change in changes)
    shown = [asdict(change) | {"flipped": change.flipped} for change in changes[:MAX_CHANGES]]
    return {"judged": judged, "flipped": flipped, "read": len(changes) - flipped, "changes": shown}
