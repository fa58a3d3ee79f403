"""Live traces: each runs in a thread of its own, one at a time on the accelerator.

`RunQueue` is first come, first served, so each run knows how many are before it. The first in the queue then waits for
the accelerator, which it shares with other processes. The page only reads a `LiveRun`.
"""

from __future__ import annotations

import contextvars
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.formatting import plural
from lightreasoner.jobs.accelerator import AcceleratorLock, WaitCancelled, describe_holder
from lightreasoner.models.pairs import Pair, describe_pair
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.progress import interruptible
from lightreasoner.settings import Settings
from lightreasoner.tracing.records import Trace, save_trace
from lightreasoner.tracing.trace import trace
from lightreasoner.tracing.tuned_decoder import TunedModel, describe_tuned


class RunQueue:
    """The queue of this process's runs: one computes, the others wait in order."""

    def __init__(self, max_waiting: int):
        self._max_waiting, self._waiting, self._changed = max_waiting, [], threading.Condition()

    @contextmanager
    def turn(self, stop: threading.Event, on_wait: Callable[[int], None]):
        """Wait for one's turn; on_wait gets the number of runs before. Raises WaitCancelled, or UserError when full."""
        ticket = object()
        with self._changed:
            if len(self._waiting) > self._max_waiting:
                raise UserError(f"{self._max_waiting} runs are waiting already; try again in a minute.")
            self._waiting.append(ticket)
        try:
            with self._changed:
                while self._waiting[0] is not ticket:
                    on_wait(self._waiting.index(ticket))
                    self._changed.wait(0.2)
                    if stop.is_set():
                        raise WaitCancelled
            yield
        finally:
            with self._changed:
                self._waiting.remove(ticket)
                self._changed.notify_all()


class LiveRun:
    """A trace in progress: `trace` grows, `status` is the current activity, `error` a sentence if it failed."""

    def __init__(
        self,
        record: Trace,
        load: Callable[[Callable[[str], None]], Pair],
        queue: RunQueue,
        settings: Settings,
        accelerator: AcceleratorLock | None = None,
        load_tuned: Callable[[Pair, Callable[[str], None]], TunedModel] | None = None,
        remote: Callable[[threading.Event], Iterator[tuple[str, Any]]] | None = None,
        load_others: Callable[[Pair, Callable[[str], None]], list[Pair]] | None = None,
        hide_details: bool = False,  # for visitors, who must not see other work and paths
        patience: float | None = None,  # seconds without a look after which it is stopped and not saved; None: any
    ):
        """remote: on ZeroGPU, a function that yields the results of another process until the event is set."""
        self.trace, self.key = record, secrets.token_urlsafe(16)  # needed to stop it
        self.status, self.error = "Starting", None
        self.stop, self.done = threading.Event(), threading.Event()
        self._load, self._load_tuned, self._queue, self._settings = load, load_tuned, queue, settings
        self._hide_details, self._load_others = hide_details, load_others
        self._patience, self._seen = patience, time.monotonic()
        self._accelerator, self._remote = accelerator or AcceleratorLock(settings.workspace, settings.device), remote

    def start(self) -> LiveRun:
        # in the caller's context: ZeroGPU reads from its request whose quota pays
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run,), daemon=True, name=f"trace-{self.trace.id[:6]}").start()
        if self._patience is not None:
            threading.Thread(target=self._wait_for_looks, daemon=True).start()
        return self

    def looked(self) -> None:
        """Somebody waits for it."""
        self._seen = time.monotonic()

    @property
    def given_up(self) -> bool:
        """Whether it was stopped because nobody looked."""
        return self._patience is not None and self.stop.is_set()

    def _wait_for_looks(self) -> None:
        while not self.done.wait(min(0.5, self._patience)):
            if time.monotonic() - self._seen > self._patience:
                self.stop.set()

    def _check(self) -> None:
        if self.stop.is_set():
            raise WaitCancelled

    def _on_loading(self, status: str) -> None:
        """The on_status of the models that it loads, which a stop ends."""
        self._check()
        self.status = status

    def _report_queue(self, before: int) -> None:
        self.status = f"Waiting: {plural(before, 'run')} before this one"

    def _report_holder(self, holder: dict | None) -> None:
        until = " to reach a checkpoint" if holder and holder["who"].startswith("job ") else ""
        what = "other work on this server" if self._hide_details else f"{describe_holder(holder)}{until}"
        self.status = f"Waiting for {what}"

    def _message(self, error: UserError) -> str:
        """The error's message, without this machine's paths for visitors."""
        return str(error).replace(str(self._settings.workspace), "…") if self._hide_details else str(error)

    def _run(self) -> None:
        turn = self._accelerator.acquire("inspector", self.stop, self._report_holder, interactive=True)
        try:
            with self._queue.turn(self.stop, self._report_queue), turn:
                self._run_remotely() if self._remote else self._run_here()
        except WaitCancelled:
            pass
        except UserError as error:
            self.error = self._message(error)
        except Exception:
            self.error = log_unexpected(f"trace {self.trace.id}")
        finally:
            if self.trace.finish_reason is None:
                self.trace.finish_reason = "error" if self.error else "stopped"
            try:
                if self.trace.steps and not self.given_up:
                    save_trace(self.trace, self._settings.traces)
            except UserError as error:
                self.error = self._message(error)
            self.done.set()

    def _run_here(self) -> None:
        pair = self._load(self._on_loading)
        others = self._load_others(pair, self._on_loading) if self._load_others else []
        self.trace.pair = describe_pair(pair, others)
        tuned = self._load_tuned and self._load_tuned(pair, self._on_loading)
        if tuned:
            self.trace.tuned = (self.trace.tuned or {}) | describe_tuned(tuned, pair)
        texts = TokenTexts(pair.expert.tokenizer)
        self.status = "Reading the problem"
        start = time.perf_counter()
        with suppress(WaitCancelled), interruptible(self._check):  # which ends it in the middle of a long prompt, too
            for event in trace(pair, self.trace.request, self._settings, self.stop, tuned, others):
                self.trace.add(event, texts)
                self.status = "Writing"
        if self.stop.is_set() and self.trace.finish_reason is None:
            self.trace.seconds = time.perf_counter() - start
            self.trace.response = pair.expert.tokenizer.decode([s.token_id for s in self.trace.steps])

    def _run_remotely(self) -> None:
        """Like `_run_here`, computed by another process."""
        self.status = "Waiting for a GPU"
        trace, start = self.trace, time.perf_counter()
        for kind, value in self._remote(self.stop):
            if kind == "pair":
                trace.pair, start = value, time.perf_counter()
                self.status = "Reading the problem"
            elif kind == "tuned":
                trace.tuned = (trace.tuned or {}) | value
            elif kind == "texts":  # sent before the steps that need them
                trace.texts.update(value)
            elif kind == "event":
                trace.add(value, None)
                self.status = "Writing"
            elif kind == "stopped":
                trace.response, trace.seconds = value, time.perf_counter() - start
