"""ZeroGPU Spaces: each trace runs in another process, which gets a GPU for about a minute.

The main process has no CUDA and loads no model; it receives pickled results. Jobs are disabled.
"""

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

SECONDS = 60  # per call, with the loading of models; ZeroGPU's default
NO_JOBS = (
    "Jobs are disabled: ZeroGPU provides its GPU for a minute at a time, and a job needs it for longer. "
    "Duplicate this Space on dedicated hardware, or run the app on your machine."
)
Refs = tuple[str | None, str, str]  # preset name, expert, amateur
RemoteResult = tuple[str, Any]  # "pair", "tuned", "texts", "event", "stopped" or "error", and its value
RemoteTracer = Callable[..., Iterator[RemoteResult]]  # (refs, request, tuned, stop)


def on_zerogpu(env: dict[str, str] | None = None) -> bool:
    env = dict(os.environ) if env is None else env
    return env.get("SPACES_ZERO_GPU", "").lower() in ("1", "t", "true") and bool(importlib.util.find_spec("spaces"))


def prepare(settings: Settings) -> Settings:
    """The settings adapted to ZeroGPU: no jobs, and the CPU for the main process. Elsewhere they stay the same.

    On ZeroGPU it imports `spaces`, which must happen before torch is imported.
    """
    if not on_zerogpu():
        return settings
    import spaces  # noqa: F401

    return replace(settings, device="cpu", no_jobs=NO_JOBS)


class StopFlag:
    """A file that asks another process to stop."""

    def __init__(self, path: Path):
        self.path = path

    def is_set(self) -> bool:
        return self.path.exists()

    def set(self) -> None:
        with suppress(OSError):
            self.path.touch()


def remote_tracer(settings: Settings) -> RemoteTracer:
    """A function that traces on ZeroGPU's GPU; call this once, before the page is launched.

    The function yields a trace's results in order until it ends or `stop` is set. Raises UserError.
    """
    import spaces

    from lightreasoner.models.cache import LoadedModels

    models = LoadedModels(replace(settings, device="auto"))  # filled in the other processes only

    @spaces.GPU(duration=SECONDS)
    def on_gpu(refs: Refs, request, tuned: dict | None, flag: Path) -> Iterator[RemoteResult]:
        yield from trace_with_gpu(refs, request, tuned, models, StopFlag(flag))

    def results(refs: Refs, request, tuned: dict | None, stop: threading.Event) -> Iterator[RemoteResult]:
        flag = StopFlag(settings.workspace / "accelerator" / f"stop-{new_id()}")
        try:
            flag.path.parent.mkdir(parents=True, exist_ok=True)
            fetch_files([*refs[1:], *([tuned["tuned"]] if tuned else [])])
            for kind, value in on_gpu(refs, request, tuned, flag.path):
                if kind == "error":
                    raise UserError(value)
                if stop.is_set():
                    flag.set()
                yield kind, value
        except UserError:
            raise
        except Exception as error:
            if message := getattr(error, "message", None):  # of ZeroGPU: no quota left, no GPU free, time is up
                message = " ".join(re.sub(r"<[^>]*>", " ", str(message)).split())  # it contains HTML
                raise UserError(f"ZeroGPU ended the run: {message[:300]}") from error
            raise
        finally:
            flag.path.unlink(missing_ok=True)

    return results


def fetch_files(refs: list[str]) -> None:
    """Download what these models lack, before the seconds of the GPU count. Raises UserError."""
    from lightreasoner.models.references import parse_ref
    from lightreasoner.models.weights import find_files

    for ref in refs:
        find_files(parse_ref(ref))


def trace_with_gpu(refs: Refs, request, tuned: dict | None, models, stop: StopFlag) -> Iterator[RemoteResult]:
    """Load the models and trace, in the process that has the GPU. Errors are results, too, since exceptions lose their
    messages on the way."""
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
