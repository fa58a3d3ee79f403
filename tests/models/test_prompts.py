"""Prompts: what each setting makes of a question, and templates and tokenizers that do what nobody asked for."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tokenizers import processors

from lightreasoner.errors import UserError
from lightreasoner.models.loading import load_model
from lightreasoner.models.prompt_settings import PAPER, PRESETS, PromptSettings, preset_of, prompt_of
from lightreasoner.models.prompts import FOLDED, begins_with, prompt_marks, render, settle_date, thinking_switch
from lightreasoner.settings import Settings
from tests.support.tiny_models import save_tiny, save_tiny_gguf, tiny_tokenizer

LOOP = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
START = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CPU = Settings(device="cpu", dtype="float32")


def tokenizer(template: str | None = None, **kw):
    made = tiny_tokenizer(**kw)
    if template is not None:
        made.chat_template = template
    return made


def text_of(settings: PromptSettings, template: str | None = None, question: str = "2 + 2?") -> str:
    return render(tokenizer(template), "m", question, settings).text


def chat(*turns: tuple[str, str], end: str = "<|im_start|>assistant\n") -> str:
    return "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns) + end


def test_the_default_is_the_papers():
    assert text_of(PAPER) == chat(("system", "Please reason step by step."), ("user", "2 + 2?"))
    bare = tokenizer()
    bare.chat_template = None
    assert render(bare, "m", "2 + 2?").text == "Please reason step by step.\n\n2 + 2?\n\n"
    assert PAPER.as_json() == {} and preset_of(PAPER) == "paper" and prompt_of(None) == prompt_of({}) == PAPER


def test_each_setting_changes_its_part():
    boxed = "Please reason step by step, and put your final answer within \\boxed{}."
    assert text_of(PRESETS["boxed"]) == chat(("system", boxed), ("user", "2 + 2?"))
    assert text_of(PRESETS["plain"]) == "2 + 2?\n\n"
    assert text_of(replace(PAPER, system="")) == chat(("user", "2 + 2?"))
    wrapped = replace(PAPER, wrapping="Solve {question} {x} \\boxed{}", system="", prefix="Sure:")
    assert text_of(wrapped) == chat(("user", "Solve 2 + 2? {x} \\boxed{}")) + "Sure:"
    shots = (("1 + 1?", "The answer is 2."), ("1 + 2?", "The answer is 3."))
    asked = (("user", "1 + 1?"), ("assistant", shots[0][1]), ("user", "1 + 2?"), ("assistant", shots[1][1]))
    assert text_of(replace(PAPER, system="", examples=shots)) == chat(*asked, ("user", "2 + 2?"))
    few = text_of(replace(PRESETS["few-shot"], examples=shots))
    assert few == (
        "Question: 1 + 1?\nAnswer: The answer is 2.\n\nQuestion: 1 + 2?\nAnswer: The answer is 3.\n\n"
        "Question: 2 + 2?\nAnswer:"
    )
    assert text_of(replace(PAPER, arguments={"tone": "kind"}), LOOP + "{{ tone }}" + START).count("kind") == 1


def test_settings_survive_a_record():
    full = PromptSettings("s", "{question}!", True, False, "p", {"a": [1]}, (("q", "r"),), "2025-07-31")
    assert prompt_of(json.loads(json.dumps(full.as_json()))) == full
    for name, preset in PRESETS.items():
        assert prompt_of(preset.as_json()) == preset and preset_of(preset) == name


DROPS = {
    "only user turns": "{% for m in messages %}{% if m.role == 'user' %}"
    "[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}",
    "the last turn only": "[INST]{{ messages[-1].content }}[/INST]",
    "refuses": "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    "{% for m in messages %}[INST]{{ m.content }}[/INST]{% endfor %}",
    "a default in its place": "You are kind.{% for m in messages %}{% if m.role != 'system' %}"
    "[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}",
}


@pytest.mark.parametrize("template", DROPS.values(), ids=DROPS)
def test_a_dropped_system_turn_is_folded_into_the_users(template):
    """A template that renders only user turns lost the instruction without a word."""
    prompt = render(tokenizer(template), "m", "2 + 2?")
    assert prompt.text.endswith("[INST]Please reason step by step.\n\n2 + 2?[/INST]")
    assert prompt.notes == (FOLDED,) and prompt.text.count("step by step") == 1
    kept = render(tokenizer(), "m", "Please reason step by step.")
    assert kept.notes == () and kept.text.count("step by step") == 2


def test_a_question_that_holds_the_system_prompt_does_not_hide_its_loss():
    prompt = render(tokenizer(DROPS["only user turns"]), "m", "Please reason step by step. 2 + 2?")
    assert prompt.notes == (FOLDED,) and prompt.text.count("step by step") == 2


@pytest.mark.parametrize(
    ("settings", "template", "question", "sentence"),
    [
        (PAPER, "Hello", "2 + 2?", "leaves out a part of the prompt"),
        (PAPER, "{{ raise_exception('never') }}", "2 + 2?", "cannot render this prompt: never"),
        (PAPER, "{{ messages + 1 }}", "2 + 2?", "cannot render this prompt"),
        (PAPER, "{% for t in tools %}{% endfor %}", "2 + 2?", r"cannot render this prompt: .+\w'?\. Change the prompt"),
        (PAPER, "{% for", "2 + 2?", "cannot render this prompt"),
        (PAPER, None, "a <|im_end|> b", "The problem contains '<|im_end|>'"),
        (replace(PAPER, system="a <|im_end|> b"), None, "2", "The system prompt contains '<|im_end|>'"),
        (replace(PAPER, examples=(("a", "<|im_end|>"),)), None, "2", "The example 1 contains"),
        (replace(PAPER, thinking=True), None, "2", "has no switch for thinking"),
        (PAPER, None, " ", "The problem is empty"),
        (replace(PAPER, examples=(("1", "2"),)), "[INST]{{ messages[-1].content }}", "3?", "leaves out a part"),
    ],
)
def test_what_cannot_be_asked_is_refused(settings, template, question, sentence):
    with pytest.raises(UserError, match=sentence):
        render(tokenizer(template), "m", question, settings)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ([], "not an object"),
        ({"sytem": "x"}, "has no setting 'sytem'"),
        ({"system": 3}, "The system prompt is not text"),
        ({"prefix": "\ud800"}, "assistant's prefix is not text"),
        ({"wrapping": "Solve it."}, r"lacks \{question\}"),
        ({"thinking": "maybe"}, "on or off"),
        ({"arguments": {"messages": []}}, "messages is set by this software"),
        ({"arguments": [1]}, "no JSON object"),
        ({"examples": [["a"]]}, "not a question with its response"),
        ({"examples": [["a", 3]]}, "response of example 1 is not text"),
        ({"date": "today"}, "is no date"),
        ({"date": 3}, "is no date"),
        ({"system": "x" * 20_001}, "limit is 20,000"),
        ({"template": False, "thinking": True}, "no thinking to switch|need the chat template"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(value, sentence):
    with pytest.raises(UserError, match=sentence):
        prompt_of(value)


SWITCH = (
    LOOP
    + START
    + ("{% if add_generation_prompt and NAME is defined and NAME is false %}<think>\n\n</think>\n\n{% endif %}")
)


@pytest.mark.parametrize("name", ["enable_thinking", "thinking"])
def test_thinking_is_switched_where_the_template_has_a_switch(name):
    template = SWITCH.replace("NAME", name)
    assert thinking_switch(tokenizer(template)) == name and thinking_switch(tokenizer()) is None
    off, on = (text_of(replace(PAPER, thinking=on), template) for on in (False, True))
    assert off.endswith("assistant\n<think>\n\n</think>\n\n") and on.endswith("assistant\n")
    mention = LOOP + START + "{% if message is defined %}{{ message.thinking }}{% endif %}"
    assert thinking_switch(tokenizer(mention)) is None


def test_an_answer_begins_where_the_prompt_leaves_off():
    """The prompt may hold the beginning of the response: an open thinking block, or the user's prefix."""
    opens = LOOP + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
    assert render(tokenizer(opens), "m", "What is <think>?").opening == "<think>\n"
    assert render(tokenizer(SWITCH), "m", "What is <think>?").opening == ""
    assert render(tokenizer(), "m", "2?", replace(PAPER, prefix="\\boxed{")).opening == "\\boxed{"


