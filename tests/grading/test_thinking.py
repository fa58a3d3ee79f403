"""Thinking blocks: what follows one is graded."""

from __future__ import annotations

import pytest

from lightreasoner.grading.grading import grade
from lightreasoner.grading.thinking import BLOCKS, after_thinking, open_block


@pytest.mark.parametrize(("begin", "end"), BLOCKS)
def test_what_follows_a_thinking_block_is_graded(begin, end):
    """A thought such as “maybe the answer is 5” was taken for the answer, or hid it."""
    thought = "\nMaybe \\boxed{5}? The answer is 5.\n"
    assert grade(f"{begin}{thought}{end}\n\nThe answer is 4.", "4").right
    assert not grade(f"{begin}\nThe answer is 4.\n{end}\n\nThe answer is 5.", "4").right
    assert grade(f"{thought}{end}The answer is 4.", "4").right, "the prompt opened the block"
    cut = grade(f"{begin}\nSo the answer is 4. But wait", "4")
    assert not cut.right and cut.extracted is None, "a thought that was cut off is no answer"
    again = f"{begin}a{end} The answer is 5. {begin}no{end} The answer is 4."
    assert grade(again, "4").right


def test_an_answer_announced_without_a_block():
    """Apriel thinks without a mark, and marks its answer."""
    said = "Here are my reasoning steps:\nMaybe \\boxed{5}?\n[BEGIN FINAL RESPONSE]\nThe answer is 4."
    assert grade(said, "4").right and not grade(said, "5").right


def test_text_without_a_block_is_the_answer():
    assert after_thinking("x < y and y > z") == "x < y and y > z"
    assert after_thinking("") == open_block("") == open_block("<think>a</think>b") == ""
    assert open_block("<|im_start|>assistant\n<think>\n") == "<think>\n"
