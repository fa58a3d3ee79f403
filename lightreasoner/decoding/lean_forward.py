"""The forward pass of Llama-shaped decoders without the overhead of modules: the same operations in the same order.

Query, key and value are one matrix product, and so are gate and up. reading_check.py chooses it for a model only if its
logits equal transformers' on a text. On a CPU its weights may then be copied into the layout of a faster kernel, which
rounds otherwise, but each row in the same way, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any
from weakref import ref

import torch
from torch import nn
from torch.nn import functional

from lightreasoner.compat.transformers import packed_linear, packed_weight
from lightreasoner.decoding.cuda_graphs import StepGraphs
from lightreasoner.progress import check_interruption

#: transformers' classes of this shape: root-mean-square norms before both halves of a layer, rotary positions, SwiGLU.
SHAPES = {"LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"}
GROWING_ROPE = {"dynamic", "longrope"}  # frequencies that depend on how long the text is
LONG = 24  # tokens that a CPU may read for seconds, so that a closed tab ends the pass between two of its products
LEAST_ROWS = 16  # of a matrix product; another kernel, which rounds otherwise, multiplies fewer
#: Columns of padding, over all rows, that are read rather than avoided by one more call of attention on a CPU.
IDLE = 256
Part = Callable[[torch.Tensor], torch.Tensor]
#: Which columns of the cache each column may see, (rows or 1, 1, columns, all columns), None where it is all before it;
#: or the same for runs of rows, each with the first column that any of its rows may see.
Seen = torch.Tensor | list[tuple[slice, int, torch.Tensor | None]] | None


def misfit(model: Any) -> str | None:
    """Why a transformers model is none that `Lean` can read, in a few words; None for one that it can."""
    config = model.config
    if type(model).__name__ not in SHAPES:
        return f"a {config.model_type} model has another shape"
    if config.rope_parameters["rope_type"] in GROWING_ROPE:
        return "its positions depend on the length of the text"
    return None


@dataclass(frozen=True)
class _Layer:
    """The parts of one decoder layer; each takes (tokens, width)."""

    enter: Part  # the norm before attention
    qkv: Part
    turn: Part | None  # Qwen3's norm of each head's query and key
    out: Part
    middle: Part  # the norm before the second half
    gate_up: Part
    act: Part
    down: Part


class Lean:
    """A model's forward pass on the model's own weights, with the adapters that PEFT has put into its layers."""

    def __init__(self, model: Any, fused: bool = True, packed: bool = False):
        """model: a transformers model that is no `misfit`. fused: join the matrices that read the same input.

        Joined matrices take no more memory: the model's own parameters become views of them. Packed ones are copies,
        as large as the model.
        """
        self.fused, self._packed = fused, packed
        config, attention = model.config, model.model.layers[0].self_attn
        self.heads, self.cached = config.num_attention_heads, config.num_key_value_heads
        self.width, self.scale = attention.head_dim, attention.scaling
        self.outputs, self.depth = model.get_output_embeddings().weight.shape[0], config.num_hidden_layers
        self.steps: StepGraphs | None = None  # what replays single steps as CUDA graphs
        self._made_of: list[tuple[ref, str, nn.Module, int]] = []
        self._rotary, self._turns = model.model.rotary_emb, None
        with torch.inference_mode(False), torch.no_grad():
            self._embed = self._part(model.model, "embed_tokens")
            self._layers = [self._layer(layer, fused) for layer in model.model.layers[: self.depth]]
            self._norm = _norm(self._part(model.model, "norm"))
            self._head = self._product(model, ["lm_head"], fused)

    def current(self) -> bool:
        """Whether the model still consists of the modules and tensors that this was made of."""
        parts = self._made_of
        return all(getattr(above(), name) is part and self._place(part) == place for above, name, part, place in parts)

    def _part(self, above: nn.Module, name: str) -> nn.Module:
        part = getattr(above, name)
        self._made_of.append((ref(above), name, part, self._place(part)))  # a model must not keep itself alive
        return part

    def _place(self, part: nn.Module) -> tuple[int, int]:
        """(where a module's weight lies, how often it was changed, which matters to a copy); zeros without a weight."""
        weight = getattr(part, "weight", None)
        if not isinstance(weight, torch.Tensor):
            return 0, 0
        return weight.data_ptr(), 0 if not self._packed or weight.is_inference() else weight._version

    def _layer(self, layer: nn.Module, fused: bool) -> _Layer:
        check_interruption()  # joining its matrices takes as long as copying them
        attention, mlp, turn = layer.self_attn, layer.mlp, None
        other = mlp.act_fn  # of which some round differently where their input is not contiguous
        if hasattr(attention, "q_norm"):
            weights = [attention.q_norm.weight.expand(self.heads, -1), attention.k_norm.weight.expand(self.cached, -1)]
            turn = _norm(attention.q_norm, torch.cat(weights))
        return _Layer(
            enter=_norm(self._part(layer, "input_layernorm")),
            qkv=self._product(attention, ["q_proj", "k_proj", "v_proj"], fused),
            turn=turn,
            out=self._product(attention, ["o_proj"], fused),
            middle=_norm(self._part(layer, "post_attention_layernorm")),
            gate_up=self._product(mlp, ["gate_proj", "up_proj"], fused),
            act=functional.silu if "SiLU" in type(mlp.act_fn).__name__ else lambda x: other(x.contiguous()),
            down=self._product(mlp, ["down_proj"], fused),
        )

    def _product(self, above: nn.Module, names: list[str], fused: bool) -> Part:
        """The outputs of these linear layers side by side. A layer with an adapter is called as it is."""
        parts = [getattr(above, name) for name in names]
        plain = all(type(part) is nn.Linear for part in parts) and len({part.bias is None for part in parts}) == 1
        joined = plain and (fused or len(parts) == 1)
        if joined:
            weight = _joined([part.weight for part in parts])
            bias = None if parts[0].bias is None else _joined([part.bias for part in parts])
        for name in names:  # after joining, which moves the weights
            self._part(above, name)
        if joined and self._packed:
            return _packed_product(weight, bias)
        if joined:
            linear = functional.linear
            return lambda x: linear(x, weight, bias)
        return parts[0] if len(parts) == 1 else lambda x: torch.cat([part(x) for part in parts], -1)

    def __call__(
        self,
        ids: torch.Tensor,
        keep: int,
        cache: Any = None,
        mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The logits (rows, keep, output rows) after the last `keep` columns of ids (rows, columns).

        Arguments as for reading.forward. Without a mask, positions are counted from the cache.
        """
        rows, columns = ids.shape
        before = cache.get_seq_length() if cache is not None else 0
        if self.steps and keep and before:
            hidden = self.steps(self, ids, cache, mask, positions)
            if hidden is not None:
                return self._head(hidden[:, columns - keep :])
        cos, sin = self._rotation(before, columns, None if mask is None else positions)
        layers = cache.layers if cache is not None else None
        hidden = self.hidden(ids, cos, sin, self._seen(ids, before, mask), layers, keep)
        if keep == 0:
            return hidden.new_empty(rows, 0, self.outputs)
        hidden = hidden.view(rows, -1, hidden.shape[-1])
        return self._head(hidden[:, hidden.shape[1] - keep :])

    def hidden(
        self,
        ids: torch.Tensor,
        cos: torch.Tensor,
        sin: torch.Tensor,
        seen: Seen,
        layers: list[Any] | None,
        keep: int | None = None,
    ) -> torch.Tensor:
        """The normed hidden states (tokens, width) of ids (rows, columns); of no meaning where keep is 0.

        layers: of a cache; their `update` takes the new keys and values and returns all. keep: how many of the last
        columns are needed, None: all; the others before them may be missing. The rest as below.
        """
        rows, columns = ids.shape
        needed = columns if keep is None else min(columns, max(keep, -(-LEAST_ROWS // rows)))
        split = (self.heads, self.cached, self.cached)
        hidden = self._embed(ids).view(rows * columns, -1)
        pause = check_interruption if rows * columns >= LONG else bool  # which does nothing
        for n, layer in enumerate(self._layers):
            pause()
            qkv = layer.qkv(layer.enter(hidden)).view(rows, columns, -1, self.width)
            turned = qkv[:, :, : -self.cached]  # queries and keys
            if layer.turn:
                turned.copy_(layer.turn(turned))
            other = turned.roll(self.width // 2, -1).mul_(sin)
            turned.mul_(cos).add_(other)
            query, key, value = qkv.transpose(1, 2).split(split, 1)  # (rows, heads, columns, width)
            if layers is not None:
                key, value = layers[n].update(key, value)
            if keep == 0 and n + 1 == self.depth:
                return hidden
            attended = self._attend(query, key, value, seen)
            if needed < columns and n + 1 == self.depth:
                attended, hidden = (
                    x.unflatten(0, (rows, columns))[:, columns - needed :].flatten(0, 1) for x in (attended, hidden)
                )
            hidden = layer.out(attended).add_(hidden)
            pause()
            gate, up = layer.gate_up(layer.middle(hidden)).chunk(2, -1)
            pause()
            hidden = layer.down(layer.act(gate).mul_(up)).add_(hidden)
        return self._norm(hidden)

    @property
    def dtype(self) -> torch.dtype:
        return self._embed.weight.dtype

    @property
    def packable(self) -> bool:
        """Whether packed weights are faster here: in 16 bits the usual kernel is of the same library."""
        return torch.backends.mkldnn.is_available() and self.dtype == torch.float32

    def turns(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of at least so many positions from 0, (positions, 1, width)."""
        if self._turns is None or len(self._turns[0]) < length:
            self._turns = self._table(max(256, 2 * length))
        return self._turns

    def _rotation(self, before: int, columns: int, positions: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of the positions, to be multiplied with (rows, columns, heads, width).

        The first half of sin is negated, so that x·cos + roll(x)·sin is x·cos + rotate_half(x)·sin.
        """
        cos, sin = self.turns(before + columns)
        at = slice(before, before + columns) if positions is None else positions
        return cos[at], sin[at]

    def _table(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        """cos and sin of the positions from 0, (length, 1, width)."""
        device = self._embed.weight.device
        cos, sin = self._rotary(self._embed.weight, torch.arange(length, device=device)[None])
        half = self.width // 2
        return cos.view(length, 1, -1), torch.cat([-sin[..., :half], sin[..., half:]], -1).view(length, 1, -1)

    def _seen(self, ids: torch.Tensor, before: int, mask: torch.Tensor | None) -> Seen:
        """mask: 1 for tokens and 0 for padding (rows, all columns), or already what is returned. On a GPU, which would
        be waited for, one without padding counts as one with.
        """
        columns = ids.shape[1]
        if mask is not None and mask.dim() == 4:
            return mask
        padded = mask is not None and (mask.device.type != "cpu" or not bool(mask.all()))
        if not padded and (columns == 1 or not before):
            return None
        seen = mask.bool()[:, None, None] if padded else None
        if columns > 1:
            every = torch.arange(before + columns, device=ids.device)
            past = every <= every[before:, None]
            seen = past[None, None] if seen is None else seen & past
        if mask is None or mask.device.type != "cpu":
            return seen
        seen = torch.where(seen, 0.0, -torch.inf).to(self.dtype)  # which attention would do once in every layer
        runs = _runs(mask.argmax(1).tolist()) if padded else []
        return [(rows, first, seen[rows, ..., first:]) for rows, first in runs] if any(at for _, at in runs) else seen

    def _attend(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, seen: Seen) -> torch.Tensor:
        """Attention as transformers' sdpa_attention_forward computes it; (tokens, heads · width)."""
        if isinstance(seen, list):
            return torch.cat([self._attend(query[n], key[n, :, at:], value[n, :, at:], own) for n, at, own in seen])
        rows, _, columns, width = query.shape
        group, more = self.heads // self.cached, {}
        if group > 1 and (seen is None or (columns > 1 and key.device.type == "cpu")) and width <= 256:
            more = {"enable_gqa": True}
        elif group > 1 and columns == 1:
            query = query.reshape(rows, self.cached, group, width)
        elif group > 1:
            key, value = (x[:, :, None].expand(-1, -1, group, -1, -1).flatten(1, 2) for x in (key, value))
        attend = functional.scaled_dot_product_attention
        found = attend(query, key, value, seen, is_causal=seen is None and columns > 1, scale=self.scale, **more)
        if columns == 1:
            return found.reshape(rows, -1)
        return found.transpose(1, 2).reshape(rows * columns, -1)


def _norm(module: nn.Module, weight: torch.Tensor | None = None) -> Part:
    """A root-mean-square norm of the last dimension. weight: in place of the module's own, (heads, width)."""
    scale, epsilon = module.weight if weight is None else weight, module.variance_epsilon
    size = scale.shape[-1:]
    if scale.dtype == torch.float32 and scale.device.type == "cpu":
        if scale.dim() == 1:
            return lambda x: functional.rms_norm(x, size, scale, epsilon)
        return lambda x: functional.rms_norm(x, size, None, epsilon).mul_(scale)

    def norm(x: torch.Tensor) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
        return scale * wide.to(x.dtype)

    return norm


def _runs(padding: list[int]) -> list[tuple[slice, int]]:
    """Rows in runs of like padding at their beginnings, in columns: (rows, the least padding of any).

    One run where more of them would not save as much as they cost.
    """
    starts, least, idle = [0], [padding[0]], 0
    for row, columns in enumerate(padding):
        lower = min(columns, least[-1])
        idle += (row - starts[-1]) * (least[-1] - lower) + columns - lower
        if idle > IDLE:
            starts.append(row)
            least.append(columns)
            idle = 0
        else:
            least[-1] = lower
    runs = [slice(*ends) for ends in pairwise([*starts, len(padding)])]
    saved = sum((run.stop - run.start) * own for run, own in zip(runs, least, strict=True))
    if saved - len(padding) * min(least) < IDLE * (len(runs) - 1):
        return [(slice(0, len(padding)), min(least))]
    return list(zip(runs, least, strict=True))


def _packed_product(weight: torch.Tensor, bias: torch.Tensor | None) -> Part:
    """A matrix product on a copy of this weight in a faster layout; of a single row, for which it is no faster, on the
    weight itself."""
    packed, linear = packed_weight(weight), functional.linear

    def product(x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if len(rows) == 1:
            return linear(x, weight, bias)
        return packed_linear(rows, packed, bias).view(*x.shape[:-1], -1)

    return product


def _joined(parameters: list[torch.Tensor]) -> torch.Tensor:
    """The parameters one below the other in one tensor, of which they become views."""
    first = parameters[0]
    sizes = (p.numel() * p.itemsize for p in parameters)
    places = list(accumulate(sizes, initial=first.data_ptr()))[:-1]
    one_storage = len({p.untyped_storage().data_ptr() for p in parameters}) == 1
    if one_storage and [p.data_ptr() for p in parameters] == places and all(p.is_contiguous() for p in parameters):
        rows = sum(map(len, parameters))
        return first.data.as_strided((rows, *first.shape[1:]), first.stride())  # joined before, or one alone
    whole = torch.cat([p.data for p in parameters])
    for parameter, part in zip(parameters, whole.split([len(p) for p in parameters]), strict=True):
        parameter.data = part
    return whole
