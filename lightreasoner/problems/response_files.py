"""Reads responses that something else wrote: the problem that each answers, its text or token ids, its prompt's ids."""

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lightreasoner.errors import UserError
from lightreasoner.formatting import plural
from lightreasoner.problems.cells import UnusableRow, cell_text, is_blank, row_cells
from lightreasoner.problems.conversations import stored_context
from lightreasoner.problems.files import file_rows
from lightreasoner.problems.response_rows import TURNS, find_responses
from lightreasoner.problems.rows import ID, Problem, read_row
from lightreasoner.problems.stream import MAX_CHARS, SHOWN, unused_id

MAX_BYTES = 10**13  # of a file named in a terminal, which is read line by line; uploads have a limit of their own
PROBLEM_ID = ("problem_id", "custom_id")


@dataclass(frozen=True)
class WrittenResponse:
    """A response of a file. Of `text` and `ids` at least one is given."""

    line: int
    problem: Problem
    sample: int  # of the problem's responses, from 0 in their order in the file
    text: str | None
    ids: list[int] | None
    prompt_ids: list[int] | None  # with which it was written
    prompt: str | None  # the text of that prompt; None where it is the question itself
    finish_reason: str | None  # "stop", "length", or None where neither is said
    apart: str | None  # the field with a part of the model's text that `text` lacks
    writer: str | None  # the model that the row names


MOST_READ = 512  # problems of a large file that stay in memory, of those that responses answer
LARGE = 5_000  # rows from which on a file's problems are read again where they are asked for


class KnownProblems:
    """The problems that responses may answer, by id, by question, and by the prompt that asks them.

    Of a file of more than LARGE rows that can be read one at a time, it keeps ids and hashes alone.
    """

    def __init__(
        self,
        title: str,
        problems: Iterable[Problem],
        prompt: Callable[[Problem], tuple[list[int], str]] | None = None,
        later: bool = False,
    ):
        """prompt: the ids and the text of a problem's prompt; without it prompts are not compared. later: prompts are
        compared on a later reading, so a row with a prompt alone passes for now. Raises UserError like the problems."""
        self.title, self._prompt, self._later = title, prompt, later
        self._by_id: dict[str, int] = {}  # → number of the problem
        self._by_question: dict[bytes, int] = {}
        self._by_prompt: dict[bytes, int] | None = None
        self._again: Callable[[int], Problem] | None = None
        self._kept: dict[int, Problem] = {}  # all of them, or of a large file those that were read last
        self._places: list[tuple[int, str, bool]] = []  # (row, id, whether its answer is known) of each
        for number, problem in enumerate(problems):  # a repeated question is the same problem under another id
            first = self._by_question.setdefault(_digest(_asked(problem)), number)
            self._by_question.setdefault(_digest(" ".join(problem.question.split())), number)
            self._by_id.setdefault(problem.id, first)
            self._kept[number] = problem
            self._places.append((getattr(problems, "row", number), problem.id, bool(problem.answer)))
            if number == LARGE and hasattr(problems, "reader"):
                self._again = problems.reader()
            if self._again:
                self._kept.clear()

    def _at(self, number: int) -> Problem:
        """Raises UserError where its file has changed."""
        if number not in self._kept:
            row, own, _ = self._places[number]
            while len(self._kept) >= MOST_READ:
                del self._kept[next(iter(self._kept))]
            self._kept[number] = replace(self._again(row), id=own)
        return self._kept[number]

    def __iter__(self) -> Iterator[Problem]:
        return map(self._at, dict.fromkeys(self._by_id.values()))

    def answered(self, limit: int | None = None) -> set[str]:
        """The ids of those of the first `limit` problems whose answer is known. Reads nothing again."""
        first = itertools.islice(dict.fromkeys(self._by_id.values()), limit)
        return {own for _, own, is_known in map(self._places.__getitem__, first) if is_known}

    def find(self, cells: dict, prompt_ids: list[int] | None, max_chars: int) -> Problem:
        """The problem that a row answers. Raises UnusableRow."""
        said = {name: cell_text(cells[name]) for name in (*PROBLEM_ID, *ID) if isinstance(cells.get(name), str | int)}
        said = {name: text for name, text in said.items() if text}
        by_id = [self._by_id.get(text, self._by_id.get(_clean(text))) for text in said.values()]
        by_id = [number for number in by_id if number is not None]
        try:
            asked = _problem(cells, max_chars)
        except UnusableRow:
            asked = None
        by_text = self._by_question.get(_digest(_asked(asked))) if asked else None
        if asked and by_text is None and all(turn.role == "system" for turn in asked.context):
            by_text = self._by_question.get(_digest(" ".join(asked.question.split())))
        if by_id and by_text is not None and by_id[0] != by_text:
            raise UnusableRow(f"its id is that of another problem of {self.title} than its question")
        if by_id or by_text is not None:
            found = self._at(by_id[0] if by_text is None else by_text)
            question = cells.get("question") or cells.get("problem")
            if by_text is None and isinstance(question, str) and not _same(question, found.question):
                raise UnusableRow(f"its question is not that of the problem {found.id} of {self.title}, which it names")
            return found if prompt_ids or asked is None else self._as_asked(found, asked, cells)
        if found := self._by_its_prompt(cells, prompt_ids):
            return found
        if not said and asked is None and not prompt_ids:
            raise UnusableRow("it names no problem; give problem_id or question")
        named = next(iter(said.items()), None)
        shown = f" ({named[0]} {''.join(filter(str.isprintable, named[1]))[:40]!r})" if named else ""
        raise UnusableRow(f"it answers a problem that {self.title} does not have{shown}")

    def _as_asked(self, found: Problem, asked: Problem, cells: dict) -> Problem:
        """The problem after the turns with which a row asks it: they, too, were in the prompt."""
        turns = next((name for name in (*TURNS, "prompt") if isinstance(cells.get(name), list)), None)
        if turns is None or (self._prompt is None and not self._later):
            return found
        if not _same(asked.question, found.question):
            raise UnusableRow(
                f"its {turns} ask the problem {found.id} of {self.title} in other words than it has; record "
                "prompt_token_ids, which then count"
            )
        return replace(found, context=asked.context)

    def _by_its_prompt(self, cells: dict, prompt_ids: list[int] | None) -> Problem | None:
        """The problem whose prompt, as this software writes it, a row records as ids or text."""
        text = cells.get("prompt")
        if self._later and (prompt_ids is not None or isinstance(text, str)):
            return Problem("?", "?")
        if self._prompt is None or (prompt_ids is None and not isinstance(text, str)):
            return None
        if self._by_prompt is None:
            self._by_prompt = {}
            for number in dict.fromkeys(self._by_id.values()):
                problem = self._at(number)
                try:
                    ids, written = self._prompt(problem)
                except UserError:  # a problem that makes no prompt is said where a response answers it
                    continue
                self._by_prompt |= {_digest(str(ids)): number, _digest(written): number}
        number = self._by_prompt.get(_digest(text if prompt_ids is None else str(prompt_ids)))
        return None if number is None else self._at(number)


