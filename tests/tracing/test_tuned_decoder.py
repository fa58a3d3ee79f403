"""What training changed: by hand, against a plain full forward, and in every place that saves a trace."""

from __future__ import annotations

import csv
import io
import json
import math
from dataclasses import fields, replace

import pytest
import torch

from lightreasoner.cli.main import main
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import load_model, tensor_bytes
from lightreasoner.models.pairs import describe_pair, load_pair
from lightreasoner.models.prompts import prompt_ids
from lightreasoner.scoring.divergence import StepScore, score_steps
from lightreasoner.scoring.measures import STEP_MEASURES, TUNING_MEASURES
from lightreasoner.settings import Settings
from lightreasoner.tracing import tuned_decoder as tuned_decoder
from lightreasoner.tracing.events import EndEvent, StepsEvent
from lightreasoner.tracing.records import Trace, load_record, reweigh, save_trace, trace_csv, trace_json
from lightreasoner.tracing.trace import TraceRequest, trace
from lightreasoner.tracing.tuned_decoder import (
    EXPERT,
    TUNED,
    TunedModel,
    check_fits,
    load_tuned_model,
    score_tuned_steps,
    tuned_ref,
)
from tests.support.tiny_models import Broken, logits_of, save_tiny, save_tiny_adapter, tiny_model, tiny_tokenizer

