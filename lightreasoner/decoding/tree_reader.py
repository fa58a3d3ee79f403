"""Sequences of one model, side by side, of which each also reads branches from any place of it, all in one pass.

Each branch sees its sequence up to where it leaves it and its own tokens. The cache keeps the sequences only.
"""

from __future__ import annotations

import copy
from collections.abc import Generator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from weakref import WeakSet

import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.forward_pass import APART, PADDED, forward, reading_of
from lightreasoner.decoding.kv_cache import PreallocatedCacheLayer, preallocated_cache
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel

TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}  # nats, largest |Δ log p| weighted by p
MOST_LOGITS = 1 << 27  # of branches that are read at once
TEXT = "Tom has 3 apples and buys 4 more."

_CHECKED: WeakSet[Any] = WeakSet()  # models whose continuations are read right


Result = TypeVar("Result")


@dataclass(frozen=True)
class Continuation:
    """What to read next of a sequence. Its answer are logits (keep + branches, output rows)."""

    drop: int  # last tokens that are forgotten first
    ids: list[int]  # the next tokens of the sequence
    keep: int  # how many of the last of them have logits
    #: (place, token): the token comes after the sequence's token at this place; at −1 − n, after the n-th branch.
    branches: list[tuple[int, int]] = field(default_factory=list)


Asking = Generator[Continuation, torch.Tensor, Result]


def answer_all(asking: dict[int, Asking[Result]], trees: TreeBatch | TreesApart) -> dict[int, Result]:
    """Give generators the logits that they ask for, and return their results. Keys: places of the sequences."""
    results, logits = {}, dict.fromkeys(asking)
    while logits:
        wanted = {}
        for row, found in logits.items():
            try:
                wanted[row] = asking[row].send(found)
            except StopIteration as ended:
                results[row] = ended.value
        logits = trees.follow(wanted) if wanted else {}
    return results


def read_trees(loaded: LoadedModel, prompts: list[list[int]], apart: bool) -> TreeBatch | TreesApart:
    """The sequences that begin with these tokens. apart: each is read by itself; so are those of a model that must."""
    return (TreesApart if apart or reading_of(loaded).many == APART else TreeBatch)(loaded, prompts)