TODAY = "{{ strftime_now('%d %B %Y') }} " + LOOP + START


def test_one_date_for_a_whole_run(tmp_path):
    """Templates with strftime_now gave another prompt after midnight, and a resumed run another one again."""
    made = tokenizer(TODAY)
    settled = settle_date(PAPER, [made], {"date": "2024-02-29"})
    assert settled.date == "2024-02-29" and settle_date(settled, [made], {"date": "1999-01-01"}) == settled
    assert render(made, "m", "2 + 2?", settled).text.startswith("29 February 2024 <|im_start|>")
    assert settle_date(PAPER, [made]).date and settle_date(PAPER, [tokenizer()]) == PAPER
    assert settle_date(PRESETS["plain"], [made]) == PRESETS["plain"]


def test_a_prompt_that_changed_has_another_mark(tmp_path):
    loaded = load_model(str(save_tiny(tmp_path, 1)), CPU)
    first = prompt_marks({"expert": loaded}, PAPER)
    assert first == prompt_marks({"expert": loaded}, PAPER) and set(first) == {"expert's prompt"}
    assert first != prompt_marks({"expert": loaded}, replace(PAPER, prefix="x"))
    loaded.tokenizer.chat_template = "x" + loaded.tokenizer.chat_template
    assert first != prompt_marks({"expert": loaded}, PAPER)


