"""Tiny models that the tests share: real tokenizers and real transformers models, made in milliseconds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIALS = (PAD, START, END)
TEXTS = (
    "system\nPlease reason step by step.\nuser\nassistant\n",
    "Tom has 3 apples and buys 4 more. How many apples does he have?\n3 + 4 = 7\nThe answer is 7.",
    "She sold 12 of the 20 cakes, so 20 - 12 = 8 cakes are left.",
)
IDS = torch.tensor([[5, 77, 130, 210, 8]])  # any five ordinary tokens
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tiny_tokenizer(texts: Iterable[str] | None = None, specials: Iterable[str] = SPECIALS) -> PreTrainedTokenizerFast:
    """Byte-level BPE of about 300 tokens with a chat template. The specials come first; the third of them ends a turn.

    Other texts give other merges, so the ids after the 256 bytes differ.
    """
    specials = list(specials)
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator(TEXTS if texts is None else texts, trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=specials[0], eos_token=specials[2], clean_up_tokenization_spaces=False
    )
    tokenizer.chat_template = CHAT_TEMPLATE.replace(START, specials[1]).replace(END, specials[2])
    return tokenizer


def shouting_tokenizer() -> PreTrainedTokenizerFast:
    """Another tokenizer that changes the text, so that its tokens do not spell it."""
    tokenizer = tiny_tokenizer(["quite other words"])
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("the", "THE")
    return tokenizer


def tiny_model(seed: int, hidden: int = 32, layers: int = 2, vocab_rows: int | None = None) -> Qwen2ForCausalLM:
    """A random Qwen2 with `vocab_rows` embedding rows (default: the tiny tokenizer's 300), in eval mode.

    The embeddings are scaled up so that next-token distributions are peaked, as real ones are. Each seed is another
    model, on every machine the same.
    """
    rows = vocab_rows or len(tiny_tokenizer())
    config = Qwen2Config(
        vocab_size=rows,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        pad_token_id=0,
        eos_token_id=2,
        use_cache=True,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2ForCausalLM(config)
        with torch.no_grad():
            torch.nn.init.normal_(model.get_input_embeddings().weight, std=0.35)
            for name, weight in model.named_parameters():
                if name.endswith("proj.weight"):
                    torch.nn.init.normal_(weight, std=0.15)
    return model.eval()


def save_tiny(folder: Path | str, seed: int, tokenizer: PreTrainedTokenizerFast | None = None, **kw) -> Path:
    """Write a tiny model and tokenizer as `load_model` reads them; `kw` goes to tiny_model. Returns the folder."""
    tokenizer = tokenizer or tiny_tokenizer()
    kw.setdefault("vocab_rows", len(tokenizer))
    tiny_model(seed, **kw).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return Path(folder)


def save_tiny_adapter(folder: Path | str, base: Qwen2ForCausalLM, seed: int = 3) -> torch.Tensor:
    """Write a LoRA adapter that changes the base model noticeably. Returns the logits of both together on IDS."""
    import peft

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = peft.get_peft_model(base, peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"]))
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(weight, std=0.3)
    model.save_pretrained(folder)
    model.eval()
    return logits_of(model)


def save_tiny_gguf(
    path: Path,
    add_bos: bool | None = None,
    add_eos: bool | None = None,
    kind: str | None = None,
    splitting: str = "smollm",
    more: Callable[[Any], None] = lambda writer: None,
) -> Path:
    """A random Llama with the tiny tokenizer's vocabulary, as llama.cpp's converter writes SmolLM2.

    add_bos, add_eos: the file's flags for tokens around plain text; None leaves one out. kind: the quantization of
    its matrices, such as "Q5_0"; None leaves them in fp32. splitting: how its tokenizer splits text.
    more: adds to the GGUFWriter.
    """
    import gguf

    tokenizer = tiny_tokenizer(["a\n\nb\n\nc\n\n"])
    vocabulary = tokenizer.convert_ids_to_tokens(range(len(tokenizer)))
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_context_length(512)
    writer.add_embedding_length(32)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(vocabulary))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(vocabulary)
    writer.add_token_types([3 if id < 3 else 1 for id in range(len(vocabulary))])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(0)
    if add_bos is not None:
        writer.add_add_bos_token(add_bos)
    if add_eos is not None:
        writer.add_add_eos_token(add_eos)
    writer.add_chat_template(tokenizer.chat_template)
    shapes = {"attn_q": (32, 32), "attn_k": (16, 32), "attn_v": (16, 32), "attn_output": (32, 32)}
    shapes |= {"ffn_gate": (64, 32), "ffn_up": (64, 32), "ffn_down": (32, 64), "attn_norm": (32,), "ffn_norm": (32,)}
    shapes = {f"blk.0.{name}": shape for name, shape in shapes.items()}
    shapes |= {"token_embd": (len(vocabulary), 32), "output_norm": (32,)}
    generator = torch.Generator().manual_seed(0)
    for name, shape in shapes.items():
        values, numbers = torch.randn(shape, generator=generator).numpy(), None
        if kind and len(shape) == 2:
            numbers = gguf.GGMLQuantizationType[kind]
            values = gguf.quants.quantize(values, numbers)
        writer.add_tensor(f"{name}.weight", values, raw_dtype=numbers)
    more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def logits_of(model: Any) -> torch.Tensor:
    """The logits (1, 5, rows) on IDS, in float32."""
    with torch.inference_mode():
        return model(input_ids=IDS).logits.float()


class Broken(torch.nn.Module):
    """A model whose logits are NaN."""

    def __init__(self, model):
        super().__init__()
        self.model, self.config = model, model.config

    def forward(self, **kwargs):
        output = self.model(**kwargs)
        output.logits[:] = float("nan")
        return output