class ResponseFile:
    """The responses of a file, one at a time in constant memory, however often it is iterated.

    `problems`: those of a set; None where each row holds its own problem. `accept` makes of a response what is
    yielded, and may raise UnusableRow; so may a response that repeats another.

    After an iteration `count` responses were usable, of `rows`, and `skipped` has (line, reason) of the first others.
    It raises UserError for a file that cannot be read, at the end where nothing was usable, and where a row could not
    be used and `skip_unreadable` is False.
    """

    def __init__(
        self,
        path: str | Path,
        problems: KnownProblems | None = None,
        *,
        limit: int | None = None,
        max_bytes: int = MAX_BYTES,
        max_chars: int = MAX_CHARS,
        skip_unreadable: bool = False,
    ):
        self.path, self.title = Path(path), Path(path).name[:80]
        self._problems, self._limit, self._max_bytes, self._max_chars = problems, limit, max_bytes, max_chars
        self._skip_unreadable = skip_unreadable
        self.unit, self.rows, self.count, self.left_out, self.skipped = "line", 0, 0, 0, []

    def __iter__(self) -> Iterator[WrittenResponse]:
        return self.accepted(lambda response: response)

    def accepted(self, accept: Callable[[WrittenResponse], Any]) -> Iterator[Any]:
        """What `accept` makes of each response. It may raise UnusableRow."""
        self.unit, rows = file_rows(self.path, max_bytes=self._max_bytes)
        self.rows, self.count, self.left_out, self.skipped = 0, 0, 0, []
        own = None if self._problems else _OwnProblems(self._max_chars)
        samples: dict[str, int] = {}  # problem → its responses so far
        seen: dict[int, int] = {}  # response → its line
        for line, row in rows:
            if self._limit is not None and self.rows >= self._limit:
                break
            self.rows += 1
            try:
                if isinstance(row, str):
                    raise UnusableRow(row)
                for response in self._responses(line, row, own, seen):
                    sample = samples.get(response.problem.id, 0)
                    made = accept(replace(response, sample=sample))
                    samples[response.problem.id] = sample + 1
                    self.count += 1
                    yield made
            except UnusableRow as reason:
                self.left_out += 1
                if len(self.skipped) < 10:
                    self.skipped.append((line, str(reason)))
        self._report()

    def _responses(self, line: int, row: dict, own: Any, seen: dict[int, int]) -> Iterator[WrittenResponse]:
        cells, names = row_cells(row)
        found, rest = find_responses(cells, names)
        problem = None
        for each in found:
            if problem is None and own:
                problem = own.find(rest, line)
            elif problem is None:
                problem = self._problems.find(rest, each.prompt_ids, self._max_chars)
            prompt = rest.get("prompt")
            recorded = isinstance(prompt, str) and not is_blank(prompt) and not _same(prompt, problem.question)
            key = (problem.id, each.text if each.ids is None else each.ids, each.prompt_ids, each.number)
            key = int.from_bytes(_digest(repr(key))[:8])
            if key in seen:
                which = f"{self.unit} {seen[key]}" if seen[key] != line else "the same row"
                raise UnusableRow(
                    f"it repeats the response in {which} to the problem {problem.id}; remove one, or number the "
                    "samples of a problem in a column `sample`"
                )
            seen[key] = line
            writer = rest.get("model")
            yield WrittenResponse(
                *(line, problem, 0, each.text, each.ids, each.prompt_ids),
                prompt=prompt if recorded and not each.prompt_ids else None,
                finish_reason=each.finish_reason,
                apart=each.apart,
                writer=writer[:120] if isinstance(writer, str) and writer.isprintable() else None,
            )

    def _report(self) -> None:
        if not self.rows:
            raise UserError(f"{self.title} holds no rows; it must hold at least one response.")
        if not self.count:
            line, reason = self.skipped[0]
            raise UserError(
                f"None of the {self.rows:,} rows of {self.title} can be used; {self.unit} {line}: {reason}."
            )
        if self.left_out and not self._skip_unreadable:
            raise UserError(
                f"{self.reasons()} Correct the file, or say that the rest ({self.count:,}) is to be used: "
                "--skip-unreadable, on the page the box under the file."
            )

    def reasons(self) -> str:
        """A sentence on the rows that cannot be used, with the first reasons."""
        shown = "; ".join(f"{self.unit} {line}: {reason}" for line, reason in self.skipped[:SHOWN])
        rows = plural(self.left_out, "row")
        return f"{rows} of {self.title} cannot be used: {shown}{'; …' if self.left_out > SHOWN else ''}."


