"""Every use of a part of transformers, torch or datasets that is not public, behind a documented name.

Checked against transformers 5.23, torch 2.13 and datasets 5.2. At an upgrade, run tests/compat/test_transformers.py: it
has one test per use, and checks that no other module of the engine touches these parts. The libraries are imported
where they are used, so this module itself costs nothing.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import cache, partial
from math import prod
from pathlib import Path
from typing import Any

_OFFLINE_LOCK = threading.Lock()
_TEMPLATE_DAY: ContextVar[datetime | None] = ContextVar("day", default=None)


@contextmanager
def gguf_reading(bar: Callable[[Any], Any]) -> Iterator[None]:
    """Reads GGUF files with bar(tensors) in place of a progress bar, the only one without a switch or a hook.

    And in a third of the time: gguf takes millions of slices of a memory map, whose class makes each slow. Kinds of
    quantization that transformers' newer loader refuses (Q5_0, which every Q4_K_M file of a narrow model has) are left
    to its older one.
    """
    import gguf
    import numpy
    from transformers import modeling_gguf_pytorch_utils as reader
    from transformers.quantizers.quantizer_gguf import GgufHfQuantizer as Loader

    class PlainReader(gguf.GGUFReader):
        @property
        def data(self) -> Any:
            return self._plain

        @data.setter
        def data(self, mapped: Any) -> None:
            self._plain = mapped.view(numpy.ndarray)

    before = reader.tqdm, gguf.GGUFReader, Loader.read_header

    def read_header(self: Any, path: str) -> None:
        try:
            before[2](self, path)
        except ValueError:
            self.supported = False

    reader.tqdm, gguf.GGUFReader, Loader.read_header = lambda items, **_: bar(items), PlainReader, read_header
    try:
        yield
    finally:
        reader.tqdm, gguf.GGUFReader, Loader.read_header = before


def gguf_metadata(path: Path) -> dict[str, Any]:
    """The metadata of a GGUF file, by its keys, such as "tokenizer.ggml.eos_token_id"."""
    from transformers.integrations.gguf.reader import read_gguf_metadata

    return read_gguf_metadata(str(path))[0]


def gguf_pre_tokenizer(path: Path) -> str | None:
    """The name that a GGUF file gives its way of splitting text before merging, e.g. "smollm"."""
    return gguf_metadata(path).get("tokenizer.ggml.pre")


def gguf_begins_with_space(path: Path) -> bool:
    """Whether a GGUF file's SentencePiece tokenizer puts a space before a text, as it does unless the file says no."""
    return gguf_metadata(path).get("tokenizer.ggml.add_space_prefix") is not False


def gguf_splitting_is_known(path: Path) -> bool:
    """Whether transformers splits text as a GGUF file's tokenizer does; in SentencePiece's nothing is split before."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    metadata = gguf_metadata(path)
    known = metadata.get("tokenizer.ggml.pre") in GGUF_PRE_TOKENIZER_SPLITS
    return known or metadata.get("tokenizer.ggml.model") != "gpt2"


def gguf_shapes(path: Path) -> list[tuple[int, ...]]:
    """The shapes of a GGUF file's tensors, from its header alone. Raises whatever the reader raises."""
    return [shape for _, shape, _, _ in _gguf_tensors(path)]


def gguf_tensor_names(path: Path) -> list[str]:
    """The names of a GGUF file's tensors, from its header alone."""
    return [name for name, *_ in _gguf_tensors(path)]


def gguf_vector(path: Path, name: str) -> list[float]:
    """The numbers of one tensor of a GGUF file that is kept in float32."""
    from transformers.integrations.gguf import reader

    tensor = reader.load_gguf_state_dict(reader.GgufHeader.from_file(str(path)))[name]
    return tensor[...].tolist()


def gguf_dtype(path: Path) -> Any:
    """The torch dtype that most of a GGUF file's numbers were written in; None for quantized weights."""
    import torch

    sizes: Counter[int] = Counter()
    for _, shape, kind, _ in _gguf_tensors(path):
        sizes[kind] += prod(shape)
    dtypes = {0: torch.float32, 1: torch.float16, 30: torch.bfloat16}  # GGML's numbers
    return dtypes.get(sizes.most_common(1)[0][0])


def _gguf_tensors(path: Path) -> list[tuple[str, tuple[int, ...], int, int]]:
    """(name, shape, GGML's number of the kind, offset) of each tensor, of kinds that GgufHeader refuses, too."""
    from transformers.integrations.gguf import reader

    data = reader._mapped(str(path))
    _, count, start = reader._read_metadata(data, str(path))
    return reader._read_tensor_table(data, count, start)[0]


@cache
def byte_characters() -> dict[str, int]:
    """The 256 characters with which byte-level BPE writes bytes: character → byte."""
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return {character: byte for byte, character in bytes_to_unicode().items()}


