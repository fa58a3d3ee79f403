"""Tracing with tiny random models gives the numbers of a plain full forward, however they are computed."""

from __future__ import annotations

import io
import re
import threading
from dataclasses import replace

import pytest
import torch

from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import describe_pair, load_pair
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.scoring.divergence import score_steps
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import EndEvent, PromptEvent, StepsEvent
from lightreasoner.tracing.records import Trace, columns, reweigh, step_line, stored_step_line, trace_csv, trace_json
from lightreasoner.tracing.terminal import print_events
from lightreasoner.tracing.trace import TraceRequest, trace
from tests.support.tiny_models import Broken, save_tiny, tiny_tokenizer

QUESTION = "Tom has 3 apples and buys 4. How many?"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(workspace=tmp_path_factory.mktemp("workspace"), device="cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory, settings):
    folder = tmp_path_factory.mktemp("models")
    expert, amateur = (str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2)))
    return load_pair(expert, amateur, LoadedModels(settings))


def run(pair, settings, **request):
    events = list(trace(pair, TraceRequest(**{"question": QUESTION, "max_new_tokens": 24} | request), settings))
    assert isinstance(events[0], PromptEvent) and isinstance(events[-1], EndEvent)
    return events, [step for e in events if isinstance(e, StepsEvent) for step in e.steps]


@torch.inference_mode()
def naive_scores(pair, response):
    """One full forward of each model over prompt and response, no cache, no chunks."""
    prompt = prompt_ids(pair.expert, QUESTION)
    ids = torch.tensor([prompt + response])
    rows = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
    vocabulary = pair.alignment.size
    e, a = (m.model(ids).logits[0, rows, :vocabulary] for m in (pair.expert, pair.amateur))
    return score_steps(e, a, response)


def close(a, b):
    for name in ("kl", "reverse_kl", "js", "expert_entropy", "amateur_entropy", "expert_logprob", "amateur_logprob"):
        assert getattr(a, name) == pytest.approx(getattr(b, name), abs=2e-5), name
    assert (a.expert_rank, a.amateur_rank, a.agree) == (b.expert_rank, b.amateur_rank, b.agree)
    assert dict(zip(a.ids, a.expert_logprobs, strict=True)) == pytest.approx(
        dict(zip(b.ids, b.expert_logprobs, strict=True)), abs=2e-5
    )


def test_generates_what_transformers_generates(pair, settings):
    _, steps = run(pair, settings)
    ids = torch.tensor([prompt_ids(pair.expert, QUESTION)])
    ends = list(pair.expert.end_ids)
    plain = pair.expert.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=ends
    )
    assert [s.token_id for s in steps] == plain[0, ids.shape[1] :].tolist()


def test_scores_equal_a_plain_forward_from_the_first_step_on(pair, settings):
    """Released code, mistake 4: step 0 was never scored."""
    _, steps = run(pair, settings)
    naive = naive_scores(pair, [s.token_id for s in steps])
    assert [s.index for s in steps] == list(range(len(naive)))
    for step, expected in zip(steps, naive, strict=True):
        close(step.score, expected)


def test_scoring_the_same_text_gives_the_same_numbers(pair, settings):
    _, written = run(pair, settings)
    # through branch-like prefixes, since random models may not write text that tokenizes back to the same ids
    ids = tuple(s.token_id for s in written)
    _, again = run(pair, settings, prefix=ids[:-1], max_new_tokens=1)
    assert [s.token_id for s in again] == list(ids)
    for a, b in zip(written, again, strict=True):
        close(a.score, b.score)


def test_a_given_response_is_scored_in_one_pass(pair, settings):
    events, steps = run(pair, settings, response="3 + 4 = 7, so seven apples. " * 12)
    assert len(steps) > 64  # more than one chunk
    assert events[-1].finish_reason == "given"
    assert "".join(s.text for s in steps) == "3 + 4 = 7, so seven apples. " * 12
    for step, expected in zip(steps, naive_scores(pair, [s.token_id for s in steps]), strict=True):
        close(step.score, expected)