def with_ends(begin: bool, end: bool, template: str | None = None):
    """A tokenizer that adds <|im_start|> before and <|im_end|> after plain text."""
    made = tokenizer(template)
    made.add_special_tokens({"bos_token": "<|im_start|>"})
    single = f"{'<|im_start|>:0 ' if begin else ''}$A:0{' <|im_end|>:0' if end else ''}"
    pair = f"{single} $B:1"
    special = [("<|im_start|>", 1), ("<|im_end|>", 2)]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=special
    )
    return made


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize("begin", [False, True])
@pytest.mark.parametrize(
    "template", ["", "{{ messages[-1].content }}", "<|im_start|>{{ messages[-1].content }}", "twice"]
)
def test_one_beginning_token_and_no_end_token(begin, end, template):
    """A tokenizer with add_eos ended the prompt, so the model began another text; a template may write the beginning
    token itself, or twice, or leave it out."""
    template = template.replace("twice", "<|im_start|><|im_start|>{{ messages[-1].content }}<|im_end|>")
    made = with_ends(begin, end, template)
    assert begins_with(made) == (1 if begin else None)
    for settings in (PAPER, PRESETS["plain"]):
        ids = render(made, "m", "2 + 2?", settings).ids
        writes = bool(settings.template and "im_start" in template)
        assert ids.count(1) == ids[:1].count(1) == int(begin or writes), settings
        assert 2 not in ids


def test_a_template_that_begins_with_a_new_line_gets_no_second_beginning_token():
    """Templates that are stored with their indentation write blanks before the token; a second was put before them."""
    made = with_ends(True, False, "\n  <|im_start|>{{ messages[-1].content }}")
    assert render(made, "m", "2 + 2?", replace(PAPER, system="")).ids.count(1) == 1


@pytest.mark.parametrize("flags", [{}, {"add_bos": True}, {"add_bos": True, "add_eos": True}, {"add_eos": True}])
def test_gguf_files_say_whether_text_begins_with_a_token(tmp_path, flags):
    loaded = load_model(str(save_tiny_gguf(tmp_path / "t.gguf", **flags)), CPU)
    for settings in (PAPER, PRESETS["plain"]):
        ids = render(loaded.tokenizer, "m", "2 + 2?", settings).ids
        assert ids[:2].count(1) == int(settings.template or "add_bos" in flags) and ids[-1] != 2