def supports_sdpa(model_class: type) -> bool:
    """Whether a model class can compute its attention with torch's scaled_dot_product_attention."""
    return getattr(model_class, "_supports_sdpa", False)


def layer_class_names(model: Any) -> set[str]:
    """The names of the classes of a model's decoder layers; empty for an architecture that does not name them."""
    return set(getattr(model, "_no_split_modules", None) or ())


def initialize_cache_layer(layer: Any, keys: Any, values: Any) -> None:
    """Give a new DynamicLayer the dtype and device of these tensors; nothing changes in one that has them."""
    if not layer.is_initialized:
        layer.lazy_initialization(keys, values)


def cache_with_layers(config: Any, layer_class: type) -> Any:
    """The DynamicCache of a model configuration, with `layer_class` in place of each plain or sliding DynamicLayer.

    A sliding layer drops what its window has passed. The mask leaves that out anyway, by the rule of a plain forward.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    cache = DynamicCache(config=config)
    replaced = (DynamicLayer, DynamicSlidingWindowLayer)
    cache.layers = [layer_class() if type(layer) in replaced else layer for layer in cache.layers]
    if cache.layer_class_to_replicate is DynamicLayer:
        cache.layer_class_to_replicate = layer_class
    return cache


class TrainerHooks:
    """A mixin before transformers.Trainer: it reads its data in order, and `write_checkpoint` can be overridden."""

    def write_checkpoint(self, write: Callable[[], None]) -> None:
        """Called for each checkpoint; write() writes it as the Trainer does."""
        write()

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self.write_checkpoint(lambda: super(TrainerHooks, self)._save_checkpoint(model, trial))

    def _save(self, *args: Any, **options: Any) -> None:
        """As the Trainer does; "auto", PEFT's default, would ask the Hub about the base model at every checkpoint."""
        self.model.save_pretrained = partial(self.model.save_pretrained, save_embedding_layers=False)
        try:
            super()._save(*args, **options)
        finally:
            del self.model.save_pretrained

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        from torch.utils.data import SequentialSampler

        return SequentialSampler(train_dataset or self.train_dataset)


def use_one_device(arguments: Any, device: Any) -> None:
    """Keep a Trainer with these TrainingArguments on this torch device, where its model already is.

    By itself it moves the model to the first GPU, and copies it to every other (DataParallel). A process of several
    keeps the device of its rank.
    """
    import torch

    arguments._n_gpu = min(1, arguments.n_gpu)
    if device.index is not None and arguments.world_size == 1:
        arguments.__dict__["_setup_devices"] = device  # a cached property
        arguments.distributed_state.device = device  # Accelerate's, of which there is one per process
        if device.type == "cuda":
            torch.cuda.set_device(device)


def ignore_in_ddp(model: Any, parameters: list[str]) -> None:
    """Keep DistributedDataParallel from sending these parameters of `model` between processes."""
    from torch.nn.parallel import DistributedDataParallel

    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(model, parameters)


def render_chat_template(template: str, turns: list[dict], generation: bool, names: dict[str, Any]) -> str:
    """A chat template, rendered as `apply_chat_template` does, without a tokenizer. names: what it can name besides."""
    from transformers.utils.chat_template_utils import render_jinja_template

    texts, _ = render_jinja_template([turns], chat_template=template, add_generation_prompt=generation, **names)
    return texts[0]


@contextmanager
def template_date(day: str) -> Iterator[None]:
    """Chat templates that name today name this day (YYYY-MM-DD). It belongs to the calling thread or task."""
    from transformers.utils import chat_template_utils

    if chat_template_utils.datetime is not _TemplateClock:
        chat_template_utils.datetime = _TemplateClock
    token = _TEMPLATE_DAY.set(datetime.fromisoformat(day))
    try:
        yield
    finally:
        _TEMPLATE_DAY.reset(token)


class _TemplateClock(datetime):
    """The clock of strftime_now in chat templates."""

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        return _TEMPLATE_DAY.get() or datetime.now(tz)


@contextmanager
def datasets_offline() -> Iterator[None]:
    """Makes `datasets` read only its cache. The switch belongs to the process, so one thread at a time holds it."""
    import datasets

    with _OFFLINE_LOCK:
        before, datasets.config.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE, True
        try:
            yield
        finally:
            datasets.config.HF_HUB_OFFLINE = before


def packed_weight(weight: Any) -> Any:
    """A copy of a linear layer's weight (outputs, inputs) in oneDNN's own layout. Raises RuntimeError where PyTorch was
    built without oneDNN."""
    import torch

    return torch.ops.mkldnn._reorder_linear_weight(weight, 64)  # rows that it is made for; others are right as well


def packed_linear(rows: Any, packed: Any, bias: Any | None) -> Any:
    """rows (n, inputs) through a linear layer whose weight is a `packed_weight`: (n, outputs). Has no gradient."""
    import torch

    return torch.ops.mkldnn._linear_pointwise(rows, packed, bias, "none", [], "")
