"""Where a turn ends: every source counts, and sampler, tracer, evaluator and grader agree."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import known_ends, load_model
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.models.turn_ends import (
    ResponseEnds,
    describe_ends,
    finished_text,
    parse_stops,
    template_ends,
    turn_end_id,
    turn_ends,
    written_stop,
)
from lightreasoner.models.weights import MODELS, Files
from lightreasoner.settings import Settings
from lightreasoner.tracing.trace import TraceRequest, trace
from tests.support.tiny_models import END, PAD, save_tiny, save_tiny_gguf, tiny_tokenizer

CPU = Settings(device="cpu")
EXPERT, AMATEUR = "lightreasoner-expert-4m", "lightreasoner-amateur-1m"
QUESTION = "Tom has 3 apples and buys 4 more. How many apples does he have?"


@pytest.fixture(scope="module")
def qwen_like(tmp_path_factory) -> Path:
    """The bundled expert with Qwen2.5 base's contradiction: <|im_end|> in the template, <|endoftext|> elsewhere."""
    folder = tmp_path_factory.mktemp("qwen") / "expert"
    shutil.copytree(MODELS / EXPERT, folder)
    for name, changed in (
        ("config.json", {"eos_token_id": 0}),
        ("generation_config.json", {"eos_token_id": 0}),
        ("tokenizer_config.json", {"eos_token": PAD}),
    ):
        raw = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(raw | changed))
    return folder


def test_a_base_model_stops_at_the_end_of_its_template(qwen_like):
    """The paper's presets ran on past <|im_end|> to the token limit, because only eos tokens were ends."""
    models = LoadedModels(CPU)
    pair = load_pair(str(qwen_like), AMATEUR, models)
    assert pair.expert.tokenizer.eos_token == PAD and pair.expert.end_ids == {0, 2}
    *_, end = trace(pair, TraceRequest(QUESTION, max_new_tokens=120), CPU)
    *_, usual = trace(load_pair(EXPERT, AMATEUR, models), TraceRequest(QUESTION, max_new_tokens=120), CPU)
    assert (end.finish_reason, end.text) == ("stop", usual.text) and END not in end.text
    prompt = prompt_ids(pair.expert, QUESTION)
    response = greedy_generate(pair.expert, [prompt], 120)[0]
    assert response[-1] == 2 and finished_text(pair.expert, response) == (end.text, "stop")


def test_the_card_names_each_end_and_its_source(qwen_like):
    text = "<|im_end|> (chat template), <|endoftext|> (generation config, config, tokenizer)"
    assert describe_ends(known_ends(str(qwen_like))) == text
    assert describe_ends(load_model(str(qwen_like), CPU).ends) == text


TEMPLATES = {
    "chatml": ("{{ m.content }}<|im_end|>\n", "", [2]),
    "llama": ("{{ ' ' + m.content }} <|endoftext|>", "", [0]),
    "phi": ("{{ m.content }}<|im_end|>\n", "{% if not add_generation_prompt %}<|endoftext|>{% endif %}", [2]),
    "glm": ("<|im_start|>{{ m.role }}\n{{ m.content }}", "", [1]),  # the next turn's opening ends the turn
    "human": (
        "{{ '\n\n' + {'user': 'Human', 'assistant': 'Assistant'}[m.role] }}: {{ m.content }}",
        "",
        ["\n\nHuman:"],
    ),
    "no token": ("{{ m.content }}</s>\n", "", ["</s>"]),
    "end by text": ("{{ m.content }}\n### End\n", "", ["\n### End"]),
    "nothing": ("{{ m.content }}", "", []),
    "without assistant": ("{% if m.role == 'user' %}{{ m.content }}<|im_end|>{% endif %}", "", []),
    "refusing": ("{{ raise_exception('no') if m.role == 'assistant' }}{{ m.content }}<|im_end|>", "", []),
    "shouting": ("{{ m.content | upper }}<|im_end|>", "", []),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_what_a_template_writes_after_the_answer_is_its_end(name):
    turn, after, ends = TEMPLATES[name]
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{% for m in messages %}" + turn + "{% endfor %}" + after
    assert template_ends(tokenizer) == ends
    assert turn_end_id(tokenizer) == (ends[0] if ends and isinstance(ends[0], int) else 2)


def test_lists_strings_and_inner_configs_are_read(tmp_path):
    folder = save_tiny(tmp_path / "m", 1)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [0, 7], "stop_strings": ["\nQ:"]}))
    config = json.loads((folder / "config.json").read_text())
    config |= {"eos_token_id": None, "text_config": {"eos_token_id": [1]}}
    (folder / "config.json").write_text(json.dumps(config))
    found = turn_ends(Files(folder), tiny_tokenizer())
    assert {end.id for end in found} == {0, 1, 2, 7, None} and {end.text for end in found if end.id is None} == {"\nQ:"}