QUESTION = "Tom has 3 apples and buys 4. How many?"


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(workspace=tmp_path_factory.mktemp("workspace"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    save_tiny(folder / "expert", seed=1)
    save_tiny(folder / "amateur", seed=2)
    save_tiny_adapter(folder / "adapter", tiny_model(1), seed=3)
    return folder


@pytest.fixture(scope="module")
def models(settings):
    return LoadedModels(settings)


@pytest.fixture(scope="module")
def pair(folder, models):
    return load_pair(str(folder / "expert"), str(folder / "amateur"), models)


@pytest.fixture(scope="module")
def tuned(folder, pair, models):
    return load_tuned_model(tuned_ref(str(folder / "adapter"), str(folder / "expert")), EXPERT, pair, models)


def run(pair, settings, tuned=None, **request):
    events = list(
        trace(pair, TraceRequest(**{"question": QUESTION, "max_new_tokens": 24} | request), settings, None, tuned)
    )
    assert isinstance(events[-1], EndEvent)
    return events, [step for e in events if isinstance(e, StepsEvent) for step in e.steps]


def test_the_shift_by_hand():
    """Four tokens; E = (1/2, 1/4, 1/8, 1/8), E′ = (1/4, 1/2, 1/8, 1/8), A uniform."""
    expert, tuned = (torch.tensor([p]).log() for p in ([0.5, 0.25, 0.125, 0.125], [0.25, 0.5, 0.125, 0.125]))
    [(score, moved)] = score_tuned_steps(expert + 3, torch.zeros(1, 4), tuned - 7, [0])
    # KL(E′ ‖ E) = 1/4 · log(1/2) + 1/2 · log 2 = 1/4 · log 2, and the other way round the same
    assert moved.tuned_kl == pytest.approx(0.25 * math.log(2), abs=1e-6)
    assert moved.tuned_reverse_kl == pytest.approx(0.25 * math.log(2), abs=1e-6)
    assert moved.tuned_changed is True
    assert moved.tuned_logprob == pytest.approx(math.log(0.25), abs=1e-6)
    assert moved.tuned_rank == 2
    assert score.ids == (0, 1, 2, 3)
    assert moved.tuned_logprobs == pytest.approx([math.log(p) for p in (0.25, 0.5, 0.125, 0.125)], abs=1e-6)


def test_the_two_directions_are_told_apart():
    """E = (3/4, 1/4), E′ = (1/4, 3/4) would be symmetric; (9/10, 1/10) against halves is not."""
    expert, tuned = torch.tensor([[0.9, 0.1]]).log(), torch.zeros(1, 2)
    [(_, moved)] = score_tuned_steps(expert, expert, tuned, [1])
    assert moved.tuned_kl == pytest.approx(0.5 * math.log(0.5 / 0.9) + 0.5 * math.log(0.5 / 0.1), abs=1e-6)
    assert moved.tuned_reverse_kl == pytest.approx(0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5), abs=1e-6)


def test_mass_where_the_expert_has_none_is_infinite_and_written_as_null():
    expert, tuned = torch.tensor([[0.0, -math.inf]]), torch.tensor([[0.0, 0.0]])
    [(_, moved)] = score_tuned_steps(expert, expert, tuned, [0])
    assert moved.tuned_kl == math.inf
    assert moved.tuned_reverse_kl == pytest.approx(math.log(2), abs=1e-6)


def test_a_token_that_is_not_shared_has_no_probability():
    [(_, moved)] = score_tuned_steps(torch.zeros(1, 4), torch.zeros(1, 4), torch.ones(1, 4), [None])
    assert moved.tuned_logprob is None and moved.tuned_rank is None and moved.tuned_kl == 0.0


def naive(expert, amateur, tuned, taken):
    """One step at a time, in fp64, by the definitions."""
    p, t = (torch.softmax(x.double(), -1) for x in (expert, tuned))
    kl = (t * (t / p).log()).sum().item()
    back = (p * (p / t).log()).sum().item()
    ranks = 1 + sum(x > t[taken] for x in t)
    return kl, back, bool(t.argmax() != p.argmax()), t[taken].log().item(), int(ranks)


@pytest.mark.parametrize("vocabulary", [5, 300, 60_000])  # fewer than TOP_K, one block, blocks of two steps
def test_random_steps_against_the_definitions(vocabulary):
    generator = torch.Generator().manual_seed(vocabulary)
    expert, amateur, noise = (3 * torch.randn(7, vocabulary, generator=generator) for _ in range(3))
    tuned = expert + 0.5 * noise
    taken = torch.randint(0, vocabulary, (7,), generator=generator).tolist()
    plain = score_steps(expert, amateur, taken)
    for n, (score, moved) in enumerate(score_tuned_steps(expert, amateur, tuned, taken)):
        expected = naive(expert[n], amateur[n], tuned[n], taken[n])
        assert [getattr(moved, name) for name in TUNING_MEASURES] == pytest.approx(expected, abs=2e-5)
        # the pair's own score is untouched but for further candidates
        for field in fields(StepScore):
            if field.name not in ("ids", "expert_logprobs", "amateur_logprobs"):
                assert getattr(score, field.name) == getattr(plain[n], field.name)
        top = tuned[n].topk(min(10, vocabulary)).indices.tolist()
        assert set(score.ids) == set(plain[n].ids) | set(top)
        assert list(score.expert_logprobs) == sorted(score.expert_logprobs, reverse=True)
        for who, logits, kept in (
            ("expert", expert, score.expert_logprobs),
            ("amateur", amateur, score.amateur_logprobs),
            ("tuned", tuned, moved.tuned_logprobs),
        ):
            logs = torch.log_softmax(logits[n], -1)
            assert list(kept) == pytest.approx(logs[list(score.ids)].tolist(), abs=2e-5), who


@torch.inference_mode()
def naive_scores(pair, tuned, response):
    """One full forward of each model over prompt and response: no cache, no chunks."""
    prompt = prompt_ids(pair.expert, QUESTION)
    ids = torch.tensor([prompt + response])
    rows = slice(len(prompt) - 1, len(prompt) + len(response) - 1)
    logits = [m.model(ids).logits[0, rows, : pair.alignment.size] for m in (pair.expert, pair.amateur, tuned.loaded)]
    return score_tuned_steps(*logits, response)


def same(steps, expected):
    for step, (score, moved) in zip(steps, expected, strict=True):
        assert step.score.kl == pytest.approx(score.kl, abs=2e-5)
        for name in TUNING_MEASURES:
            assert getattr(step.shift, name) == pytest.approx(getattr(moved, name), abs=2e-5), name
        kept = dict(zip(step.score.ids, step.shift.tuned_logprobs, strict=True))
        assert kept == pytest.approx(dict(zip(score.ids, moved.tuned_logprobs, strict=True)), abs=2e-5)


@pytest.mark.parametrize("writer", [EXPERT, TUNED])
def test_scores_equal_a_plain_forward_of_all_three(pair, tuned, settings, writer):
    _, steps = run(pair, settings, replace(tuned, writer=writer))
    same(steps, naive_scores(pair, tuned, [s.token_id for s in steps]))
    assert any(step.shift.tuned_changed for step in steps) and max(s.shift.tuned_kl for s in steps) > 0.01


def test_the_writer_decides_the_tokens(pair, tuned, settings):
    for writer, loaded in ((EXPERT, pair.expert), (TUNED, tuned.loaded)):
        _, steps = run(pair, settings, replace(tuned, writer=writer))
        ids = torch.tensor([prompt_ids(pair.expert, QUESTION)])
        ends = list(loaded.end_ids)
        plain = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, eos_token_id=ends
        )
        assert [s.token_id for s in steps] == plain[0, ids.shape[1] :].tolist()


