"""The estimate of a dataset: samples, time and disk space, measured on a few of its problems."""

import itertools
import shutil
import threading
from collections.abc import Callable

from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.formatting import format_bytes, plural
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.prompts import settle_date
from lightreasoner.problems.stream import open_problems, training_split
from lightreasoner.progress import stoppable
from lightreasoner.sampling.estimate import estimate_resources
from ui.components.estimate import accelerator_turn
from ui.datasets.request import SampleRequest
from ui.studio import Studio

PROBED = 8  # problems


def measured(studio: Studio, request: SampleRequest, say: Callable[[str], None], stop: threading.Event) -> str:
    """The estimate as sentences. Raises UserError, and WaitCancelled once `stop` is set."""
    settings = studio.settings
    limits = {"limit": request.limit, "max_chars": settings.max_problem_chars, "distinct": True}
    limits["skip_unreadable"] = request.skip_unreadable
    most = settings.max_upload_mb * 1_000_000
    stream = open_problems(request.problems, split=training_split(request.problems), max_bytes=most, **limits)
    problems = list(itertools.islice(stream, PROBED))
    total = len(problems) + sum(1 for _ in stream)
    with accelerator_turn(studio, say, stop) as checkpoint:
        name, expert, amateur = request.pair
        pair = load_pair(expert, amateur, studio.models, stoppable(say, checkpoint), name)
        checkpoint()
        say(f"Sampling {plural(len(problems), 'problem')}")
        r = request
        decoding = DecodingConfig(r.max_new_tokens, r.temperature, r.seed, r.beta_floor, r.stop)
        prompt = settle_date(request.prompt, (pair.expert.tokenizer, pair.amateur.tokenizer))
        found, _ = estimate_resources(pair, problems, decoding, request.samples_per_problem, total, checkpoint, prompt)
    text = found.sentence()
    if total < request.limit:
        text += f" There {'is' if total == 1 else 'are'} only {plural(total, 'problem')}."
    if found.disk_bytes > (free := shutil.disk_usage(settings.workspace).free):
        text += f" Only {format_bytes(free)} are free on the disk."
    return text
