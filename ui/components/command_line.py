"""The command line that does the same as a form, to read and to copy."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

import gradio as gr


def command_line(elem_id: str) -> gr.Textbox:
    """The field, in a part of the form that opens."""
    with gr.Accordion("The same on the command line", open=False):
        return gr.Textbox(
            show_label=False,
            container=False,
            lines=3,
            max_lines=6,
            interactive=False,
            buttons=["copy"],
            elem_id=elem_id,
        )


def spelled_out(words: Sequence[str], folder: str) -> str:
    """What to type into a shell. words: the verb and its options; folder: a name for what it makes."""
    return shlex.join(["python", "-m", "lightreasoner", *words, "--run-dir", folder])