def test_a_branch_keeps_the_prefix_and_forces_the_token(pair, settings):
    _, steps = run(pair, settings)
    ids = [s.token_id for s in steps]
    other = next(i for i in steps[5].score.ids if i != ids[5] and i not in pair.expert.end_ids)
    _, branched = run(pair, settings, prefix=(*ids[:5], other))
    assert [s.token_id for s in branched[:6]] == [*ids[:5], other]
    close(branched[5].score, naive_scores(pair, [*ids[:5], other])[5])
    for step, expected in zip(branched, naive_scores(pair, [s.token_id for s in branched]), strict=True):
        close(step.score, expected)


def test_forcing_the_end_of_the_turn_ends_it(pair, settings):
    end = next(iter(pair.expert.end_ids))
    events, steps = run(pair, settings, prefix=(end,))
    assert len(steps) == 1 and events[-1].finish_reason == "stop"


def test_the_end_of_the_turn_is_a_step_like_any_other(pair, settings):
    """Released code, mistake 3: special tokens were dropped, so the model was never taught to stop."""
    _, steps = run(pair, settings)
    third = steps[3].token_id
    early = replace(pair, expert=replace(pair.expert, end_ids=frozenset({third})))
    events, cut = run(early, settings)
    assert events[-1].finish_reason == "stop"
    assert cut[-1].token_id == third and len(cut) == [s.token_id for s in steps].index(third) + 1


def test_length_is_the_reason_when_the_tokens_run_out(pair, settings):
    endless = replace(pair, expert=replace(pair.expert, end_ids=frozenset()))
    events, steps = run(endless, settings, max_new_tokens=7)
    assert len(steps) == 7 and events[-1].finish_reason == "length"


def test_steps_come_in_small_batches_the_first_at_once(pair, settings):
    endless = replace(pair, expert=replace(pair.expert, end_ids=frozenset()))
    events, _ = run(endless, settings, max_new_tokens=20)
    assert [len(e.steps) for e in events if isinstance(e, StepsEvent)] == [1, 2, 4, 8, 5]


def test_sampling_is_seeded_and_uses_raw_logits(pair, settings):
    """Released code, mistake 5: scores were taken after temperature and truncation."""
    first, second, other = (
        [s.token_id for s in run(pair, settings, temperature=1.5, seed=seed)[1]] for seed in (1, 1, 2)
    )
    assert first == second != other
    _, steps = run(pair, settings, temperature=1.5, seed=1)
    for step, expected in zip(steps, naive_scores(pair, first), strict=True):
        close(step.score, expected)


def test_the_same_model_twice_diverges_nowhere(pair, settings):
    same = replace(pair, amateur=pair.expert, same_model=True)
    _, steps = run(same, settings)
    assert {s.score.kl for s in steps} == {0.0} and all(s.score.agree for s in steps)


def test_stopping_ends_it_at_the_next_token(pair, settings):
    stop, seen = threading.Event(), []
    endless = replace(pair, expert=replace(pair.expert, end_ids=frozenset()))
    for event in trace(endless, TraceRequest(QUESTION, max_new_tokens=400), settings, stop):
        if isinstance(event, StepsEvent):
            seen += event.steps
            stop.set()
    assert not isinstance(event, EndEvent)
    assert len(seen) == 1


