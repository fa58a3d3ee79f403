"""Loads a model: weights, tokenizer, adapter. Runs no code from its files, and unpickles nothing."""

import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sized
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import transformers
from tokenizers import decoders, pre_tokenizers
from transformers.utils import logging

from lightreasoner.compat.transformers import (
    gguf_begins_with_space,
    gguf_pre_tokenizer,
    gguf_reading,
    gguf_splitting_is_known,
    supports_sdpa,
)
from lightreasoner.errors import UserError, first_line
from lightreasoner.models.adapters import attach_adapter
from lightreasoner.models.devices import choose_device, dtypes_to_try, is_out_of_memory, release_memory, unused_gpu
from lightreasoner.models.float32_head import widen_head
from lightreasoner.models.gguf_cache import drop_conversion, find_conversion, keep_conversion
from lightreasoner.models.gguf_rope import scale_positions
from lightreasoner.models.merging import merged, untie
from lightreasoner.models.overflow import overflows
from lightreasoner.models.references import ModelRef, parse_ref
from lightreasoner.models.turn_ends import TurnEnd, turn_ends
from lightreasoner.models.weights import (
    Files,
    count_parameters,
    find_files,
    fingerprint,
    read_json,
    weights_fingerprint,
)
from lightreasoner.progress import StopRequested, interruptible
from lightreasoner.settings import Settings

