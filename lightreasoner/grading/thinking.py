"""Thinking blocks in responses: what follows one is the answer, and only that is graded."""

#: (how a block begins, how it ends) in the chat formats of reasoning models.
BLOCKS = (
    ("<think>", "</think>"),  # Qwen3, DeepSeek-R1, SmolLM3 and most others
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|channel|>analysis", "<|channel|>final<|message|>"),  # gpt-oss
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|channel>thought", "<channel|>"),  # Gemma 4
    ("<|open|>think<|sep|>", "<|close|>think<|sep|>"),  # Kimi K3
    ("<think:opensource>", "</think:opensource>"),  # Hunyuan 3
)
LATER = "[BEGIN FINAL RESPONSE]"  # Apriel opens no block


def after_thinking(text: str) -> str:
    """What follows the last thinking block; the whole text where there is none, and nothing after an open block."""
    text = text.rpartition(LATER)[2]
    for begin, end in BLOCKS:
        opened, closed = text.rfind(begin), text.rfind(end)
        if opened > closed:
            return ""
        if closed >= 0:
            return text[closed + len(end) :]
    return text


def open_block(text: str) -> str:
    """The thinking block that the end of a prompt leaves open, from its beginning; empty where none is open."""
    opened = max((text.rfind(begin) for begin, end in BLOCKS if text.rfind(begin) > text.rfind(end)), default=-1)
    return text[opened:] if opened >= 0 else ""
