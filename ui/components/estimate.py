"""Estimates on the page: run in a thread, with their status streamed, once the accelerator is free."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.jobs.accelerator import WaitCancelled, describe_holder
from ui.studio import Studio

PROBED = 8  # problems that a dataset's estimate samples
POLL = 0.1  # seconds


def stream_status(
    work: Callable[[Callable[[str], None], threading.Event], str], first: str
) -> Iterator[tuple[str, str]]:
    """Run `work(say, stop)` in a thread. Yields ("status", text) whenever the work calls `say`, beginning with `first`,
    and finally ("note", the text that it returned) or ("error", a sentence).

    Closing the generator (a closed tab, another click) sets `stop`; the work then raises WaitCancelled.
    """
    messages, stop, done = [("status", first)], threading.Event(), threading.Event()

    def run() -> None:
        try:
            messages.append(("note", work(lambda text: messages.append(("status", text)), stop)))
        except WaitCancelled:
            pass
        except UserError as error:
            messages.append(("error", str(error)))
        except Exception:
            messages.append(("error", log_unexpected("an estimate")))
        finally:
            done.set()

    threading.Thread(target=run, daemon=True, name="estimate").start()
    sent = 0
    try:
        while True:
            ended = done.is_set()  # read first, so that no message before the end is missed
            if len(messages) > sent:
                sent = len(messages)
                yield messages[-1]
            if ended:
                return
            done.wait(POLL)
    finally:
        stop.set()


@contextmanager
def accelerator_turn(studio: Studio, say: Callable[[str], None], stop: threading.Event) -> Iterator[None]:
    """Hold the accelerator inside the block; `say` gets what it waits for. Raises WaitCancelled once `stop` is set, and
    UserError where jobs are off."""
    if studio.settings.no_jobs:
        raise UserError(studio.settings.no_jobs)

    def queued(before: int) -> None:
        say(f"Waiting: {before} {'run' if before == 1 else 'runs'} before this one")

    def held(holder: dict | None) -> None:
        say(f"Waiting for {describe_holder(holder)}")

    with studio.run_queue.turn(stop, queued), studio.accelerator.acquire("inspector", stop, held, interactive=True):
        yield
