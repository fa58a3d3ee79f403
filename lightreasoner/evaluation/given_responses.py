"""Grades responses that something else wrote, without any model: an evaluation of its own, from a file of responses."""

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa

from lightreasoner.errors import UserError
from lightreasoner.evaluation.results import SCHEMA, Variant, answer_row, shard, write_results, write_shard
from lightreasoner.evaluation.summaries import Summary
from lightreasoner.formatting import plural
from lightreasoner.grading.grading import grade
from lightreasoner.jobs.context import job_context
from lightreasoner.models.loading import known_ends, load_tokenizer
from lightreasoner.models.prompt_settings import PAPER, PromptSettings
from lightreasoner.models.prompts import render
from lightreasoner.models.turn_ends import finished_text
from lightreasoner.problems.cells import UnusableRow
from lightreasoner.problems.response_files import KnownProblems, ResponseFile, WrittenResponse
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.stream import MAX_ROWS, file_fingerprint, open_problems, source_fingerprint
from lightreasoner.progress import Progress
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import begin_run, versions
from lightreasoner.validation import number

BATCH = 512  # responses per file of answers


@dataclass(frozen=True)
class GradingJob:
    """Which file of responses is graded, against which problems."""

    run_dir: Path
    responses: str
    problems: str | None  # a source or a file; None: those in the file of responses
    model: str | None = None  # whose tokenizer reads token ids without a text; else a name for the writer
    split: str | None = None  # of a benchmark; None: its test split
    limit: int | None = None  # the first problems, or without --problems the first rows
    prompt: PromptSettings = PAPER
    stop: tuple[str, ...] = ()
    skip_unreadable: bool = False

    @property
    def title(self) -> str:
        return f"Grade {Path(self.responses).name[:60]}"


@dataclass
class _Counts:
    answered: set[str]  # ids of the problems with a known answer
    without: set[str]  # ids of those without one
    writers: list[str]  # who wrote the responses, as far as named
    responses: int = 0


def grade_responses(job: GradingJob, settings: Settings) -> tuple[list[Summary], list[str]]:
    """(the results, sentences on what was left out) of grading the job's file; the run folder holds an evaluation.

    Raises UserError, StopRequested.
    """
    if job.limit is not None:
        number("--limit", job.limit, 1, MAX_ROWS, whole=True)
    fingerprints = {"file of responses": file_fingerprint(Path(job.responses))}
    if job.problems:
        fingerprints["file of problems"] = source_fingerprint(job.problems)
    with job_context(job.run_dir, "evaluate", settings, title=job.title, accelerator=False) as progress:
        progress.status("Reading the problems")
        known, reader = None, _TokenReader(job)
        limits = {"max_chars": settings.max_problem_chars, "skip_unreadable": job.skip_unreadable}
        if job.problems:
            stream = open_problems(job.problems, split=job.split, **limits)
            known = KnownProblems(stream.title, stream, reader.prompt if job.model else None)
        wanted = known.answered(job.limit) if known else None
        if known and not wanted:
            raise UserError(f"None of the problems of {known.title} has a known answer, so nothing can be graded.")
        found = ResponseFile(job.responses, known, limit=None if known else job.limit, **limits)
        progress.status("Reading the responses")
        counts = _count(found, reader, progress)  # a mistake in the last row shows before anything is written
        graded = counts.answered & (wanted or counts.answered)
        if not graded:
            raise UserError(f"None of the problems that {found.title} answers has a known answer; add --problems.")
        name = job.model or (counts.writers[0] if len(counts.writers) == 1 else found.title)
        left = _left_out(found, len(wanted - counts.answered) if wanted else 0, len(counts.without))
        about = {"problems": len(graded), "models": [name], "prompt": {"opening": reader.opening}}
        about |= {"fingerprints": fingerprints, "versions": versions(), "left out": left}
        begin_run(job.run_dir, "evaluation", _config(job, name, found.title), about)
        progress.status("Grading")
        _write_graded(
            job.run_dir, found.accepted(lambda one: reader.row(one, name, wanted)), counts.responses, progress
        )
        summaries = write_results(job.run_dir, [Variant(name)])
        progress.result(pass_at_1=round(summaries[0].pass_at_1, 4))
    return summaries, left