class _OwnProblems:
    """The problems of a file whose rows hold problem and response."""

    def __init__(self, max_chars: int):
        self._max_chars = max_chars
        self._known: dict[bytes, tuple[str, int, str | None]] = {}  # question → (id, line, answer)
        self._taken: dict[str, int] = {}  # id → line

    def find(self, cells: dict, line: int) -> Problem:
        problem = _problem(cells, self._max_chars)
        key = _digest(_asked(problem))
        if key not in self._known:
            stated = cell_text(cells.get("problem_id"))
            if stated and (before := self._taken.get(_clean(stated))):
                raise UnusableRow(f"its problem_id is that of another question, in line {before}")
            own = unused_id(problem, self._taken)
            self._known[key], self._taken[own] = (own, line, problem.answer), line
        own, first, answer = self._known[key]
        if problem.answer and answer and problem.answer != answer:
            raise UnusableRow(f"its answer differs from that of the same question in line {first}")
        return replace(problem, id=own, answer=problem.answer or answer)


def _problem(cells: dict, max_chars: int) -> Problem:
    """The problem in the cells of a row that are not its response. Raises UnusableRow."""
    context = cells.get("context")
    turns = ()
    if isinstance(context, str) and context.startswith('[["'):  # as this software stores it
        try:
            turns = stored_context(context)
        except (ValueError, TypeError):
            raise UnusableRow("its context is no list of turns") from None
        cells = {name: value for name, value in cells.items() if name != "context"}
    for name in reversed(PROBLEM_ID):
        if not is_blank(cells.get(name)):
            cells = cells | {"id": cells[name]}
    problem, _ = read_row(cells, max_chars=max_chars)
    return replace(problem, context=turns or problem.context)


def _asked(problem: Problem) -> str:
    return "".join(f"{turn.role}\0{turn.text}\0" for turn in problem.context) + problem.question


def _same(one: str, other: str) -> bool:
    """Whether two texts ask the same, one of them perhaps with its choices, whatever their spaces."""
    one, other = (" ".join(text.split()) for text in (one, other))
    return one == other or other.startswith(one)


def _clean(id: str) -> str:
    return re.sub(r"[^\w.-]+", "-", id).strip("-.")


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16]
