"""The shared vocabulary of two tokenizers, and how ids of one become ids of the other."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lightreasoner.errors import UserError
from lightreasoner.models.turn_ends import turn_end_id

SHOWN = 5  # differences that an error message names


@dataclass(frozen=True, eq=False)
class VocabularyAlignment:
    """The vocabulary that two models share, as ids 0 … size − 1, and the ids of both models in it.

    Without index tensors, a shared id is the id in both models. Otherwise shared id i is expert id `expert_ids[i]`, in
    ascending order, and amateur id `amateur_ids[i]`.
    """

    size: int
    expert_ids: torch.Tensor | None = None  # (size,)
    amateur_ids: torch.Tensor | None = None  # (size,)
    #: The amateur's ids for each expert id that is not shared; under −1, for ids that no token has.
    replacements: dict[int, tuple[int, ...]] = field(default_factory=dict, repr=False)
    expert_list: list[int] = field(default_factory=list, repr=False)  # expert_ids for single look-ups
    amateur_list: list[int] = field(default_factory=list, repr=False)
    #: The expert's device, on which the two are compared; None: both models' logits lie on one.
    place: torch.device | None = None

    def expert(self, logits: torch.Tensor) -> torch.Tensor:
        """The expert's logits (..., rows) over the shared vocabulary: (..., size)."""
        return logits[..., : self.size] if self.expert_ids is None else _pick(logits, self.expert_ids)

    def amateur(self, logits: torch.Tensor) -> torch.Tensor:
        """The amateur's logits (..., rows) over the shared vocabulary, on the expert's device: (..., size)."""
        shared = logits[..., : self.size] if self.amateur_ids is None else _pick(logits, self.amateur_ids)
        return shared if self.place is None else shared.to(self.place)

    def to_shared(self, expert_id: int) -> int | None:
        """The shared id of an expert's token; None for a token that the amateur lacks."""
        if self.expert_ids is None:
            return expert_id if 0 <= expert_id < self.size else None
        index = bisect_left(self.expert_list, expert_id)
        return index if index < self.size and self.expert_list[index] == expert_id else None

    def to_expert(self, shared_id: int) -> int:
        """The expert's id of a shared token."""
        return shared_id if self.expert_ids is None else self.expert_list[shared_id]

    def retokenize(self, expert_ids: list[int]) -> tuple[list[int], list[int]]:
        """The amateur's ids of the expert's tokens, and for each of these tokens the index of its last amateur id.

        A shared token becomes one id. Any other becomes the ids of its text in the amateur's tokenizer, at least one.
        """
        ids, ends = [], []
        for id in expert_ids:
            shared = self.to_shared(id)
            if shared is None:
                ids += self.replacements.get(id) or self.replacements[-1]
            else:
                ids.append(shared if self.amateur_ids is None else self.amateur_list[shared])
            ends.append(len(ids) - 1)
        return ids, ends

    def retokenize_chunk(self, unread: list[int], expert_ids: list[int]) -> tuple[list[int], list[int], list[int]]:
        """What the amateur reads next to predict each token of a chunk of the response.

        unread: amateur ids before the chunk that it has not read. Returns the ids to read, the position among them
        whose logits predict each token, and the ids of the last token, which stay unread.
        """
        ids, ends = self.retokenize(expert_ids)
        last = ends[-2] + 1 if len(ends) > 1 else 0  # where the last token begins
        # The first token is predicted after the last unread id, token n after the last id of token n − 1.
        positions = [len(unread) + end for end in (-1, *ends[:-1])]
        return unread + ids[:last], positions, ids[last:]

    def to_devices(self, expert_device: torch.device, amateur_device: torch.device) -> VocabularyAlignment:
        """The same with each index tensor on its model's device, so that no step has to move it, for models that may
        lie on two devices."""
        place = None if expert_device == amateur_device else expert_device
        if self.expert_ids is None:
            return replace(self, place=place)
        ids = self.expert_ids.to(expert_device), self.amateur_ids.to(amateur_device)
        return replace(self, expert_ids=ids[0], amateur_ids=ids[1], place=place)


