"""What a dataset would bring and cost, measured on a few of its problems with the server's own loaded models."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.jobs.accelerator import WaitCancelled, describe_holder
from ui.studio import Studio

PROBED = 8  # problems
POLL = 0.1  # seconds


def stream_status(
    work: Callable[[Callable[[str], None], threading.Event], str], first: str
) -> Iterator[tuple[str, str]]:
    """Run `work(say, stop)` in a thread: ("status", what is being done) as it changes, beginning with `first`, and at
    last ("note", what it returned) or ("error", a sentence).

    Closing it (a closed tab, another click) sets `stop`, upon which the work raises WaitCancelled.
    """
    said, stop, done = [("status", first)], threading.Event(), threading.Event()

    def run() -> None:
        try:
            said.append(("note", work(lambda text: said.append(("status", text)), stop)))
        except WaitCancelled:
            pass
        except UserError as error:
            said.append(("error", str(error)))
        except Exception:
            said.append(("error", log_unexpected("an estimate")))
        finally:
            done.set()

    threading.Thread(target=run, daemon=True, name="estimate").start()
    told = 0
    try:
        while True:
            ended = done.is_set()  # looked at first: what was said before it is then seen for sure
            if len(said) > told:
                told = len(said)
                yield said[-1]
            if ended:
                return
            done.wait(POLL)
    finally:
        stop.set()


@contextmanager
def accelerator_turn(studio: Studio, say: Callable[[str], None], stop: threading.Event) -> Iterator[None]:
    """Inside, the accelerator is ours; `say` is told what is waited for. Raises Stopped once `stop` is set, and
    UserError where no job could follow."""
    if studio.settings.no_jobs:
        raise UserError(studio.settings.no_jobs)

    def behind(before: int) -> None:
        say(f"Waiting: {before} {'run' if before == 1 else 'runs'} before this one")

    def held(holder: dict | None) -> None:
        say(f"Waiting for {describe_holder(holder)}")

    with studio.run_queue.turn(stop, behind), studio.accelerator.acquire("inspector", stop, held, interactive=True):
        yield