@pytest.mark.parametrize(
    ("request_", "says"),
    [
        ({"question": ""}, "empty"),
        ({"question": " \n\t "}, "empty"),
        ({"question": None}, "empty"),
        ({"question": ["a"]}, "empty"),
        ({"question": "2 + 2 \ud800 ?"}, "^The problem holds half of a character"),
        ({"response": "4 \udfff"}, "^The response holds half of a character"),
        ({"question": "x" * 30_000}, "30,000 characters"),
        ({"question": "1 " * 5_000}, "tokens"),
        ({"question": "<|im_end|>"}, "control token"),
        ({"question": "Hi <|im_start|>assistant"}, "control token"),
        ({"response": ""}, "empty"),
        ({"response": "   "}, "empty"),
        ({"max_new_tokens": 0}, "token limit"),
        ({"max_new_tokens": -3}, "token limit"),
        ({"max_new_tokens": 10**12}, "token limit"),
        ({"max_new_tokens": float("nan")}, "token limit"),
        ({"max_new_tokens": 2.5}, "token limit"),
        ({"max_new_tokens": "8"}, "token limit"),
        ({"max_new_tokens": True}, "token limit"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": -1}, "temperature"),
        ({"temperature": float("inf")}, "temperature"),
        ({"seed": -1}, "seed"),
        ({"seed": 1e300}, "seed"),
        ({"prefix": (10**9,)}, "vocabulary"),
        ({"prefix": (-1,)}, "vocabulary"),
    ],
)
def test_requests_that_cannot_work_are_refused_in_a_sentence(pair, settings, request_, says):
    with pytest.raises(UserError, match=says) as caught:
        list(trace(pair, TraceRequest(**{"question": QUESTION} | request_), settings))
    assert len(str(caught.value)) < 400 and "\n" not in str(caught.value)


def test_what_does_not_fit_into_the_model_is_refused_with_the_room_left(pair, settings):
    with pytest.raises(UserError, match=r"lower the token limit to \d+"):
        list(trace(pair, TraceRequest(QUESTION, max_new_tokens=2000), settings))


def test_a_model_that_puts_out_nan_is_named_not_drawn(pair, settings):
    broken = replace(pair, expert=replace(pair.expert, model=Broken(pair.expert.model)))
    with pytest.raises(UserError, match=r"step 0.*not a distribution"):
        list(trace(broken, TraceRequest(QUESTION), settings))


def test_several_amateurs_read_along_as_each_alone(pair, settings, tmp_path, capsys):
    """Issue 15: the curve had one amateur. Each has the KL of a trace of its own, also of one with other tokens."""
    models = LoadedModels(settings)
    expert = str(pair.expert.ref)
    other_ends = tiny_tokenizer(specials=("<pad>", "<start>", "<end>"))
    made = save_tiny(tmp_path / "b", seed=7), save_tiny(tmp_path / "c", 8, other_ends)
    others = [load_pair(expert, str(amateur), models) for amateur in made]
    request = TraceRequest("Tom has 3 apples. How many?", max_new_tokens=12)

    def steps(of, along=()):
        events = trace(of, request, settings, others=along)
        return [step for event in events if isinstance(event, StepsEvent) for step in event.steps]

    found = steps(pair, others)
    assert [s.score for s in found] == [s.score for s in steps(pair)] and len(found) > 3
    for n, other in enumerate(others):
        own = steps(other)
        assert [s.token_id for s in found] == [s.token_id for s in own]
        assert [s.other_kls[n] for s in found] == pytest.approx([s.score.kl for s in own], abs=1e-5)
    record = Trace(describe_pair(pair, others), request)
    for event in trace(pair, request, settings, others=others):
        record.add(event, TokenTexts(pair.expert.tokenizer))
    document = trace_json(record)
    assert document["pair"]["others"] == [str(other.amateur.ref) for other in others]
    assert columns(document)[-2:] == ("other_kl_1", "other_kl_2")
    measured = columns(document)
    assert [stored_step_line(step, measured) for step in document["steps"]] == [step_line(s) for s in record.steps]
    assert trace_csv(reweigh(document, 0.2, 0.4)).splitlines()[0].count("other_kl_") == 2
    out = io.StringIO()
    list(print_events(trace(pair, request, settings, others=others), 0.4, out, others=["b", "c"]))
    assert re.search(r"\nb: \d+ steps above β · mean KL", out.getvalue())
    for wrong, says in (([others[0]] * 2, "named twice"), ([*others, *others], "at most 4")):
        with pytest.raises(UserError, match=says):
            next(trace(pair, request, settings, others=wrong))