@pytest.mark.parametrize("writer", [EXPERT, TUNED])
def test_a_given_text_and_a_kept_prefix_are_read_by_all_three(pair, tuned, settings, writer):
    own = replace(tuned, writer=writer)
    _, steps = run(pair, settings, own, response="3 + 4 = 7, so seven apples. " * 8)
    assert len(steps) > 64  # more than one chunk
    same(steps, naive_scores(pair, tuned, [s.token_id for s in steps]))
    _, branched = run(pair, settings, own, prefix=tuple(s.token_id for s in steps[:70]), max_new_tokens=5)
    same(branched, naive_scores(pair, tuned, [s.token_id for s in branched]))


def test_without_a_tuned_expert_nothing_is_added(pair, tuned, settings):
    """Same tokens, same scores, same JSON and CSV keys as a trace of the pair alone."""
    _, plain = run(pair, settings)
    _, three = run(pair, settings, tuned)
    assert [s.token_id for s in plain] == [s.token_id for s in three]
    assert all(step.shift is None for step in plain)
    for a, b in zip(plain, three, strict=True):
        assert {f.name: getattr(a.score, f.name) for f in fields(StepScore) if f.name in STEP_MEASURES} == {
            f.name: getattr(b.score, f.name) for f in fields(StepScore) if f.name in STEP_MEASURES
        }
    record = record_of(pair, None, settings)
    assert "lens" not in record
    found = {"index", "token_id", "text", *STEP_MEASURES, "selected", "teaching", "support", "candidates"}
    assert set(record["steps"][0]) == found
    assert set(record["steps"][0]["candidates"]) == {"ids", "expert_logprobs", "amateur_logprobs"}
    assert trace_csv(record).splitlines()[0] == ",".join(
        ["step", "token_id", "text", *STEP_MEASURES, "selected", "teaching"]
    )


class Texts:
    def text(self, id):
        return f"t{id}"


def record_of(pair, tuned, settings, folder=None):
    kept = Trace(describe_pair(pair), TraceRequest(QUESTION, max_new_tokens=12))
    kept.tuned = tuned and tuned_decoder.describe_tuned(tuned, pair)
    for event in trace(pair, kept.request, settings, None, tuned):
        kept.add(event, Texts())
    if folder:
        save_trace(kept, folder)
    return trace_json(kept)


def test_a_saved_trace_with_a_tuned_expert_is_whole(pair, tuned, settings, tmp_path):
    record = record_of(pair, tuned, settings, tmp_path)
    again = load_record(record["id"], tmp_path)
    assert again == json.loads(json.dumps(record))
    assert again["lens"]["writer"] == "expert" and again["lens"]["tuned"] == str(tuned.loaded.ref)
    assert again["lens"]["tuned_fingerprint"] != again["pair"]["expert_fingerprint"]
    for step in again["steps"]:
        ids = step["candidates"]["ids"]
        assert len(step["candidates"]["tuned_logprobs"]) == len(ids)
        assert {str(i) for i in ids} <= set(again["tokens"])
        taken = step["candidates"]["tuned_logprobs"][ids.index(step["token_id"])]
        assert taken == step["tuned_logprob"]
    moved = reweigh(again, 0.05, 0.9)  # another α and β leave what training moved alone
    assert [s["tuned_kl"] for s in moved["steps"]] == [s["tuned_kl"] for s in again["steps"]]
    assert moved["steps"][0]["candidates"] == again["steps"][0]["candidates"]
    rows = list(csv.DictReader(io.StringIO(trace_csv(again))))
    assert [float(row["tuned_kl"]) for row in rows] == [s["tuned_kl"] for s in again["steps"]]
    assert [row["tuned_changed"] for row in rows] == [str(s["tuned_changed"]) for s in again["steps"]]


def test_the_expert_as_its_own_tuned_model_changes_nothing(pair, settings):
    record = record_of(pair, TunedModel(pair.expert), settings)
    assert record["lens"]["same_model"] is True
    # read in other chunks than it was written in, so the last bits differ
    assert max(step["tuned_kl"] for step in record["steps"]) < 1e-6
    assert not any(step["tuned_changed"] for step in record["steps"])


