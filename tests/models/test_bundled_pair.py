"""The bundled pair on the bundled problems."""

from __future__ import annotations

import json
import random
import re
import sys

import pytest

from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import load_pair, presets
from lightreasoner.problems.stream import load_problems
from lightreasoner.settings import ASSETS, ROOT, Settings
from lightreasoner.tracing import example
from lightreasoner.tracing.events import EndEvent, StepsEvent
from lightreasoner.tracing.records import load_record
from lightreasoner.tracing.trace import TraceRequest, trace

sys.path.append(str(ROOT / "scripts"))
import bundled_data

NAMES = ("lightreasoner-expert-4m", "lightreasoner-amateur-1m")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(workspace=tmp_path_factory.mktemp("workspace"), device="cpu")


@pytest.fixture(scope="module")
def pair(settings):
    return load_pair(*NAMES, LoadedModels(settings), name="bundled")


def run(pair, settings, question, **more):
    events = list(trace(pair, TraceRequest(question, **more), settings))
    return events[-1], [step for e in events if isinstance(e, StepsEvent) for step in e.steps]


def test_files_are_small_and_sizes_are_what_the_preset_says(pair):
    for name in NAMES:
        assert max(f.stat().st_size for f in (ASSETS / "models" / name).iterdir()) < 10_000_000
        assert (ASSETS / "models" / name / "README.md").read_text().startswith("---\nlicense:")
    first = presets()[0]
    assert (first.expert, first.amateur) == NAMES
    assert (pair.expert.parameters, pair.amateur.parameters) == (first.expert_params, first.amateur_params)
    assert 3_500_000 <= pair.expert.parameters <= 4_500_000


def test_one_tokenizer_one_token_a_digit_and_a_whole_byte_alphabet(pair):
    tokenizer = pair.expert.tokenizer
    assert pair.alignment.size == len(tokenizer) == 2048 and pair.same_special_tokens
    assert tokenizer.convert_ids_to_tokens(tokenizer("1234567890")["input_ids"]) == list("1234567890")
    text = "naïve 你好 👩‍👧 \t\x00 12.5 €"
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text
    assert pair.expert.end_ids == {tokenizer.convert_tokens_to_ids("<|im_end|>")}


def assert_alike(a: object, b: object) -> None:
    """Equal, and numbers as nearly as two machines compute them."""
    if isinstance(a, float) and isinstance(b, float):
        assert a == pytest.approx(b, rel=1e-3, abs=1e-4)
    elif isinstance(a, dict) and isinstance(b, dict):
        assert a.keys() == b.keys()
        for name in a:
            assert_alike(a[name], b[name])
    elif isinstance(a, list) and isinstance(b, list):
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            assert_alike(x, y)
    else:
        assert a == b


def test_the_stored_example_is_what_the_bundled_pair_writes(settings):
    """The page opens on it, so it must not show a trace of models that are no longer there."""
    stored = load_record(example.EXAMPLE, example.FOLDER)
    assert stored["graded"]["right"]
    assert_alike(json.loads(json.dumps(example.trace_example(settings))), stored)


def test_plain_transformers_loads_them_and_spells_problems_alike(pair):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    plain = AutoTokenizer.from_pretrained(ASSETS / "models" / NAMES[0])
    for problem in load_problems("bundled-test", limit=100).problems:
        assert plain(problem.question)["input_ids"] == pair.expert.tokenizer(problem.question)["input_ids"]
    model = AutoModelForCausalLM.from_pretrained(ASSETS / "models" / NAMES[0])
    assert model.config.model_type == "qwen2" and str(model.dtype) == "torch.bfloat16"


def test_the_expert_answers_and_ends_its_turn(pair, settings):
    for problem in load_problems("bundled-test", limit=12).problems:
        end, steps = run(pair, settings, problem.question)
        assert isinstance(end, EndEvent) and end.finish_reason == "stop"
        assert re.search(r"####\s*\d+$|The answer is \d+\.$", end.text.strip())
        assert steps[-1].token_id in pair.expert.end_ids


def test_the_pair_parts_over_the_habit_at_the_first_step(pair, settings):
    """What the pair is for: the expert would rather work it out than the amateur, so step 0 is worth training on."""
    first = [
        run(pair, settings, p.question, max_new_tokens=1)[1][0] for p in load_problems("bundled-test").problems[:40]
    ]
    let = pair.expert.tokenizer("Let")["input_ids"][0]
    for step in first:
        at = step.score.ids.index(let)
        assert step.score.expert_logprobs[at] > step.score.amateur_logprobs[at]
    assert sum(step.score.kl > 0.4 for step in first) > 20


def test_a_trace_is_the_same_twice(pair, settings):
    question = load_problems("bundled-test", limit=1).problems[0].question
    assert run(pair, settings, question)[1] == run(pair, settings, question)[1]


def test_the_card_reports_what_was_measured():
    card = (ASSETS / "models" / NAMES[0] / "README.md").read_text()
    assert "500 held-out problems" in card and card.count("95 % interval") >= 3
    cost = json.loads((ASSETS / "models" / NAMES[0] / "training.json").read_text())
    assert sum(p["tokens"] for p in cost["phases"]) > 1_000_000


def test_problems_are_complete_distinct_and_disjoint():
    train, test = (load_problems(f"bundled-{split}").problems for split in ("train", "test"))
    assert (len(train), len(test)) == (1000, 500)
    questions = {p.question for p in train} | {p.question for p in test}
    assert len(questions) == 1500
    assert len({p.id for p in (*train, *test)}) == 1500
    for problem in (*train, *test):
        assert problem.solution.strip().endswith(f"#### {problem.answer}")
        assert bundled_data.small_integers_only(f"{problem.question} {problem.solution} {problem.answer}")


def test_shifted_problems_are_like_the_others_but_for_a_larger_number():
    shifted = load_problems("bundled-shifted").problems
    assert len({p.question for p in shifted}) == len(shifted) == 500
    for problem in shifted:
        text = f"{problem.question} {problem.solution} {problem.answer}"
        assert bundled_data.small_integers_only(text, bundled_data.LARGEST_SHIFTED)
        assert not bundled_data.small_integers_only(text)


def test_what_the_training_text_may_hold():
    assert bundled_data.small_integers_only("3 apples, 100 pears") and not bundled_data.small_integers_only("101 pears")
    assert not bundled_data.small_integers_only("2.5 apples") and not bundled_data.small_integers_only("1,000 apples")
    assert bundled_data.divisions_come_out("52 / 13 = 4") and not bundled_data.divisions_come_out("50 / 13 = 3")


def test_equations_and_drills_are_true():
    rng = random.Random(5)
    for item in (bundled_data.equation(rng) for _ in range(300)):
        asked = re.search(r"[\d(][\d()+*/ -]*\d", item.question)[0]
        assert eval(asked) == int(item.answer), item.question
    for item in (bundled_data.drill(rng) for _ in range(100)):
        *lines, last = item.solution.split("\n")
        for line in lines:
            left, right = line.replace("x", "*").split("=")
            assert eval(left) == int(right) and 0 <= int(right) <= 100
        assert last == f"#### {item.answer}"
