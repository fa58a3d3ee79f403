"""Estimates on the page: run in a thread, with their status streamed, once the accelerator is free."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.formatting import plural
from lightreasoner.jobs.accelerator import WaitCancelled, describe_holder
from lightreasoner.progress import interruptible
from ui.components.notices import notice_html
from ui.studio import BEAT, Studio

POLL = 0.1  # seconds


def stream_estimate(
    studio: Studio,
    read_request: Callable[[], Any],
    measure: Callable[[Studio, Any, Callable[[str], None], threading.Event], str],
    first: str,
) -> Iterator[str]:
    """Run `measure(studio, request, say, stop)` in a thread. Yields notices as HTML: a status whenever it calls `say`,
    beginning with `first`, and finally the text that it returned, or an error.

    Closing the generator (a closed tab, another click) sets `stop`; `measure` then raises WaitCancelled.
    """
    try:
        request = read_request()
    except UserError as error:
        yield notice_html(str(error), "error")
        return
    messages, stop, done = [(first, "status")], threading.Event(), threading.Event()

    def run() -> None:
        try:
            messages.append((measure(studio, request, lambda text: messages.append((text, "status")), stop), "note"))
        except WaitCancelled:
            pass
        except UserError as error:
            messages.append((str(error), "error"))
        except Exception:
            messages.append((log_unexpected("an estimate"), "error"))
        finally:
            done.set()

    threading.Thread(target=run, daemon=True, name="estimate").start()
    sent, quiet = 0, 0.0
    try:
        while True:
            ended = done.is_set()  # read first, so that no message before the end is missed
            if len(messages) > sent or quiet >= BEAT:
                sent, quiet = len(messages), 0.0
                yield notice_html(*messages[-1])
            if ended:
                return
            done.wait(POLL)
            quiet += POLL
    finally:
        stop.set()


@contextmanager
def accelerator_turn(studio: Studio, say: Callable[[str], None], stop: threading.Event) -> Iterator[Callable[[], None]]:
    """Hold the accelerator inside the block; `say` gets what it waits for. Yields a checkpoint for the block to call.

    It and the wait raise WaitCancelled once `stop` is set. Raises UserError where jobs are off.
    """
    if studio.settings.no_jobs:
        raise UserError(studio.settings.no_jobs)

    def queued(before: int) -> None:
        say(f"Waiting: {plural(before, 'run')} before this one")

    def held(holder: dict | None) -> None:
        say(f"Waiting for {describe_holder(holder)}")

    def checkpoint() -> None:
        if stop.is_set():
            raise WaitCancelled

    turn = studio.accelerator.acquire("inspector", stop, held, interactive=True)
    with studio.run_queue.turn(stop, queued), turn, interruptible(checkpoint):
        yield checkpoint
