"""The form of the prompt: what its fields mean, the exact prompt that it shows, and where the settings go."""

from __future__ import annotations

import json
from html import unescape
from types import SimpleNamespace

import gradio as gr
import pytest

from lightreasoner.errors import UserError
from lightreasoner.models.prompt_settings import PAPER, PRESETS, PromptSettings
from lightreasoner.models.prompts import FOLDED
from lightreasoner.problems.rows import Problem
from lightreasoner.settings import Settings
from lightreasoner.tracing.trace import TraceRequest
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from ui.components.pair_card import pair_card
from ui.components.prompt_form import (
    NAMES,
    OWN,
    fill_preset,
    name_preset,
    preview_html,
    prompt_form,
    prompt_updates,
    read_prompt,
)
from ui.inspect.links import linked_prompt
from ui.studio import Studio, branch_request, replay, stream

FULL = PromptSettings(
    "Be <b>kind</b>.", "Solve {question}", True, None, "So", {"a": 1}, (("1 + 1?", "The answer is 2."),), "2025-01-31"
)
DROPS = "{% for m in messages %}{% if m.role == 'user' %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}"


def values(settings: PromptSettings = PAPER, **changes) -> dict[str, object]:
    return dict(zip((f"prompt_{name}" for name in NAMES), prompt_updates(settings), strict=True)) | changes


@pytest.fixture
def studio(tmp_path):
    return Studio(Settings(workspace=tmp_path, device="cpu", dtype="float32"))


def test_the_form_and_the_settings_are_the_same():
    for settings in (*PRESETS.values(), FULL):
        assert read_prompt(values(settings)) == settings
    assert read_prompt({}) == PAPER, "a client that knows nothing of prompts"
    assert fill_preset("boxed")[0] == PRESETS["boxed"].system and fill_preset("none")[0] == gr.skip()
    assert name_preset(*values(PRESETS["boxed"]).values()) == "boxed" and name_preset(*values(FULL).values()) == OWN
    rows = values(prompt_examples='{"question": "1 + 2?", "answer": "3"}\n\n{"problem": "2?", "solution": "2"}')
    assert read_prompt(rows).examples == (("1 + 2?", "The answer is 3."), ("2?", "2"))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"prompt_wrapping": "Solve it."}, r"lacks \{question\}"),
        ({"prompt_thinking": "Perhaps"}, "on, off or as the template has it"),
        ({"prompt_arguments": "{"}, "no JSON object"),
        ({"prompt_arguments": "[1]"}, "no JSON object"),
        ({"prompt_examples": "1 + 1 = 2"}, "Line 1 of the examples is no row"),
        ({"prompt_examples": '{"question": "1?"}'}, "has no solution and no answer"),
        ({"prompt_date": "soon"}, "is no date"),
        ({"prompt_system": 3}, "not text"),
    ],
)
def test_fields_that_cannot_be_meant_are_refused(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        read_prompt(values(**changes))


def test_the_exact_prompt_is_shown_token_by_token(tmp_path):
    """Nobody could see what the models would be asked before it was asked."""
    folder = save_tiny(tmp_path / "m", 1)
    html = preview_html(str(folder), Problem("", "2 < 3?"), FULL)
    assert '<span title="1">&lt;|im_start|&gt;</span>' in html and "<b>kind" not in html
    turns = [("system", "Be <b>kind</b>."), ("user", "Solve 1 + 1?"), ("assistant", "The answer is 2.")]
    turns.append(("user", "Solve 2 < 3?"))
    chat = "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)
    ids = tiny_tokenizer()(f"{chat}<|im_start|>assistant\nSo")["input_ids"]
    assert f"<p>{len(ids)} tokens</p>" in html and html.count("<span title=") == len(ids)
    assert "has no argument a; it changes nothing" in html


def test_a_folded_system_turn_is_on_the_pair_card(studio, tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = DROPS
    refs = [str(save_tiny(tmp_path / name, seed, tokenizer)) for name, seed in (("expert", 1), ("amateur", 2))]
    assert FOLDED in unescape(preview_html(refs[0], Problem("", "2 + 2?"), PAPER))
    for ref in refs:
        studio.models.get(ref)
    assert FOLDED in unescape(pair_card(studio, "other", *refs))


def test_a_trace_keeps_its_prompt_in_links_and_branches(studio, tmp_path):
    refs = [str(save_tiny(tmp_path / name, seed)) for name, seed in (("expert", 1), ("amateur", 2))]
    live = studio.start(TraceRequest("2 + 2?", max_new_tokens=4, prompt=FULL), (None, *refs))
    *_, last = stream(studio, live)
    record = json.loads((studio.settings.traces / f"{live.trace.id}.json").read_text())
    assert record["request"]["prompt"] == FULL.as_json() and record["prompt"].endswith("assistant\nSo")
    facts = next(json.loads(line)["facts"] for line in last.splitlines() if '"facts"' in line)
    assert facts["prompt"] == json.loads(replay(record).splitlines()[0])["prompt"] == record["prompt"]
    assert branch_request(record, 1, 65).prompt == FULL
    studio.live_runs.clear()
    asked = SimpleNamespace(query_params={"trace": live.trace.id})
    assert linked_prompt(studio, asked) == prompt_updates(FULL)
    assert linked_prompt(studio, SimpleNamespace(query_params={})) == tuple([gr.skip()] * len(NAMES))


def test_the_fields_come_in_the_order_of_the_settings():
    with gr.Blocks():
        form = prompt_form("x")
    assert [field.value for field in form.inputs] == list(prompt_updates(PAPER))
