"""Pairs for the browser tests: what the page shows of them is interesting, and never depends on the bundled models."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import AddedToken

from tests.support.browser import ENDLESS
from tests.support.tiny_models import save_tiny, tiny_model, tiny_tokenizer

PWN = "window.__pwned=1"
#: Token texts that would do something if any part of the page, of a template or of an export took them for code.
HOSTILE = (
    f"<img src=x onerror={PWN}>",
    f"<script>{PWN}</script>",
    "</script>",
    "<!--",
    f"${{{PWN}}}",
    "{{constructor}}",
    f"{{{{{PWN}}}}}",
    "`",
    f'" onmouseover="{PWN}',
    f"javascript:{PWN}",
    "&lt;b&gt;",
    "__proto__",
    "/*DATA*/",
    '=HYPERLINK("http://example.com")',
)
#: Token texts that disturb the text around them: reversed, invisible, stacked, cut in two, or far too long.
ODD = (
    "\u202eabc",
    "\x00",
    "\x1b[31m",
    "\u200b",
    "\u2028",
    "\ufeff",
    "Z\u0351\u036b\u0343",
    "👩‍👩‍👧",
    "a\u200db",
    "long" * 1250,
)


def save_related_pair(folder: Path) -> tuple[Path, Path]:
    """An expert and a noisy copy of it: KL from about 0.1 to 4 nats, dozens of plausible tokens a step."""
    expert, amateur = save_tiny(folder / "expert", seed=1, hidden=64), folder / "amateur"
    model, generator = tiny_model(seed=1, hidden=64), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.add_(torch.randn(weight.shape, generator=generator) * 0.02)
    model.save_pretrained(amateur)
    tiny_tokenizer().save_pretrained(amateur)
    return expert, amateur


def save_endless_pair(folder: Path) -> tuple[Path, Path]:
    """An expert deep enough to be watched while it writes, and that cannot end: its end of turn has no row."""
    tokenizer = tiny_tokenizer()
    rows = len(tokenizer)
    tokenizer.add_special_tokens({"eos_token": "<|never|>"})
    for name, seed, layers in (("expert", 1, 24), ("amateur", 2, 1)):
        model = tiny_model(seed, layers=layers, vocab_rows=rows)
        model.config.eos_token_id = model.generation_config.eos_token_id = None
        model.config.max_position_embeddings = 2 * ENDLESS
        model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    return folder / "expert", folder / "amateur"


def save_hostile_pair(folder: Path) -> tuple[Path, Path]:
    """Two models in whose vocabulary each of HOSTILE and ODD is one token."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in (*HOSTILE, *ODD)])
    return tuple(save_tiny(folder / name, seed, tokenizer) for name, seed in (("expert", 1), ("amateur", 2)))