Status = Callable[[str], None] | None
PAUSE = 0.5  # seconds between calls of a status while weights are read
_REPORT: ContextVar[Callable[[int, int], None] | None] = ContextVar("report", default=None)
#: GGUF's names for byte-level tokenizers with GPT-2's splitting, except for one token per digit.
SPLITS_DIGITS = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}
SPLITS_AS_GPT2 = {"gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "gigachat", "mellum"}


@dataclass
class LoadedModel:
    """A causal language model for inference: frozen, in eval mode, on its device.

    `model` is a transformers model. In float32 an adapter is merged into it. In 16 bits, where merging would round
    small updates away, its LoRA layers stay inside the model.
    """

    ref: ModelRef
    model: Any
    tokenizer: Any
    device: torch.device
    dtype: torch.dtype
    parameters: int
    memory_bytes: int
    end_ids: frozenset[int]  # token ids that end a response
    max_positions: int | None  # most tokens of prompt and response together
    fingerprint: str  # see weights.fingerprint
    ends: tuple[TurnEnd, ...] = ()  # the same ends with their texts and sources
    weights: str = ""  # see weights.weights_fingerprint
    files: Files | None = None  # that it was read from
    lean: bool = True  # the forward pass of decoding/lean_forward.py may be used
    graphs: bool = True  # its single steps may be replayed as CUDA graphs
    packed: bool = True  # its weights may be copied into a faster layout on a CPU

    @property
    def end_texts(self) -> tuple[str, ...]:
        """Texts that end a response, where the chat template ends a turn with no token of the tokenizer."""
        return tuple(end.text for end in self.ends if end.id is None)


def load_model(
    ref: str | ModelRef,
    settings: Settings,
    on_status: Status = None,
    tokenizer: Any = None,
    twin: LoadedModel | None = None,
    *,
    on_host: bool = False,
) -> LoadedModel:
    """Load a model, after downloading it if necessary. Raises UserError for everything that can go wrong.

    on_status: gets one short line per stage, and while weights are read the same again and again; what it raises stops
    the loading and passes through. tokenizer: the model's, if it has been read already. twin: a loaded model
    with the same fingerprint, whose weights are shared. on_host: leave the weights in the host's memory, in the
    device's dtype.
    """
    ref = parse_ref(ref)
    device = choose_device(settings)
    files = find_files(ref, on_status)
    parameters = count_parameters(files)
    dtypes = dtypes_to_try(settings, device, parameters)
    dtype = twin.dtype if twin else dtypes[0]
    idle = unused_gpu() if device.type == "cpu" and settings.device == "auto" else ""
    report = _Report(on_status, f"Loading {ref} on {device} in {str(dtype).removeprefix('torch.')}{idle}")
    report(0, 1)
    with _quiet(files), _tensor_by_tensor(report), interruptible(lambda: report(0, 1)):
        try:
            tokenizer = tokenizer or _load_tokenizer(files)
            ends = turn_ends(files, tokenizer)
            place = torch.device("cpu") if on_host else device
            model = twin.model if twin else _load(ref, files, dtype, place, settings)
            if len(dtypes) > 1 and not (twin or on_host) and overflows(model, tokenizer):
                dtype, model = dtypes[1], None
                release_memory()
                model = _load(ref, files, dtype, place, settings)
        except (UserError, StopRequested):
            raise
        except Exception as error:  # anything may be wrong with the files
            if not is_out_of_memory(error):
                raise UserError(f"{ref} cannot be read: {_sentence(error)} Save or download it again.") from error
            need = f"{parameters * dtype.itemsize / 1e9:.1f} GB" if parameters else "more"
            advice = "free some memory, or choose a smaller model."
            raise UserError(f"{ref} needs {need}, which {device} does not have free; {advice}") from None
    return LoadedModel(
        ref,
        model,
        tokenizer,
        device,
        dtype,
        parameters=sum(p.numel() for p in model.parameters()),
        memory_bytes=tensor_bytes([model]),
        end_ids=frozenset(end.id for end in ends if end.id is not None),
        max_positions=getattr(model.config.get_text_config(), "max_position_embeddings", None),
        fingerprint=fingerprint(files),
        ends=ends,
        weights=weights_fingerprint(files),
        files=files,
        lean=settings.lean,
        graphs=settings.graphs,
        packed=settings.packed,
    )


def _load(ref: ModelRef, files: Files, dtype: torch.dtype, place: torch.device, settings: Settings) -> Any:
    """The model with its adapter, frozen, in eval mode, on this device."""
    most = 1e9 * settings.conversions_gb if files.gguf else 0
    model = _load_conversion(ref, files, dtype) if most else None
    if model is None:
        model = _load_weights(ref, files, dtype)
        if most:
            keep_conversion(model, files.gguf, dtype, most)
    widen_head(model)
    if files.adapter:
        model = _add_adapter(ref, files, model)
    return model.eval().requires_grad_(False).to(place)


class _Report:
    """Calls on_status with how much of a model is read. Stops at what that raises, but not more often than PAUSE."""

    def __init__(self, on_status: Status, text: str):
        self._say, self._text, self._next, self._tens = on_status, text, 0.0, 0

    def __call__(self, done: int, total: int) -> None:
        """done of total tensors are read, or of those of a later stage."""
        if self._say and time.monotonic() >= self._next:
            self._tens = max(self._tens, 10 * (10 * done // total))
            self._say(f"{self._text}: {self._tens} %" if self._tens else self._text)
            self._next = time.monotonic() + PAUSE


@contextmanager
def _tensor_by_tensor(report: Callable[[int, int], None]) -> Iterator[None]:
    """Inside, in this thread, report(done, total) is called before each tensor that transformers reads."""
    logging.set_tqdm_hook(_hook)
    token = _REPORT.set(report)
    try:
        yield
    finally:
        _REPORT.reset(token)


def _hook(bar: Callable[..., Any], args: tuple, options: dict[str, Any]) -> Any:
    """A progress bar of transformers over items that are reported one by one."""
    return bar(_reported(args[0]), *args[1:], **options) if args else bar(**options)


def _reported(items: Iterable[Any]) -> Iterable[Any]:
    """The items, each reported before it comes, where this thread loads a model."""
    report = _REPORT.get()
    if report is None or not isinstance(items, Sized):
        return items
    return (item for done, item in enumerate(items) if report(done, len(items)) is None)


def tensor_bytes(models: Iterable[Any]) -> int:
    """Bytes of these models' tensors together. Tensors that several models share count once."""
    tensors = {t.data_ptr(): t for model in models for t in (*model.parameters(), *model.buffers())}
    return sum(t.numel() * t.element_size() for t in tensors.values())


def load_tokenizer(ref: str | ModelRef | Path) -> Any:
    """The tokenizer of a model, or of a folder (a Path) that may contain nothing else.

    Reads files on this disk: loads no weights and makes no request. Raises UserError.
    """
    return tokenizer_in(Files(ref) if isinstance(ref, Path) else find_files(parse_ref(ref), download=False))


def tokenizer_in(files: Files) -> Any:
    """The tokenizer of these files, without their weights. Raises UserError."""
    with _quiet(files):
        return _load_tokenizer(files)


def known_ends(ref: str | ModelRef) -> tuple[TurnEnd, ...]:
    """The ends of a model's turn, from the small files of a folder on this disk. Empty where only loading can tell."""
    try:
        files = find_files(parse_ref(ref), download=False)
        return () if files.gguf else _ends_in(files.folder, max(f.stat().st_mtime_ns for f in files.folder.iterdir()))
    except (UserError, OSError, ValueError):
        return ()


@lru_cache(maxsize=32)
def _ends_in(folder: Path, _changed: int) -> tuple[TurnEnd, ...]:
    return turn_ends(Files(folder), load_tokenizer(folder))


def _load_tokenizer(files: Files) -> Any:
    source: dict[str, Any] = {"gguf_file": files.gguf.name} if files.gguf else {}
    # For a model type with a tokenizer class, AutoTokenizer takes only the vocabulary from tokenizer.json: a Qwen2
    # model gets Qwen2's splitting, NFC and <|endoftext|>, even if it was trained with others.
    exact = not files.gguf and (files.folder / "tokenizer.json").is_file()
    kind = transformers.PreTrainedTokenizerFast if exact else transformers.AutoTokenizer
    try:
        tokenizer = kind.from_pretrained(files.folder, trust_remote_code=False, local_files_only=True, **source)
    except Exception as error:  # the Rust library raises bare ones
        place, reason = files.gguf or files.folder, _sentence(error)
        raise UserError(f"The tokenizer in {place} cannot be read: {reason} Save or download it again.") from error
    if files.gguf:
        _split_as_trained(tokenizer, files.gguf)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None and getattr(backend.model, "dropout", None):
        backend.model.dropout = None  # for training: the same text would be other tokens each time
    if not len(tokenizer):
        raise UserError(f"The tokenizer in {files.folder} is empty; save the model's tokenizer into it.")
    return tokenizer


def _split_as_trained(tokenizer: Any, gguf: Path) -> None:
    """Split digits before merging, if the GGUF file's kind of tokenizer does (for example SmolLM2's), and put no space
    before a text where the file says so.

    Transformers ignores both, and would tokenize "\\n\\n3" differently from the model's training. It takes GPT-2's
    splitting for every kind that it does not know; such a file is refused, with a UserError.
    """
    kind = gguf_pre_tokenizer(gguf)
    if kind in SPLITS_DIGITS:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    elif kind is not None and kind not in SPLITS_AS_GPT2 and not gguf_splitting_is_known(gguf):
        raise UserError(
            f"{gguf} splits text as {kind!r:.40} before its tokens are merged, which is not known here, so its prompts "
            "would be other tokens; use the same model as a folder or Hub id with tokenizer.json."
        )
    backend = tokenizer.backend_tokenizer
    if not gguf_begins_with_space(gguf) and isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        backend.pre_tokenizer = pre_tokenizers.Metaspace("▁", prepend_scheme="never", split=False)
        backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])


def _load_conversion(ref: ModelRef, files: Files, dtype: torch.dtype) -> Any:
    """The model of a GGUF file from its kept conversion; None where there is none that can be read."""
    entry = find_conversion(files.gguf, dtype)
    try:
        return entry and _load_weights(ref, Files(entry), dtype)
    except StopRequested:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        drop_conversion(entry)
        return None


def _load_weights(ref: ModelRef, files: Files, dtype: torch.dtype) -> Any:
    source: dict[str, Any] = {"local_files_only": True}
    if files.gguf:  # dequantized, so that it computes, trains and merges like any other model
        source |= {"gguf_file": files.gguf.name}
        config = transformers.AutoConfig.from_pretrained(files.folder, **source)
        scale_positions(config, files.gguf, ref)
        source |= {"quantization_config": transformers.GgufConfig(dequantize=True)}
    else:
        config = _read_config(ref, files)
    config.return_dict = True  # whatever it says: outputs are read by their names
    kind = transformers.MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if kind is None or config.is_encoder_decoder:
        raise UserError(
            f"{ref} is a {config.model_type!r} model, which does not predict the next token; use one that does."
        )
    kind = kind[0] if isinstance(kind, tuple) else kind
    model, report = transformers.AutoModelForCausalLM.from_pretrained(
        files.folder,
        config=config,
        dtype=dtype,
        use_safetensors=True,
        trust_remote_code=False,
        attn_implementation="sdpa" if supports_sdpa(kind) else "eager",  # not as its config asks
        output_loading_info=True,
        ignore_mismatched_sizes=True,  # reported below
        **source,
    )
    wrong = sorted({*report["missing_keys"], *(key[0] for key in report["mismatched_keys"])})
    if wrong:  # these tensors would be random numbers
        raise UserError(
            f"The weights of {ref} do not match its configuration: {wrong[0]} is missing or has another shape"
            f"{f', and so have {len(wrong) - 1} more' if wrong[1:] else ''}. Save or download it again."
        )
    if left := sorted(report["unexpected_keys"]):  # transformers leaves out those that it knows to be ignorable
        shown = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if left[3:] else "")
        raise UserError(
            f"The weights of {ref} do not match its configuration: a {config.model_type!r} model has no place for "
            f"{shown}, which would be dropped without a word. Correct config.json, or save the model again."
        )
    return model