def test_shared_weights_take_no_memory_and_change_no_number(folder, settings):
    """The tuned expert beside its base computes bit for bit what it computes loaded alone."""
    ref = tuned_ref(str(folder / "adapter"), str(folder / "expert"))
    alone, models = load_model(ref, settings), LoadedModels(settings)
    pair = load_pair(str(folder / "expert"), str(folder / "amateur"), models)
    before = logits_of(pair.expert.model)
    tuned = load_tuned_model(ref, EXPERT, pair, models)
    assert torch.equal(logits_of(tuned.loaded.model), logits_of(alone.model))
    assert torch.equal(logits_of(pair.expert.model), before)
    assert not torch.equal(logits_of(tuned.loaded.model), before)
    both = tensor_bytes([pair.expert.model, tuned.loaded.model])
    # its own are q_proj and v_proj of two layers, and the rotary frequencies: 4 numbers, kept twice
    assert both - pair.expert.memory_bytes == 2 * (32 * 32 + 16 * 32) * 4 + 2 * 4 * 4
    assert tuned.loaded.model.get_input_embeddings().weight is not pair.expert.model.get_input_embeddings().weight


def test_in_sixteen_bits_the_adapter_stays_beside_shared_matrices(folder, tmp_path):
    settings = Settings(workspace=tmp_path, device="cpu", dtype="bfloat16")
    ref = tuned_ref(str(folder / "adapter"), str(folder / "expert"))
    alone, models = load_model(ref, settings), LoadedModels(settings)
    pair = load_pair(str(folder / "expert"), str(folder / "amateur"), models)
    tuned = load_tuned_model(ref, EXPERT, pair, models)
    assert torch.equal(logits_of(tuned.loaded.model), logits_of(alone.model))
    own = tensor_bytes([pair.expert.model, tuned.loaded.model]) - pair.expert.memory_bytes
    assert own < 0.2 * pair.expert.memory_bytes


def test_the_folder_of_an_adapter_or_a_run_is_applied_to_the_expert(folder, tmp_path):
    expert = str(folder / "expert")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "adapter").symlink_to(folder / "adapter")
    assert str(tuned_ref(str(folder / "adapter"), expert)) == f"{expert}::{folder / 'adapter'}"
    assert str(tuned_ref(str(tmp_path / "run"), expert)) == f"{expert}::{tmp_path / 'run' / 'adapter'}"
    assert str(tuned_ref(expert, expert)) == expert
    with pytest.raises(UserError, match="already includes an adapter"):
        tuned_ref(str(folder / "adapter"), f"{expert}::{folder / 'adapter'}")


def test_the_command_line_has_it_too(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    pair = ["--expert", str(folder / "expert"), "--amateur", str(folder / "amateur")]
    command = ["trace", *pair, "--problem", QUESTION, "--max-new-tokens", "9", "--json", str(tmp_path / "out.json")]
    assert main([*command, "--tuned", str(folder / "adapter"), "--tuned-writes"]) == 0
    record = json.loads((tmp_path / "out.json").read_text())
    assert record["lens"]["writer"] == "tuned"
    assert all(step["tuned_rank"] == 1 for step in record["steps"])
    changed = sum(step["tuned_changed"] for step in record["steps"])
    assert f"training changed the top-1 token at {changed} of {len(record['steps'])} steps" in capsys.readouterr().out
    assert main([*command, "--tuned-writes"]) == 2
    assert "--tuned-writes needs a tuned expert" in capsys.readouterr().err


def test_another_tokenizer_is_refused_in_a_sentence(pair, models, tmp_path):
    other = save_tiny(tmp_path / "other", seed=4, tokenizer=tiny_tokenizer(["alpha beta gamma", "delta delta"]))
    with pytest.raises(UserError, match=r"another tokenizer than the expert .*tokens differ") as caught:
        load_tuned_model(tuned_ref(str(other), "x"), EXPERT, pair, models)
    assert len(str(caught.value)) < 600 and "\n" not in str(caught.value)


def test_too_few_rows_are_refused_in_a_sentence(pair):
    short = replace(pair.expert, model=tiny_model(5, vocab_rows=280))
    with pytest.raises(UserError, match="predicts 280 tokens"):
        check_fits(pair, short)


def test_a_tuned_model_that_puts_out_nan_is_named_not_drawn(pair, tuned, settings):
    broken = TunedModel(replace(tuned.loaded, model=Broken(tuned.loaded.model)))
    with pytest.raises(UserError, match=r"step 0.*not a distribution"):
        run(pair, settings, broken)


def test_what_does_not_fit_into_the_tuned_model_is_refused(pair, tuned, settings):
    narrow = TunedModel(replace(tuned.loaded, max_positions=50))
    with pytest.raises(UserError, match=r"can read 50 tokens"):
        run(pair, settings, narrow)