def align_vocabularies(
    expert_tokenizer: Any, amateur_tokenizer: Any, expert_rows: int | None = None, amateur_rows: int | None = None
) -> VocabularyAlignment:
    """The shared vocabulary of two tokenizers. `*_rows`: rows of the models' output embeddings, if known.

    Ordinary tokens must have the same ids in both. Added tokens, such as control tokens, are shared if both tokenizers
    have them, even under different ids. The two end-of-turn tokens are shared if the amateur lacks the expert's.
    Raises UserError with the first differences when ordinary tokens differ.
    """
    expert, amateur = (
        {token: id for token, id in tokenizer.get_vocab().items() if rows is None or id < rows}
        for tokenizer, rows in ((expert_tokenizer, expert_rows), (amateur_tokenizer, amateur_rows))
    )
    if expert == amateur and set(expert.values()) == set(range(len(expert))):
        return VocabularyAlignment(len(expert), replacements={-1: _unknown(amateur_tokenizer)})
    only = expert.items() - amateur.items(), amateur.items() - expert.items()
    expert_added = _refuse_ordinary(*only, expert_tokenizer, amateur_tokenizer)
    pairs = {id: id for _, id in expert.items() & amateur.items()}
    known = amateur_tokenizer.added_tokens_decoder
    pairs |= {id: amateur[token] for token, id in expert_added.items() if amateur.get(token) in known}
    by_template = turn_end_id(expert_tokenizer), turn_end_id(amateur_tokenizer)
    for end, other in (by_template, (expert_tokenizer.eos_token_id, amateur_tokenizer.eos_token_id)):
        if end not in pairs and end in expert_added.values() and other in amateur.values():
            pairs = {e: a for e, a in pairs.items() if a != other} | {end: other}
    if not pairs:
        raise UserError("The two tokenizers share no token; choose an amateur of the expert's own family.")
    expert_list = sorted(pairs)
    amateur_list = [pairs[id] for id in expert_list]
    replacements = {-1: _unknown(amateur_tokenizer)}
    for token, id in expert_added.items():
        if id not in pairs:
            replacements[id] = tuple(amateur_tokenizer(token, add_special_tokens=False)["input_ids"])
    if expert_list == amateur_list == list(range(len(pairs))):
        return VocabularyAlignment(len(pairs), replacements=replacements)
    tensors = torch.tensor(expert_list), torch.tensor(amateur_list)
    return VocabularyAlignment(len(pairs), *tensors, replacements, expert_list, amateur_list)


def _refuse_ordinary(expert_only: set, amateur_only: set, expert: Any, amateur: Any) -> dict[str, int]:
    """The added tokens that the amateur lacks under the same id. Raises UserError if ordinary tokens differ."""
    added = expert.added_tokens_decoder
    differing = {
        id
        for only, known in ((expert_only, added), (amateur_only, amateur.added_tokens_decoder))
        for token, id in only
        if id not in known and token != f"[PAD{id}]"  # the name of a padding row in GGUF files
    }
    if not differing:
        return {token: id for token, id in expert_only if id in added}
    texts = [{id: token for token, id in only} for only in (expert_only, amateur_only)]
    shown = "; ".join(
        f"{id}: {texts[0].get(id, 'nothing')!r} and {texts[1].get(id, 'nothing')!r}" for id in sorted(differing)[:SHOWN]
    )
    raise UserError(
        f"Their tokenizers differ in {len(differing):,} ordinary tokens (id: expert's and amateur's): {shown}. "
        "The same id must mean the same token in both; choose an amateur of the expert's own family."
    )


def _pick(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    return logits.index_select(-1, ids.to(logits.device))


def _unknown(tokenizer: Any) -> tuple[int, ...]:
    """The ids that replace an id without a token, in case a model chooses a padding row of its embeddings."""
    return tuple(tokenizer("\ufffd", add_special_tokens=False)["input_ids"]) or (0,)


def added_tokens(tokenizer: Any) -> set[tuple[int, str]]:
    """The (id, text) of the tokens that were added to a tokenizer's vocabulary, such as control tokens."""
    return {(id, token.content) for id, token in tokenizer.added_tokens_decoder.items()}
