"""The named problem sources: bundled sets, and benchmarks on the Hugging Face Hub."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from urllib.parse import urlsplit

from lightreasoner.compat.transformers import datasets_offline
from lightreasoner.errors import UserError
from lightreasoner.problems.files import Row

log = logging.getLogger(__name__)

HUB_SECONDS = 5  # time-out for a first answer from the Hub


@dataclass(frozen=True)
class Source:
    """A named set of problems. With `repo` it is on the Hugging Face Hub, otherwise it is bundled."""

    key: str
    title: str
    description: str  # one sentence
    license: str
    splits: tuple[str, ...]  # the first is the default
    columns: str  # the columns of question, answer and solution
    answer_form: str
    repo: str | None = None
    configs: tuple[str | None, ...] = (None,)  # read in turn, one row each, so that a limit covers all of them


_BUNDLED = {
    "license": "generated with reasoning-gym (Apache-2.0)",
    "columns": "question, answer, solution",
    "answer_form": "a whole number",
}
_MATH_SUBJECTS = "algebra counting_and_probability geometry intermediate_algebra number_theory prealgebra precalculus"

SOURCES: dict[str, Source] = {
    source.key: source
    for source in (
        Source(
            key="bundled-train",
            title="Bundled, train",
            description="1,000 generated word problems of primary-school level, to build datasets from.",
            splits=("train",),
            **_BUNDLED,
        ),
        Source(
            key="bundled-test",
            title="Bundled, test",
            description="500 generated word problems to evaluate on, drawn from other seeds than the training ones.",
            splits=("test",),
            **_BUNDLED,
        ),
        Source(
            key="bundled-shifted",
            title="Bundled, shifted",
            description="500 generated word problems with a number from 101 to 200, absent from all training texts.",
            splits=("shifted",),
            **_BUNDLED,
        ),
        Source(
            key="gsm8k",
            title="GSM8K",
            description="Grade-school word problems of two to eight steps (7,473 train, 1,319 test).",
            license="MIT",
            splits=("test", "train"),
            columns="question; answer holds the solution, ####, and the answer",
            answer_form="a number",
            repo="openai/gsm8k",
            configs=("main",),
        ),
        Source(
            key="math",
            title="MATH",
            description="Competition mathematics in seven subjects and five levels (7,500 train, 5,000 test).",
            license="MIT",
            splits=("test", "train"),
            columns="problem; solution, with the answer in \\boxed{}",
            answer_form="LaTeX",
            repo="EleutherAI/hendrycks_math",
            configs=tuple(_MATH_SUBJECTS.split()),
        ),
        Source(
            key="math500",
            title="MATH-500",
            description="500 problems of the MATH test split, the usual quick check.",
            license="MIT (as MATH)",
            splits=("test",),
            columns="problem, answer, solution, unique_id",
            answer_form="LaTeX",
            repo="HuggingFaceH4/MATH-500",
        ),
        Source(
            key="svamp",
            title="SVAMP",
            description="One-step word problems, varied so that guessing by key words fails (300 test, 700 train).",
            license="MIT",
            splits=("test", "train"),
            columns="Body + Question, Answer, ID",
            answer_form="a number",
            repo="ChilleD/SVAMP",
        ),
        Source(
            key="asdiv",
            title="ASDiv",
            description="2,305 diverse primary-school word problems; those with several answers are skipped.",
            license="CC BY-NC 4.0",
            splits=("validation",),
            columns="body + question, answer",
            answer_form="a number or a word, its unit in brackets removed",
            repo="EleutherAI/asdiv",
            configs=("asdiv",),
        ),
        Source(
            key="minerva_math",
            title="Minerva Math",
            description="272 undergraduate problems in science and mathematics from MIT OpenCourseWare.",
            license="not stated by the repository",
            splits=("test",),
            columns="question, answer",
            answer_form="LaTeX or a number",
            repo="math-ai/minervamath",
        ),
        Source(
            key="olympiadbench",
            title="OlympiadBench",
            description="674 open-ended olympiad problems in mathematics, English, text only.",
            license="Apache-2.0",
            splits=("train",),  # the only one, although it is an evaluation set
            columns="context + question, final_answer, solution, id",
            answer_form="LaTeX; several values separated by commas",
            repo="Hothan/OlympiadBench",
            configs=("OE_TO_maths_en_COMP",),
        ),
        Source(
            key="mmlu_stem",
            title="MMLU-STEM",
            description="3,153 multiple-choice questions in science, technology, engineering and mathematics.",
            license="MIT",
            splits=("test",),
            columns="question + choices, answer (position of the choice)",
            answer_form="a letter, A to D",
            repo="TIGER-Lab/MMLU-STEM",
        ),
    )
}


def hub_rows(source: Source, split: str) -> Iterator[Row]:
    """The rows of a benchmark, from the Hub or from an earlier download on this computer.

    Reads data files only: `datasets` runs no code from a repository. Raises UserError without a connection and a
    copy, or when the repository is missing, gated or changed.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(f"{source.title} needs the package datasets; run: pip install datasets") from None
    try:
        with _offline_unless_reachable(datasets):
            parts = [datasets.load_dataset(source.repo, config, split=split) for config in source.configs]
    except datasets.exceptions.DatasetNotFoundError:
        raise UserError(
            f"{source.title} could not be downloaded: {source.repo} is no longer on the Hub, or needs a login; "
            "run hf auth login, or load a file of your own."
        ) from None
    except ConnectionError:
        no_hub, remedy = f"no connection to {urlsplit(datasets.config.HF_ENDPOINT).hostname}", "Connect"
        if datasets.config.HF_HUB_OFFLINE:
            no_hub, remedy = "HF_HUB_OFFLINE is set and there is no copy on this computer", "Unset it"
        raise UserError(
            f"{source.title} could not be downloaded: {no_hub}. {remedy}, or load a file of your own."
        ) from None
    except Exception as error:  # httpx, Arrow, file system and server errors: a dozen families, one message
        log.warning("loading %s from %s failed", source.key, source.repo, exc_info=True)
        reason = (str(error).splitlines() or [""])[0][:200]
        raise UserError(
            f"{source.title} could not be downloaded from {source.repo} ({type(error).__name__}: {reason}). "
            "Try again later, or load a file of your own."
        ) from None
    in_turn = (row for rows in itertools.zip_longest(*parts) for row in rows if row is not None)
    return enumerate(in_turn, 1)


@contextmanager
def _offline_unless_reachable(datasets) -> Iterator[None]:
    """Makes `datasets` read its cache at once without a connection; by itself it would retry for 24 seconds."""
    from huggingface_hub import get_session

    try:
        # any answer means a connection; with HF_HUB_OFFLINE set this raises, and `datasets` is offline anyway
        get_session().head(datasets.config.HF_ENDPOINT, timeout=HUB_SECONDS)
        reachable = True
    except Exception:
        reachable = False
    if reachable or datasets.config.HF_HUB_OFFLINE:
        yield
        return
    with datasets_offline():
        yield