def _read_config(ref: ModelRef, files: Files) -> Any:
    """The model's configuration. Raises UserError for kinds of models that are not supported."""
    path = files.folder / "config.json"
    raw = read_json(path)
    kind, classes = raw.get("model_type"), raw.get("architectures") or []
    if kind is None:
        raise UserError(f"{path} names no model type; save or download the model again.")
    if not isinstance(kind, str) or kind not in transformers.CONFIG_MAPPING:
        if raw.get("auto_map"):
            raise UserError(f"{ref} comes with its own Python code, which is never run here; use a model without.")
        raise UserError(
            f"{path} names the model type {kind!r:.40}, which transformers {transformers.__version__} lacks."
        )
    heads = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
    if isinstance(classes, list) and classes and not any(str(name).endswith(heads) for name in classes):
        raise UserError(f"{ref} is a {classes[0]!s:.60}, which does not predict the next token; use a causal model.")
    return transformers.AutoConfig.from_pretrained(files.folder, trust_remote_code=False, local_files_only=True)


def _add_adapter(ref: ModelRef, files: Files, model: Any) -> Any:
    """The model with a LoRA adapter in it. Raises UserError, see `attach_adapter`."""
    untie(model, files.adapter)
    wrapped = attach_adapter(model, files.adapter, ref.base, replace(files, adapter=None))
    return merged(wrapped) if model.dtype == torch.float32 else wrapped.get_base_model()


def _sentence(error: Exception) -> str:
    return first_line(error, 300).rstrip(" .:!") + "."


@contextmanager
def _quiet(files: Files) -> Iterator[None]:
    """Keeps transformers' progress bars and warnings off the terminal, which shows on_status and errors instead."""
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        # what reads GGUF files takes a third of a second to import, which others need not
        with warnings.catch_warnings(), gguf_reading(_reported) if files.gguf else nullcontext():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