def test_an_end_that_the_tokenizer_lacks_or_a_default_of_the_config_is_none(tmp_path):
    """LlamaConfig writes eos_token_id 2 whatever the tokenizer is: an ordinary word would end every response."""
    folder = save_tiny(tmp_path / "m", 1)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"eos_token_id": [40, 50_256]}))
    (folder / "generation_config.json").unlink()
    assert load_model(str(folder), CPU).end_ids == {2}


def test_a_gguf_file_says_its_ends_too(tmp_path):
    loaded = load_model(str(save_tiny_gguf(tmp_path / "m.gguf")), CPU)
    assert describe_ends(loaded.ends) == "<|im_end|> (chat template, GGUF file, tokenizer)"


# --- stop strings -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pair():
    return load_pair(EXPERT, AMATEUR, LoadedModels(CPU))


def test_a_stop_string_may_span_tokens_and_end_inside_one(pair):
    prompt = prompt_ids(pair.expert, QUESTION)
    whole = greedy_generate(pair.expert, [prompt], 120)[0]
    text, _ = finished_text(pair.expert, whole)
    decode = pair.expert.tokenizer.decode
    for start in range(1, len(text) - 5, 7):
        stop = text[start : start + 5]
        first = text.index(stop)
        ids = greedy_generate(pair.expert, [prompt], 120, stop=(stop,))[0]
        assert ids == whole[: len(ids)] and finished_text(pair.expert, ids, (stop,)) == (text[:first], "stop")
        assert stop in decode(ids) and stop not in decode(ids[:-1]), "the token that completes it is the last"


def test_tracer_sampler_and_evaluator_stop_at_the_same_token(pair, tmp_path):
    """`trace`, `sample` and `evaluate` each had an own rule for the end of a response."""
    from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, generate_batch
    from lightreasoner.evaluation.evaluate import graded_rows
    from lightreasoner.problems.rows import Problem
    from lightreasoner.sampling.trajectory_table import batch_table

    problems = [Problem(str(n), q, "7") for n, q in enumerate((QUESTION, "Ann has 5 pens and loses 2. How many?"))]
    prompts = [prompt_ids(pair.expert, problem.question) for problem in problems]
    stop = (" = ",)
    rows = [GenerationRow(p, 0, ids, ids) for p, ids in zip(problems, prompts, strict=True)]
    found = generate_batch(pair, rows, DecodingConfig(60, stop=stop), lambda ended: None)
    table = batch_table(pair, rows, found, stop).to_pylist()
    graded = graded_rows(pair.expert, "m", problems, greedy_generate(pair.expert, prompts, 60, stop=stop), 1.0, stop)
    for n, problem in enumerate(problems):
        *steps, end = trace(pair, TraceRequest(problem.question, max_new_tokens=60, stop=stop), CPU)
        tokens = [step.token_id for event in steps[1:] for step in event.steps]
        assert tokens == table[n]["response_ids"] == graded[n]["response_ids"]
        assert end.text == table[n]["response"] == graded[n]["response"] and " = " not in end.text
        assert end.finish_reason == table[n]["finish_reason"] == graded[n]["finish_reason"] == "stop"
    prefix = tuple(table[0]["response_ids"])
    *_, end = trace(pair, TraceRequest(QUESTION, prefix=prefix, max_new_tokens=60, stop=stop), CPU)
    assert (end.text, end.finish_reason) == (table[0]["response"], "stop"), "a beginning that has ended goes no further"


def test_rows_are_watched_apart(pair):
    loaded = replace(pair.expert, end_ids=frozenset())
    ids = loaded.tokenizer("7q", add_special_tokens=False)["input_ids"]
    assert len(ids) == 2
    ends = ResponseEnds(loaded, ["7q"])
    assert not ends.ended(ids[0], row=0) and not ends.ended(ids[1], row=1) and ends.ended(ids[1], row=0)


def test_a_stop_string_may_hold_characters_of_several_tokens(pair):
    loaded = replace(pair.expert, end_ids=frozenset())
    ids = loaded.tokenizer("so 三 是 答案。好", add_special_tokens=False)["input_ids"]
    ends = ResponseEnds(loaded, ["答案。"])
    seen = [ends.ended(id) for id in ids]
    assert sum(seen) and finished_text(loaded, ids[: seen.index(True) + 1], ["答案。"]) == ("so 三 是 ", "stop")
    assert finished_text(loaded, ids[: seen.index(True)], ["答案。"])[1] == "length"


def test_stop_strings_are_read_as_they_are_written():
    stops = parse_stops([r"\n\nQ:", r"a\\n", "", "x", "x"])
    assert stops == ("\n\nQ:", "a\\n", "x") and parse_stops(map(written_stop, stops)) == stops
    for wrong in (["a" * 300], [str(n) for n in range(20)], ["\ud800"]):
        with pytest.raises(UserError):
            parse_stops(wrong)
