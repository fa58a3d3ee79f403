"""One model at its position in a sequence, which also reads branches from any place of it, all in one pass; and several
such sequences side by side.

Each branch sees the sequence up to where it leaves it and its own tokens. The cache keeps the sequence only.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakSet

import torch

from lightreasoner.decoding.batch_decoder import BatchDecoder
from lightreasoner.decoding.forward_pass import forward
from lightreasoner.decoding.kv_cache import PreallocatedCacheLayer, preallocated_cache
from lightreasoner.errors import UserError
from lightreasoner.models.loading import LoadedModel

PIECE = 512  # tokens of a prompt read at once
TOLERANCE = {torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.5}  # nats, largest |Δ log p| weighted by p
TEXT = "Tom has 3 apples and buys 4 more."

_CHECKED: WeakSet[Any] = WeakSet()  # models whose continuations are read right


Result = TypeVar("Result")


@dataclass(frozen=True)
class Continuation:
    """What to read next of a sequence. Its answer are logits (keep + branches, output rows)."""

    drop: int  # last tokens that are forgotten first
    ids: list[int]  # the next tokens of the sequence
    keep: int  # how many of the last of them have logits
    branches: list[tuple[int, int]] = field(default_factory=list)  # see TreeReader.read


def answer(asking: Generator[Continuation, torch.Tensor, Result], reader: TreeReader) -> Result:
    """Give a generator the logits that it asks for, and return its result."""
    try:
        wanted = next(asking)
        while True:
            wanted = asking.send(reader.follow(wanted))
    except StopIteration as ended:
        return ended.value


def answer_all(asking: dict[int, Generator[Continuation, torch.Tensor, Result]], batch: TreeBatch) -> dict[int, Result]:
    """The same for rows of a batch, of which all are read together."""
    results, logits = {}, dict.fromkeys(asking)
    while logits:
        wanted = {}
        for row, found in logits.items():
            try:
                wanted[row] = asking[row].send(found)
            except StopIteration as ended:
                results[row] = ended.value
        logits = batch.follow(wanted) if wanted else {}
    return results


class TreeReader:
    """`ids` is the sequence that was read so far."""

    def __init__(self, loaded: LoadedModel):
        self.loaded, self.ids = loaded, []
        self.cache = preallocated_cache(loaded.model.config)

    def follow(self, wanted: Continuation) -> torch.Tensor:
        """Read a continuation."""
        self.retract(wanted.drop)
        return self.read(wanted.ids, wanted.branches, wanted.keep + len(wanted.branches))

    @torch.inference_mode()
    def read(self, ids: list[int], branches: list[tuple[int, int]] = (), keep: int | None = None) -> torch.Tensor:
        """The logits (kept + branches, output rows) after the next tokens of the sequence and after the branches.

        branches: (place, token): the token comes after the sequence's token at this place, or, from len(sequence) on,
        after an earlier branch. keep: how many of the last columns have logits; by default all.
        """
        columns, begun = len(ids) + len(branches), len(self.ids)
        if not columns:
            return _nothing(self.loaded)
        size = begun + len(ids)
        device, mask = self.loaded.device, None
        positions = list(range(begun, size))
        if branches:
            seen = torch.ones(columns, begun + columns, dtype=torch.bool).tril(begun)
            for n, (parent, _) in enumerate(branches):
                own = seen[len(ids) + n]
                own.zero_()
                if parent < size:
                    own[: parent + 1] = True
                    positions.append(parent + 1)
                else:
                    own |= seen[len(ids) + parent - size]
                    positions.append(positions[len(ids) + parent - size] + 1)
                own[size + n] = True
            mask = visible(
                self.loaded, seen[None].to(device), torch.tensor([[*range(begun), *positions]], device=device)
            )
        tokens = torch.tensor([[*ids, *(token for _, token in branches)]], dtype=torch.long, device=device)
        place = torch.tensor([positions], device=device)
        keep = columns if keep is None else keep
        found = forward(self.loaded, tokens, keep, self.cache, mask, place)
        if branches:
            self._forget(size)
        self.ids = self.ids + ids
        return found[0]

    def retract(self, count: int) -> None:
        """Forget the last tokens of the sequence."""
        if count:
            self.ids = self.ids[:-count]
            self._forget(len(self.ids))

    def _forget(self, columns: int) -> None:
        for layer in self.cache.layers:
            layer.shorten(columns)

    def copy(self) -> TreeReader:
        """Another reader at the same position, which goes its own way."""
        other = TreeReader(self.loaded)
        other.ids = list(self.ids)
        if self.ids:
            for own, layer in zip(other.cache.layers, self.cache.layers, strict=True):
                own.stack([layer], [1], len(self.ids))
        return other

    def prefill(self, ids: list[int]) -> None:
        for start in range(0, len(ids), PIECE):
            self.read(ids[start : start + PIECE], keep=0)


class TreeBatch(BatchDecoder):
    """Several sequences of one model, whose next tokens are read together. A row is named by its index."""

    def __init__(self, loaded: LoadedModel, prompts: list[list[int]]):
        """prompts: each row's first tokens, of which the last one is left unread."""
        super().__init__(loaded, len(prompts))
        self.ids = [prompt[:-1] for prompt in prompts]
        self.prefill(self.ids)
        self._history = None  # columns that are padding inside a row are told by `visible`
        self.rows = list(range(len(prompts)))  # the rows in the decoder

    @torch.inference_mode()
    def follow(self, wanted: dict[int, Continuation]) -> dict[int, torch.Tensor]:
        """Read continuations of some rows; their logits."""
        places = {row: self.rows.index(row) for row in wanted}
        self._drop({places[row]: one.drop for row, one in wanted.items() if one.drop})
        for row, one in wanted.items():
            self.ids[row] = self.ids[row][: len(self.ids[row]) - one.drop] + one.ids
        found = self._read_chains({places[row]: one for row, one in wanted.items()})
        for row, one in wanted.items():
            if one.branches:
                beside = self.apart(row).read([], one.branches)
                found[places[row]] = torch.cat([found[places[row]], beside]) if one.keep else beside
        return {row: found[place] for row, place in places.items()}

    def reader(self, row: int) -> BatchRow:
        """One of the rows by itself."""
        return BatchRow(self, row)

    def leave(self, staying: list[int]) -> None:
        """Go on with these rows only."""
        if len(staying) < len(self.rows):
            places = [self.rows.index(row) for row in staying]
            self.select(torch.tensor(places, device=self.loaded.device))
            self.rows = staying

    def _drop(self, counts: dict[int, int]) -> None:
        """Forget so many last tokens of the rows at these places. Their columns become padding where others go on."""
        for place, count in counts.items():
            self._mask[place, self._mask[place].nonzero()[-count:, 0]] = 0
            self._length[place] -= count
        if counts:
            used = int(self._mask.any(0).nonzero().max()) + 1
            self._mask, self._padded = self._mask[:, :used], True
            for layer in self.cache.layers:
                layer.shorten(used)

    def _read_chains(self, wanted: dict[int, Continuation]) -> dict[int, torch.Tensor]:
        """The logits of the next tokens, which are padded behind their ends."""
        width = max(len(one.ids) for one in wanted.values())
        if not width:
            return dict.fromkeys(wanted, _nothing(self.loaded))
        ids = torch.zeros(len(self.rows), width, dtype=torch.long)
        real = torch.zeros_like(ids)
        for place, one in wanted.items():
            ids[place, : len(one.ids)], real[place, : len(one.ids)] = torch.tensor(one.ids), 1
        self._padded = self._padded or not bool(real.all())
        start = min((len(one.ids) - one.keep for one in wanted.values() if one.keep), default=width)
        device = self.loaded.device
        out = self._forward(ids.to(device), real.to(device), width - start)
        return {
            place: out[place, len(one.ids) - one.keep - start : len(one.ids) - start] for place, one in wanted.items()
        }

    def _visible(self, columns: int) -> Any:
        """As BatchDecoder has it, but a window counts tokens, not columns."""
        if not self._padded or _window(self.loaded)[0] is None:
            return super()._visible(columns)
        every = torch.arange(self._mask.shape[1], device=self._mask.device)
        seen = (every <= every[-columns:, None]) & self._mask.bool()[:, None]
        return visible(self.loaded, seen, self._mask.cumsum(1) - 1)

    @torch.inference_mode()
    def apart(self, row: int) -> TreeReader:
        """A copy of a row that goes its own way."""
        reader, place = TreeReader(self.loaded), self.rows.index(row)
        reader.ids, columns = list(self.ids[row]), self._mask[place].nonzero()[:, 0]
        for own, layer in zip(reader.cache.layers, self.cache.layers, strict=True):
            own.take(layer, place, columns)
        return reader