def _count(found: ResponseFile, reader: "_TokenReader", progress: Progress) -> _Counts:
    counts, writers = _Counts(set(), set(), []), {}
    for response, *_ in found.accepted(reader.text):
        progress.checkpoint()
        (counts.answered if response.problem.answer else counts.without).add(response.problem.id)
        writers.setdefault(response.writer)
        counts.responses += 1
    counts.writers = [writer for writer in writers if writer]
    return counts


def _config(job: GradingJob, name: str, responses: str) -> dict:
    """The settings in run.json. name: of the model; responses: the title of their file."""
    config = {"model": name, "base": True, "adapters": [], "problems": job.problems or responses}
    config |= {"responses": responses, "split": job.split, "limit": job.limit}
    config |= {"prompt": prompt} if (prompt := job.prompt.as_json()) else {}
    return config | ({"stop": list(job.stop)} if job.stop else {})


def _write_graded(run_dir: Path, graded: Iterable[dict | None], total: int, progress: Progress) -> None:
    """Write the graded rows, BATCH to a file. total: the responses, for the progress."""
    rows = (row for row in graded if row)
    done = right = 0
    for batch in itertools.count():
        part = []
        for row in itertools.islice(rows, BATCH):
            progress.checkpoint()
            part.append(row)
        if not part:
            return
        write_shard(shard(run_dir, 0, batch), pa.Table.from_pylist(part, SCHEMA))
        done, right = done + len(part), right + sum(row["right"] for row in part)
        progress.update(done, total, model=part[0]["model"], pass_at_1=right / done)


class _TokenReader:
    """Makes texts of token ids with a model's tokenizer, if one is named, and graded rows of both."""

    def __init__(self, job: GradingJob):
        """Raises UserError for a model without a tokenizer here."""
        self._job, self.opening, self._like = job, job.prompt.prefix, None

    def _loaded(self) -> Any:
        """What finished_text needs of a model, without its weights."""
        if self._like is None:
            ends = known_ends(self._job.model)
            ids = frozenset(end.id for end in ends if end.id is not None)
            texts = tuple(end.text for end in ends if end.id is None)
            self._like = SimpleNamespace(tokenizer=load_tokenizer(self._job.model), end_ids=ids, end_texts=texts)
        return self._like

    def prompt(self, problem: Problem) -> tuple[list[int], str]:
        """The ids and the text of a problem's prompt. Raises UserError."""
        found = render(self._loaded().tokenizer, self._job.model, problem.question, self._job.prompt, problem.context)
        return found.ids, found.text

    def text(self, response: WrittenResponse) -> tuple[WrittenResponse, str, str | None]:
        """(the response, its text without the end of its turn, why it ended). Raises UnusableRow."""
        if response.text is not None:
            return response, response.text, response.finish_reason
        if not self._job.model:
            raise UnusableRow("it has token ids and no text, so grading needs their tokenizer; name it with --model")
        loaded = self._loaded()
        if wrong := next((id for id in response.ids if id >= len(loaded.tokenizer)), None):
            raise UnusableRow(
                f"its token ids hold {wrong:,}, outside the vocabulary of {self._job.model}, which has "
                f"{len(loaded.tokenizer):,} tokens"
            )
        return response, *finished_text(loaded, response.ids, self._job.stop)

    def row(self, response: WrittenResponse, name: str, wanted: set[str] | None) -> dict | None:
        """A row of SCHEMA; None for a problem that is not asked for or has no answer. Raises UnusableRow."""
        problem = response.problem
        _, text, reason = self.text(response)
        if not problem.answer or (wanted is not None and problem.id not in wanted):
            return None
        graded = grade(self.opening + text, problem.answer)
        given = {"response_ids": response.ids, "response": text, "finish_reason": reason, "sample": response.sample}
        return answer_row(name, problem, graded, **given, seconds=0.0)


def _left_out(found: ResponseFile, unanswered: int, without: int) -> list[str]:
    """What of the problems and the file does not count."""
    sentences = []
    if unanswered:
        sentences.append(f"Left out: {plural(unanswered, 'problem')} without a response in {found.title}.")
    if without:
        sentences.append(f"Left out: {plural(without, 'problem')} without a known answer.")
    if found.left_out:
        reasons = "; ".join(f"{found.unit} {line}: {reason}" for line, reason in found.skipped[:3])
        sentences.append(f"Left out: {plural(found.left_out, 'row')} of {found.title}, unusable: {reasons}.")
    return sentences