class TreeBatch(BatchDecoder):
    """A sequence is named by its place among the rows."""

    def __init__(self, loaded: LoadedModel, prompts: list[list[int]]):
        reading = reading_of(loaded)  # one row has no padding
        super().__init__(loaded, len(prompts), replace(reading, many=PADDED) if reading.many == APART else reading)
        self.prefill(prompts)
        self._history = None  # columns that are padding inside a row are told by `visible`

    @torch.inference_mode()
    def follow(self, wanted: dict[int, Continuation]) -> dict[int, torch.Tensor]:
        """Read continuations of some rows; their logits. All in one pass, unless most rows have no branches or the
        logits would take too much memory: then the branches are read from copies of their rows."""
        self._drop({row: one.drop for row, one in wanted.items() if one.drop})
        beside = [row for row, one in wanted.items() if one.branches]
        width = max((len(wanted[row].branches) for row in beside), default=1)
        size = max(1, MOST_LOGITS // (width * self.loaded.model.get_output_embeddings().weight.shape[0]))
        if len(self._mask) <= min(size, 2 * len(beside)):
            return self._read(wanted)
        found = self._read({row: replace(one, branches=[]) for row, one in wanted.items()})
        for start in range(0, len(beside), size):
            rows = beside[start : start + size]
            asked = {n: Continuation(0, [], 0, wanted[row].branches) for n, row in enumerate(rows)}
            for row, more in zip(rows, self._part(rows)._read(asked).values(), strict=True):
                found[row] = torch.cat([found[row], more])
        return found

    def _part(self, rows: list[int]) -> TreeBatch:
        """Copies of some rows."""
        other, index = copy.copy(self), torch.tensor(rows, device=self.loaded.device)
        other._mask, other._length = self._mask[index], self._length[index]
        other.cache = preallocated_cache(self.loaded.model.config)
        for own, layer in zip(other.cache.layers, self.cache.layers, strict=True):
            own.take(layer, index)
        return other

    def _read(self, wanted: dict[int, Continuation]) -> dict[int, torch.Tensor]:
        """`follow` in one pass, where nothing is dropped."""
        chain = max(len(one.ids) for one in wanted.values())
        beside = max(len(one.branches) for one in wanted.values())
        start = min((len(one.ids) - one.keep for one in wanted.values() if one.keep), default=chain)
        if not chain + beside:
            table = self.loaded.model.get_output_embeddings().weight
            return dict.fromkeys(wanted, table.new_empty(0, table.shape[0]))
        ids = torch.zeros(len(self._mask), chain + beside, dtype=torch.long)
        real = torch.zeros(len(self._mask), chain, dtype=torch.long)  # tokens are padded behind their ends
        for row, one in wanted.items():
            ids[row, : len(one.ids)], real[row, : len(one.ids)] = torch.tensor(one.ids, dtype=torch.long), 1
            ids[row, chain : chain + len(one.branches)] = torch.tensor([token for _, token in one.branches])
        self._padded = self._padded or not bool(real.all())
        real = real.to(self.loaded.device)
        self._mask, self._length = torch.cat([self._mask, real], 1), self._length + real.sum(1, keepdim=True)
        places = (self._mask.cumsum(1) - 1).clamp_min_(0)
        if beside:
            mask, places = self._with_branches({row: one.branches for row, one in wanted.items()}, chain, beside)
        else:
            mask = self._visible(chain)
        keep, places = chain + beside - start, places[:, places.shape[1] - chain - beside :]
        out = forward(self.loaded, ids.to(self.loaded.device), keep, self.cache, mask, places)
        self._forget(self._mask.shape[1])
        found = {}
        for row, one in wanted.items():
            end = len(one.ids) - start
            found[row] = out[row, end - one.keep : end]
            if one.branches:
                found[row] = torch.cat([found[row], out[row, chain - start :][: len(one.branches)]])
        return found

    def _with_branches(
        self, branches: dict[int, list[tuple[int, int]]], chain: int, beside: int
    ) -> tuple[torch.Tensor | dict[str, torch.Tensor], torch.Tensor]:
        """(what the next columns see, the place of each column in its sequence), with branches as the last columns."""
        rows, columns = self._mask.shape
        leaves = torch.zeros(rows, beside, dtype=torch.long)  # the last place of the sequence that each branch sees
        own = torch.eye(beside, dtype=torch.bool).repeat(rows, 1, 1)  # the branches that it sees
        for row, found in branches.items():
            for n, (parent, _) in enumerate(found):
                leaves[row, n] = parent if parent >= 0 else leaves[row, -1 - parent]
                if parent < 0:
                    own[row, n] |= own[row, -1 - parent]
        leaves, own = leaves.to(self._mask.device), own.to(self._mask.device)
        places, real, every = self._mask.cumsum(1) - 1, self._mask.bool()[:, None], torch.arange(columns)
        past = (every <= every[columns - chain :, None]).to(real.device) & real
        past = torch.cat([past, real & (places[:, None] <= leaves[..., None])], 1)
        seen = torch.cat([past, torch.cat([own.new_zeros(rows, chain, beside), own], 1)], 2)
        places = torch.cat([places.clamp_min(0), leaves + own.sum(-1)], 1)
        return visible(self.loaded, seen, places), places

    def _drop(self, counts: dict[int, int]) -> None:
        """Forget so many last tokens of these rows. Their columns become padding where others go on."""
        for row, count in counts.items():
            self._mask[row, self._mask[row].nonzero()[-count:, 0]] = 0
            self._length[row] -= count
        if counts:
            used = self._mask.any(0).nonzero()
            self._forget(int(used.max()) + 1 if len(used) else 0)
            self._padded = not bool(self._mask.all())

    def _forget(self, columns: int) -> None:
        """All columns but these first ones."""
        self._mask = self._mask[:, :columns]
        for layer in self.cache.layers:
            layer.shorten(columns)

    def _visible(self, columns: int) -> Any:
        """As BatchDecoder has it, but a window counts tokens, not columns."""
        if not self._padded or _window(self.loaded)[0] is None:
            return super()._visible(columns)
        every = torch.arange(self._mask.shape[1], device=self._mask.device)
        seen = (every <= every[-columns:, None]) & self._mask.bool()[:, None]
        return visible(self.loaded, seen, self._mask.cumsum(1) - 1)


class TreesApart:
    """The same, but each sequence is read by itself."""

    def __init__(self, loaded: LoadedModel, prompts: list[list[int]]):
        self.loaded, self.rows = loaded, [TreeBatch(loaded, [prompt]) for prompt in prompts]

    def follow(self, wanted: dict[int, Continuation]) -> dict[int, torch.Tensor]:
        return {row: self.rows[row].follow({0: one})[0] for row, one in wanted.items()}

    def copy(self, sources: list[int], places: list[int]) -> None:
        for source, place in zip(sources, places, strict=True):
            own, other = self.rows[source], TreeBatch(self.loaded, [[]])
            other._stack([own], [1], own._mask.shape[1])
            self.rows[place : place + 1] = [other]

    def select(self, rows: torch.Tensor) -> None:
        self.rows = [self.rows[row] for row in rows.tolist()]


def visible(loaded: LoadedModel, seen: torch.Tensor, positions: torch.Tensor) -> torch.Tensor | dict[str, torch.Tensor]:
    """What each column sees (rows, 1, columns, all columns), by kind of layer where some see a window only.

    seen: without windows, (rows, columns, all columns); positions: of all columns, (rows, all columns).
    """
    window, kinds = _window(loaded)
    if window is None:
        return seen[:, None]
    distance = positions[:, -seen.shape[1] :, None] - positions[:, None]
    near = seen & (distance < window)
    return {kind: (near if kind == "sliding_attention" else seen)[:, None] for kind in kinds}


def _window(loaded: LoadedModel) -> tuple[int | None, set[str]]:
    """(tokens that some layers see, None where all see all; the kinds of layers)."""
    config = loaded.model.config.get_text_config()
    kinds = set(getattr(config, "layer_types", None) or ())
    return (getattr(config, "sliding_window", None) if "sliding_attention" in kinds else None), kinds


@torch.inference_mode()
def check_tree(loaded: LoadedModel) -> None:
    """Raises UserError for a model whose continuations cannot be read side by side; measured once per model."""
    if loaded.model in _CHECKED:
        return
    ids = (loaded.tokenizer(TEXT, add_special_tokens=False)["input_ids"] or [0]) * 8
    why = "it keeps a state that cannot be turned back"
    try:
        trees = TreeBatch(loaded, [ids[:4]])
        if all(isinstance(layer, PreallocatedCacheLayer) for layer in trees.cache.layers):
            trees.follow({0: Continuation(0, ids[4:5], 0, [(1, ids[5]), (-1, ids[6])])})
            found = trees.follow({0: Continuation(0, ids[5:7], 2, [(3, ids[7]), (-1, ids[3]), (4, ids[1])])})[0]
            wanted = [ids[:6], ids[:7], [*ids[:4], ids[7]], [*ids[:4], ids[7], ids[3]], [*ids[:5], ids[1]]]
            plain = torch.stack([forward(loaded, [one], keep=1)[0, 0] for one in wanted]).float().log_softmax(-1)
            found = found.float().log_softmax(-1)
            gap = float((plain.exp() * (plain - found).abs().nan_to_num(0.0, posinf=100.0)).sum(-1).max())
            if gap <= TOLERANCE.get(loaded.dtype, 0.5):
                _CHECKED.add(loaded.model)
                return
            why = f"its probabilities differ by {gap:.2g} nats from those of one pass"
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"[:120]
    raise UserError(
        f"{loaded.ref} cannot read several continuations of a text at once ({why}), which an amateur with another "
        "tokenizer than the expert's must. Choose an amateur of the expert's own family."
    )