@dataclass(frozen=True)
class BatchRow:
    """A row of a batch as a TreeReader of its own."""

    batch: TreeBatch
    row: int

    @property
    def ids(self) -> list[int]:
        return self.batch.ids[self.row]

    def follow(self, wanted: Continuation) -> torch.Tensor:
        return self.batch.follow({self.row: wanted})[self.row]

    def copy(self) -> TreeReader:
        return self.batch.apart(self.row)


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


def _nothing(loaded: LoadedModel) -> torch.Tensor:
    """Logits of no columns."""
    table = loaded.model.get_output_embeddings().weight
    return table.new_empty(0, table.shape[0])


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
        reader = TreeReader(loaded)
        if all(isinstance(layer, PreallocatedCacheLayer) for layer in reader.cache.layers):
            reader.prefill(ids[:4])
            reader.read(ids[4:5], [(1, ids[5]), (5, ids[6])])
            found = reader.read(ids[5:7], [(3, ids[7]), (7, ids[3]), (4, ids[1])]).float().log_softmax(-1)
            wanted = [ids[:6], ids[:7], [*ids[:4], ids[7]], [*ids[:4], ids[7], ids[3]], [*ids[:5], ids[1]]]
            plain = torch.stack([forward(loaded, [one], keep=1)[0, 0] for one in wanted]).float().log_softmax(-1)
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
