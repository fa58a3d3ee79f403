"""Chat templates are programs of strangers: whatever they do is bounded and becomes one sentence."""

from __future__ import annotations

import time

import pytest

from lightreasoner.errors import UserError
from lightreasoner.models import chat_templates as templates
from lightreasoner.models.chat_templates import TOO_MUCH, TemplateError, is_plain, render_template
from lightreasoner.models.prompt_settings import PAPER
from lightreasoner.models.prompts import render, thinking_switch
from lightreasoner.models.turn_ends import template_ends
from tests.support.tiny_models import CHAT_TEMPLATE, tiny_tokenizer

TURNS = [{"role": "user", "content": "Hi"}]
DOUBLING = "{% set n = namespace(x='a' * 16) %}{% for i in range(40) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
NESTED = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
HOSTILE = {
    "{{ 'a' * 3000000000 }}": TOO_MUCH["memory"],
    "{{ 'a'|center(10**9) }}": TOO_MUCH["memory"],
    "{{ '%1000000000d' % 1 }}": TOO_MUCH["memory"],
    "{{ [1]|batch(10**9, 0)|list }}": TOO_MUCH["memory"],
    DOUBLING: TOO_MUCH["memory"],
    "{% for i in range(10**9) %}x{% endfor %}": TOO_MUCH["time"],
    NESTED: TOO_MUCH["time"],
    "{{ 10 ** 10 ** 8 }}" + NESTED: TOO_MUCH["time"],
    "{{ 'ab' * 2000001 }}": TOO_MUCH["length"],
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}": "recursion",
    "{% for m in messages recursive %}{{ loop(messages) }}{% endfor %}": "recursion",
    "{{ " + "(" * 5000 + ")" * 5000 + " }}": "recursion",
    "{{ raise_exception('no\nway') }}": "no",
    "{{ 1 / 0 }}": "division by zero",
    "{{ nothing.at.all }}": "undefined",
    "{% if %}": "Expected an expression",
    "{{ messages.append(1) }}": "unsafe",
    "{{ messages[0]['content'] }}{{ '\\ud800' }}": "characters that are not text",
}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A twentieth of the seconds; one process for all."""
    monkeypatch.setattr(templates, "_worker", WORKER)
    templates._condemned.clear()


WORKER = templates.Worker("tests.support.hasty_templates", 0.3)


@pytest.mark.parametrize("template", HOSTILE)
def test_a_hostile_template_is_bounded_and_one_sentence(template):
    """They took all memory, or never ended, at load and at every prompt."""
    tokenizer, began = tiny_tokenizer(), time.process_time()
    tokenizer.chat_template = template
    with pytest.raises(UserError, match=r"^The chat template of m cannot render this prompt: ") as refused:
        render(tokenizer, "m", "How many?")
    bounds = [HOSTILE[template]] if template != DOUBLING else [TOO_MUCH["memory"], TOO_MUCH["time"]]  # what comes first
    assert any(bound in str(refused.value) for bound in bounds) and "\n" not in str(refused.value)
    assert template_ends(tokenizer) == [] and thinking_switch(tokenizer) is None
    assert time.process_time() - began < 2  # of this process: the rest is bounded by the worker


def test_a_template_that_fails_only_where_a_conversation_has_ended_is_a_sentence():
    """It was a traceback: only the first of two renderings was guarded."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template += "{% if not add_generation_prompt %}{{ raise_exception('never') }}{% endif %}"
    with pytest.raises(
        UserError, match=r"^The chat template of m cannot render a conversation that has ended \(never\)"
    ):
        render(tokenizer, "m", "How many?")


def test_one_that_fails_once_is_not_tried_again_and_the_next_one_works():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = NESTED
    for _ in range(2):
        began = time.monotonic()
        with pytest.raises(TemplateError, match="may never end"):
            render_template(tokenizer, TURNS, True)
    assert time.monotonic() - began < 0.2
    tokenizer.chat_template = (
        "{% set x = 1 %}{{ messages[0]['content'] }}{{ eos_token }}{{ a }}{{ strftime_now('%Y') }}"
    )
    assert render_template(tokenizer, TURNS, True, {"a": [1]}, "1999-12-31") == "Hi<|im_end|>[1]1999"


def test_a_template_that_draws_at_random_draws_the_same_each_time():
    """Each problem of a run had another prompt, and a resumed run as well."""
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0]['content'] }}{{ range(99_999)|random }}"
    assert len({render_template(tokenizer, TURNS, True) for _ in range(3)}) == 1


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, "{% set x = '' %}" + CHAT_TEMPLATE])
def test_here_and_there_a_template_is_what_transformers_makes_of_it(template):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = template
    assert is_plain(template) == (template == CHAT_TEMPLATE)
    for generation in (True, False):
        plain = tokenizer.apply_chat_template(TURNS, tokenize=False, add_generation_prompt=generation)
        assert render_template(tokenizer, TURNS, generation) == plain
    assert PAPER.template


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages %}{% for n in messages %}x{% endfor %}{% endfor %}",
        "{% for c in messages[0]['content'] %}x{% endfor %}",
        "{% for messages in messages %}{{ messages }}{% endfor %}",
        "{{ messages|join('x') }}",
        "{{ 'a' ~ f() }}",
        "{{ 2 ** 3 }}",
        "{{ messages[0:1] }}",
        "{% set a = 'a' %}",
        "{% call f() %}{% endcall %}",
        "{% block a %}{{ self.a() }}{% endblock %}",
        "{% include 'x' %}",
    ],
)
def test_only_what_surely_ends_is_rendered_in_this_process(template):
    assert not is_plain(template)
