"""Responses that something else wrote, as rows for the sampler: their token ids and prompts, checked against a pair."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

from lightreasoner.decoding.batch_decoder import common_prefix
from lightreasoner.decoding.generate import GenerationRow, Given
from lightreasoner.errors import UserError
from lightreasoner.models.context_length import check_context
from lightreasoner.models.pairs import Pair
from lightreasoner.models.prompt_settings import PromptSettings
from lightreasoner.models.prompts import control_tokens, prompt_ids, render, response_ids
from lightreasoner.models.turn_ends import ResponseEnds
from lightreasoner.problems.cells import UnusableRow
from lightreasoner.problems.response_files import ResponseFile, WrittenResponse
from lightreasoner.problems.rows import Problem
from lightreasoner.sampling.plan import Skipped

WRITERS = 5  # models named by a file that the record lists


@dataclass
class Origin:
    """Where the responses of a dataset come from, for its record and card; all counts are of responses."""

    file: str
    responses: int = 0
    texts: int = 0  # given as text, which was tokenised anew
    recorded_prompts: int = 0  # whose prompt's ids the file has; else the prompt is the one that this software writes
    other_prompts: int = 0  # of these: other ids than this software would write; the recorded ones count
    past_the_end: int = 0  # cut after the end of their turn
    writers: tuple[str, ...] = ()  # models that the file names


class GivenPrompts:
    """The responses of a file as rows of a pair, with what `Prompts` offers for problems. It can be iterated again.

    `check` reads all of them once. `stop`: texts that end a response, besides the ends of the expert's turn.
    """

    doing = "Scoring"

    def __init__(self, pair: Pair, responses: ResponseFile, prompt: PromptSettings, stop: tuple[str, ...]):
        self._pair, self._responses, self._prompt, self._stop = pair, responses, prompt, stop
        self._vocabulary = min(len(pair.expert.tokenizer), pair.expert.model.get_input_embeddings().weight.shape[0])
        self._control = control_tokens(pair.expert.tokenizer)
        self.unreadable = 0  # `Prompts` counts problems that do not fit; here they are among the file's skipped rows
        self.origin = Origin(responses.title)

    def __iter__(self) -> Iterator[GenerationRow]:
        """One item per response. Raises UserError like ResponseFile."""
        before = self.origin.responses
        self.origin = Origin(self._responses.title, before)
        return self._responses.accepted(self._row)

    @property
    def responses(self) -> int:
        """The usable responses, once all were read."""
        return self.origin.responses

    def check(self, checkpoint: Callable[[], None]) -> dict:
        """Read all responses: where they come from. Raises UserError before anything is scored."""
        count = 0
        for _ in self:
            checkpoint()
            count += 1
        self.origin.responses = count
        return asdict(self.origin)

    def skipped(self) -> Skipped:
        """What was left out so far."""
        reasons = (f"{self._responses.unit} {line}: {reason}" for line, reason in self._responses.skipped)
        return Skipped(self._responses.left_out, 0, 0, tuple(reasons))

    def _row(self, response: WrittenResponse) -> GenerationRow:
        """Raises UnusableRow."""
        ids = self._ids(response)
        try:
            prompt, amateur_prompt, recorded, other = self._prompts(response)
            longest, across = max(len(prompt), len(amateur_prompt)), self._pair.across
            check_context((self._pair.expert, self._pair.amateur), longest, len(ids), 0)
            if across:
                check_context([self._pair.amateur], len(amateur_prompt), across.length(ids), 0)
        except UserError as error:
            raise UnusableRow(str(error).removesuffix(".")) from None
        origin = self.origin
        origin.texts += response.ids is None
        origin.recorded_prompts += recorded
        origin.other_prompts += other
        ends = ResponseEnds(self._pair.expert, self._stop)
        end = next((n for n, id in enumerate(ids, 1) if ends.ended(id)), len(ids))
        origin.past_the_end += end < len(ids)
        if response.writer and response.writer not in origin.writers and len(origin.writers) < WRITERS:
            origin.writers = (*origin.writers, response.writer)
        said = response.finish_reason or ("given" if response.ids is None else None)  # of a text nobody knows
        given = Given(ids[:end], said if end == len(ids) else None)
        return GenerationRow(response.problem, response.sample, prompt, amateur_prompt, given)

    def _ids(self, response: WrittenResponse) -> list[int]:
        """The expert's ids of a response. Raises UnusableRow."""
        if response.ids is not None:
            self._check_ids(response.ids, "token ids")
            if response.text is not None and not self._spells(response.ids, response.text):
                raise UnusableRow(
                    f"its token ids do not spell its text in the tokenizer of {self._pair.expert.ref}; the model that "
                    "wrote it has another tokenizer"
                )
            return response.ids
        text = response.text
        if response.apart:
            raise UnusableRow(
                f"its {response.apart} is apart from its text, so what the model wrote in full is not known; record "
                "token_ids"
            )
        if "\ufffd" in text:
            raise UnusableRow(
                "its text holds \ufffd in place of bytes that were no whole character, so its tokens are not known; "
                "record token_ids"
            )
        body = text
        for end in self._pair.expert.end_ids:  # at the very end it is the end of the turn
            body = body.removesuffix(self._pair.expert.tokenizer.decode([end]))
        if present := [token for token in self._control if token in body]:
            raise UnusableRow(
                f"its text holds {present[0]!r}, a control token of {self._pair.expert.ref}, and whether the token or "
                "its letters were written is not known; record token_ids"
            )
        try:
            ids = response_ids(self._pair.expert, text)
        except UserError:
            raise UnusableRow("its text has no tokens") from None
        back = self._pair.expert.tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        if back != text:
            at = len(common_prefix([list(back), list(text)]))
            raise UnusableRow(
                f"its text does not come back from its tokens (character {at + 1} is {text[at : at + 1]!r} and becomes "
                f"{back[at : at + 1]!r}), so these are not what was written; record token_ids"
            )
        return ids

    def _check_ids(self, ids: list[int], what: str) -> None:
        if wrong := next((id for id in ids if id >= self._vocabulary), None):
            raise UnusableRow(
                f"its {what} hold {wrong:,}, outside the vocabulary of {self._pair.expert.ref}, which has "
                f"{self._vocabulary:,} tokens"
            )

    def _spells(self, ids: list[int], text: str) -> bool:
        """Whether token ids give a text, which may lack control tokens, a stop string, or thoughts before it."""
        decode = self._pair.expert.tokenizer.decode
        whole = ("".join(decode(ids, skip_special_tokens=skip).split()) for skip in (False, True))
        wanted = "".join(text.replace("\ufffd", "").split())
        return any(wanted in found.replace("\ufffd", "") for found in whole)

    def _prompts(self, response: WrittenResponse) -> tuple[list[int], list[int], bool, bool]:
        """(expert's prompt, amateur's, whether it was recorded, with other ids than this software writes)."""
        problem, pair = response.problem, self._pair
        asked = (problem.question, self._prompt, problem.context)
        recorded = response.prompt_ids
        try:
            own = render(pair.expert.tokenizer, str(pair.expert.ref), *asked)
        except UserError:
            if recorded is None:
                raise
            own = None
        if recorded is None and response.prompt is not None and response.prompt != own.text:
            raise UnusableRow(
                "its prompt is neither the problem's question nor the prompt that this software writes for it; record "
                "prompt_token_ids, which then count"
            )
        if recorded is not None:
            self._check_ids(recorded, "prompt's ids")
        other = recorded is not None and (own is None or recorded != own.ids)
        prompt = recorded if other else own.ids
        if pair.same_special_tokens:
            return prompt, prompt, recorded is not None, other
        if other and pair.across:
            raise UnusableRow(
                "its prompt is recorded in the expert's ids and is not the one that this software writes, so what the "
                "amateur, which has another tokenizer, should read is not known; leave the prompt out"
            )
        amateur = pair.alignment.retokenize(prompt)[0] if other else prompt_ids(pair.amateur, *asked)
        return prompt, amateur, recorded is not None, other


def prompt_lines(expert: str, problems: Iterator[Problem], settings: PromptSettings) -> Iterator[dict]:
    """What another program needs to write responses to these problems: problem_id, question, prompt_token_ids, prompt.

    Loads the expert's tokenizer only. Raises UserError.
    """
    from lightreasoner.models.loading import load_tokenizer
    from lightreasoner.models.prompts import settle_date

    tokenizer = load_tokenizer(expert)
    settings = settle_date(settings, [tokenizer])
    for problem in problems:
        found = render(tokenizer, expert, problem.question, settings, problem.context)
        line = {"problem_id": problem.id, "question": problem.question, "prompt_token_ids": found.ids}
        yield line | {"prompt": found.text}
