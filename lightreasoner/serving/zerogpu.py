"""ZeroGPU: Spaces whose GPU is lent to one call at a time, which runs in another process.

There the main process has no CUDA: it shows what the call finds, and loads no model. Only what pickle can carry goes
to and fro. Jobs need a machine of their own and are off.
"""

from __future__ import annotations

import importlib.util
import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError, log_unexpected
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id

SECONDS = 60  # that a call may take, loading included; ZeroGPU's own default
NO_JOBS = (
    "Jobs are off here: ZeroGPU lends its GPU for a minute at a time, and a job needs one for longer. "
    "Duplicate this Space on hardware of its own, or run the app on your machine."
)
Refs = tuple[str | None, str, str]  # preset name, expert, amateur
RemoteResult = tuple[str, Any]  # "pair", "tuned", "texts", "event", "stopped" or "error", and what was found
RemoteTracer = Callable[..., Iterator[RemoteResult]]  # (refs, request, tuned, stop)


def on_zerogpu(env: dict[str, str] | None = None) -> bool:
    """Whether this is a ZeroGPU Space."""
    env = dict(os.environ) if env is None else env
    return env.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true") and bool(importlib.util.find_spec("spaces"))


def prepare(settings: Settings) -> Settings:
    """The settings for here. On ZeroGPU `spaces` is imported, which must happen before torch is; jobs are off, and the
    main process keeps to the CPU."""
    if not on_zerogpu():
        return settings
    import spaces  # noqa: F401

    return replace(settings, device="cpu", no_jobs=NO_JOBS)


class StopFlag:
    """A file that says "stop" to another process."""

    def __init__(self, path: Path):
        self.path = path

    def is_set(self) -> bool:
        return self.path.exists()

    def set(self) -> None:
        with suppress(OSError):
            self.path.touch()


def remote_tracer(settings: Settings) -> RemoteTracer:
    """A function that traces on a borrowed GPU; call this once, before the page is launched. For each trace: its
    findings, in order, until it ends or `stop` is set. Raises UserError."""
    import spaces

    from lightreasoner.models.cache import LoadedModels

    there = replace(settings, device="auto")
    models = LoadedModels(there)  # stays empty here; a process that is used again has its own, with what it loaded

    @spaces.GPU(duration=SECONDS)
    def traced(refs: Refs, request, tuned: dict | None, flag: Path) -> Iterator[RemoteResult]:
        yield from trace_with_gpu(refs, request, tuned, models, StopFlag(flag))

    def here(refs: Refs, request, tuned: dict | None, stop: threading.Event) -> Iterator[RemoteResult]:
        flag = StopFlag(settings.workspace / "accelerator" / f"stop-{new_id()}")
        try:
            flag.path.parent.mkdir(parents=True, exist_ok=True)
            for kind, found in traced(refs, request, tuned, flag.path):
                if kind == "error":
                    raise UserError(found)
                if stop.is_set():
                    flag.set()
                yield kind, found
        except UserError:
            raise
        except Exception as error:
            if said := getattr(error, "message", None):  # ZeroGPU's own: no quota left, none free, the time is over
                said = " ".join(re.sub(r"<[^>]*>", " ", str(said)).split())  # it comes with HTML in it
                raise UserError(f"ZeroGPU ended this: {said[:300]}") from error
            raise
        finally:
            flag.path.unlink(missing_ok=True)

    return here


def trace_with_gpu(refs: Refs, request, tuned: dict | None, models, stop: StopFlag) -> Iterator[RemoteResult]:
    """Load the models and trace, in the process that has the GPU. What goes wrong is a finding too: exceptions lose
    their words on the way."""
    from lightreasoner.models.pairs import describe_pair, load_pair
    from lightreasoner.models.references import parse_ref
    from lightreasoner.models.token_text import TokenTexts
    from lightreasoner.tracing.events import StepsEvent
    from lightreasoner.tracing.trace import trace
    from lightreasoner.tracing.tuned_decoder import describe_tuned, load_tuned_model

    try:
        name, expert, amateur = refs
        pair = load_pair(expert, amateur, models, name=name)
        yield "pair", describe_pair(pair)
        model = load_tuned_model(parse_ref(tuned["tuned"]), tuned["writer"], pair, models) if tuned else None
        if model:
            yield "tuned", describe_tuned(model, pair)
        texts, ids = TokenTexts(pair.expert.tokenizer), []
        for event in trace(pair, request, models.settings, stop, model):
            steps = event.steps if isinstance(event, StepsEvent) else []
            ids += [step.token_id for step in steps]
            yield "texts", {i: texts.text(i) for step in steps for i in step.score.ids}
            yield "event", event
        if stop.is_set():
            yield "stopped", pair.expert.tokenizer.decode(ids)
    except UserError as error:
        yield "error", str(error)
    except Exception:
        yield "error", log_unexpected("a trace on ZeroGPU")
