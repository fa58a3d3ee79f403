"""What a dataset would bring and cost, measured on a few of its problems with the server's own loaded models."""

from __future__ import annotations

import itertools
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from lightreasoner.datasets.trajectories import BETA_FLOOR
from lightreasoner.decoding.generate import Decoding
from lightreasoner.errors import UserError, broke
from lightreasoner.jobs.accelerator import Stopped, spoken
from lightreasoner.jobs.accelerator import Stopped as NoTurn
from lightreasoner.models.pairs import load_pair
from lightreasoner.problems.stream import open_problems, training_split
from lightreasoner.sampling.pair_check import probe
from ui.sample_request import SampleRequest
from ui.studio import Studio

PROBED = 8  # problems
POLL = 0.1  # seconds


def estimate(studio: Studio, asked: SampleRequest) -> Iterator[tuple[str, str]]:
    """What a dataset would bring and cost; see `telling`."""
    return telling(lambda say, stop: measured(studio, asked, say, stop), "Reading the problems")


def telling(work: Callable[[Callable[[str], None], threading.Event], str], first: str) -> Iterator[tuple[str, str]]:
    """Run `work(say, stop)` in a thread: ("status", what is being done) as it changes, beginning with `first`, and at
    last ("note", what it returned) or ("error", a sentence).

    Closing it (a closed tab, another click) sets `stop`, upon which the work raises Stopped.
    """
    said, stop, done = [("status", first)], threading.Event(), threading.Event()

    def run() -> None:
        try:
            said.append(("note", work(lambda text: said.append(("status", text)), stop)))
        except (Stopped, NoTurn):
            pass
        except UserError as error:
            said.append(("error", str(error)))
        except Exception:
            said.append(("error", broke("an estimate")))
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
def turn(studio: Studio, say: Callable[[str], None], stop: threading.Event) -> Iterator[None]:
    """Inside, the accelerator is ours; `say` is told what is waited for. Raises Stopped once `stop` is set, and
    UserError where no job could follow."""
    if studio.settings.no_jobs:
        raise UserError(studio.settings.no_jobs)

    def behind(before: int) -> None:
        say(f"Waiting: {before} {'run' if before == 1 else 'runs'} before this one")

    def held(holder: dict | None) -> None:
        say(f"Waiting for {spoken(holder)}")

    with studio.lease.hold(stop, behind), studio.accelerator.hold("inspector", stop, held, interactive=True):
        yield


def measured(studio: Studio, asked: SampleRequest, say: Callable[[str], None], stop: threading.Event) -> str:
    """The estimate as sentences. Raises UserError, and Stopped once `stop` is set."""
    settings = studio.settings
    limits = {"limit": asked.limit, "max_chars": settings.max_problem_chars, "distinct": True}
    most = settings.max_upload_mb * 1_000_000
    stream = open_problems(asked.problems, split=training_split(asked.problems), max_bytes=most, **limits)
    problems = list(itertools.islice(stream, PROBED))
    total = len(problems) + sum(1 for _ in stream)

    def checkpoint() -> None:
        if stop.is_set():
            raise Stopped

    with turn(studio, say, stop):
        name, expert, amateur = asked.pair
        pair = load_pair(expert, amateur, studio.models, on_status=say, name=name)
        checkpoint()
        say(f"Sampling {len(problems)} problems")
        floor = 0.0 if asked.every_step else BETA_FLOOR
        decoding = Decoding(asked.max_new_tokens, asked.temperature, asked.seed, floor)
        found, _ = probe(pair, problems, decoding, asked.samples, total, checkpoint)
    said = found.sentence()
    if total < asked.limit:
        said += f" There are only {total:,} problems."
    if found.disk_bytes > (free := shutil.disk_usage(settings.workspace).free):
        said += f" Only {free / 1e6:,.0f} MB are free on the disk."
    return said
