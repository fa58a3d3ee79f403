"""Runs that somebody watches: each in a thread of its own, one at a time on the accelerator.

The watcher only reads. `Lease` is first come, first served, so everybody can be told how many are before them. Whose
turn it is then takes the machine's accelerator, which jobs of other processes share.
"""

from __future__ import annotations

import contextvars
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightreasoner.errors import UserError, broke
from lightreasoner.jobs.accelerator import Accelerator, Stopped, spoken
from lightreasoner.models.pairs import Pair, describe_pair
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.settings import Settings
from lightreasoner.tracing.records import Trace, save_trace
from lightreasoner.tracing.trace import trace
from lightreasoner.tracing.tuned_decoder import TunedModel, describe_tuned


class Lease:
    """The right to compute. One holder; the others wait in order."""

    def __init__(self, places: int):
        self._places, self._line, self._changed = places, [], threading.Condition()

    @contextmanager
    def hold(self, stop: threading.Event, on_wait: Callable[[int], None]):
        """Wait for the lease, reporting how many are before. Raises Stopped, or UserError when too many wait."""
        ticket = object()
        with self._changed:
            if len(self._line) > self._places:
                raise UserError(f"{self._places} runs are waiting already; try again in a minute.")
            self._line.append(ticket)
        try:
            with self._changed:
                while self._line[0] is not ticket:
                    on_wait(self._line.index(ticket))
                    self._changed.wait(0.2)
                    if stop.is_set():
                        raise Stopped
            yield
        finally:
            with self._changed:
                self._line.remove(ticket)
                self._changed.notify_all()


class Live:
    """One run and what can be seen of it: `trace` grows, `status` says what it is doing, `error` why it failed."""

    def __init__(
        self,
        record: Trace,
        load: Callable[[Callable[[str], None]], Pair],
        lease: Lease,
        settings: Settings,
        accelerator: Accelerator | None = None,
        load_tuned: Callable[[Pair, Callable[[str], None]], TunedModel] | None = None,
        elsewhere: Callable[[threading.Event], Iterator[tuple[str, Any]]] | None = None,
        discreet: bool = False,  # for a visitor, who is not told what else this machine is doing
    ):
        """elsewhere: where another process computes, what it finds (see zerogpu.Finding) until the event is set."""
        self.trace, self.key = record, secrets.token_urlsafe(16)  # who holds the key may stop it
        self.status, self.error = "Starting", None
        self.stop, self.done = threading.Event(), threading.Event()
        self._load, self._load_tuned, self._lease, self._settings = load, load_tuned, lease, settings
        self._discreet = discreet
        self._accelerator, self._elsewhere = accelerator or Accelerator(settings.workspace), elsewhere

    def start(self) -> Live:
        # in the caller's context: ZeroGPU tells by the request that is in it on whose account it lends
        run = contextvars.copy_context().run
        threading.Thread(target=run, args=(self._run,), daemon=True, name=f"trace-{self.trace.id[:6]}").start()
        return self

    def _say(self, status: str) -> None:
        self.status = status

    def _wait(self, before: int) -> None:
        self._say(f"Waiting: {before} {'run' if before == 1 else 'runs'} before this one")

    def _wait_for(self, holder: dict | None) -> None:
        until = " to reach a safe point" if holder and holder["who"].startswith("job ") else ""
        self._say("Waiting for other work on this server" if self._discreet else f"Waiting for {spoken(holder)}{until}")

    def _told(self, error: UserError) -> str:
        """The sentence; a visitor is not told where things lie on this machine."""
        return str(error).replace(str(self._settings.workspace), "…") if self._discreet else str(error)

    def _run(self) -> None:
        turn = self._accelerator.hold("inspector", self.stop, self._wait_for, interactive=True)
        try:
            with self._lease.hold(self.stop, self._wait), turn:
                self._follow() if self._elsewhere else self._compute()
        except Stopped:
            pass
        except UserError as error:
            self.error = self._told(error)
        except Exception:
            self.error = broke(f"trace {self.trace.id}")
        finally:
            if self.trace.finish_reason is None:
                self.trace.finish_reason = "error" if self.error else "stopped"
            try:
                if self.trace.steps:
                    save_trace(self.trace, self._settings.traces)
            except UserError as error:
                self.error = self._told(error)
            self.done.set()

    def _compute(self) -> None:
        pair = self._load(self._say)
        self.trace.pair = describe_pair(pair)
        tuned = self._load_tuned and self._load_tuned(pair, self._say)
        if tuned:
            self.trace.tuned = (self.trace.tuned or {}) | describe_tuned(tuned, pair)
        texts = TokenTexts(pair.expert.tokenizer)
        self._say("Reading the problem")
        began = time.perf_counter()
        for event in trace(pair, self.trace.request, self._settings, self.stop, tuned):
            self.trace.add(event, texts)
            self._say("Writing")
        if self.stop.is_set() and self.trace.finish_reason is None:
            self.trace.seconds = time.perf_counter() - began
            self.trace.response = pair.expert.tokenizer.decode([s.token_id for s in self.trace.steps])

    def _follow(self) -> None:
        """What _compute does, computed by another process."""
        self._say("Waiting for a GPU")
        trace, began = self.trace, time.perf_counter()
        for kind, found in self._elsewhere(self.stop):
            if kind == "pair":
                trace.pair, began = found, time.perf_counter()
                self._say("Reading the problem")
            elif kind == "tuned":
                trace.tuned = (trace.tuned or {}) | found
            elif kind == "texts":  # they come before the steps that need them
                trace.texts.update(found)
            elif kind == "event":
                trace.add(found, None)
                self._say("Writing")
            elif kind == "stopped":
                trace.response, trace.seconds = found, time.perf_counter() - began
