"""Sampling with tiny random models: a dataset contains what a trace shows, however it was batched."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch

from lightreasoner.datasets.trajectories import SCHEMA, rows, shards
from lightreasoner.decoding import amateur_reader
from lightreasoner.decoding import generate as generate
from lightreasoner.decoding.batch_decoder import BatchDecoder, common_prefix, length_buckets
from lightreasoner.decoding.batch_size import CPU_LARGEST, fitting_rows
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import load_pair, presets
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.stream import ProblemStream, load_problems
from lightreasoner.sampling import plan as sampling_plan
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.plan import CPU_ROWS, Prompts, batches, planned_rows
from lightreasoner.scoring import divergence
from lightreasoner.scoring.divergence import support
from lightreasoner.scoring.measures import FLOAT_MEASURES
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace
from tests.support.tiny_models import SPECIALS, save_tiny, tiny_tokenizer
from tests.support.tiny_sampling import QUESTIONS, RecordingProgress, build, ending

DEEPSEEK = ("<｜pad｜>", "<｜User｜>", "<｜end｜>")


@pytest.fixture(scope="module")
def settings(tmp_path_factory):
    return Settings(workspace=tmp_path_factory.mktemp("workspace"), device="cpu")


@pytest.fixture(scope="module")
def pair(tmp_path_factory, settings):
    folder = tmp_path_factory.mktemp("models")
    expert, amateur = (str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2)))
    return uneven(load_pair(expert, amateur, LoadedModels(settings)))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory, settings):
    """A pair that shares no control tokens: the amateur has a prompt of its own and spells the expert's tokens."""
    folder = tmp_path_factory.mktemp("strangers")
    expert = save_tiny(folder / "expert", seed=4, tokenizer=tiny_tokenizer(specials=DEEPSEEK))
    amateur = save_tiny(folder / "amateur", seed=5, tokenizer=tiny_tokenizer(specials=SPECIALS))
    return uneven(load_pair(str(expert), str(amateur), LoadedModels(settings)))


def uneven(pair):
    """End turns at any of 20 tokens: sampled at a temperature, responses end early, late and not at all."""
    return ending(pair, *range(40, 60))


def by_question(folder):
    return {row["question"]: row for row in rows(folder)}


def inspected(pair, settings, row):
    """The steps and the last event that the inspector has for the row, which it must write, or be told, as well."""
    ids = row["response_ids"]
    request = TraceRequest(row["question"], max_new_tokens=len(ids))
    events = list(trace(pair, request, settings))
    steps = [step for event in events if isinstance(event, StepsEvent) for step in event.steps]
    if [s.token_id for s in steps] != ids:  # it was drawn: force it
        request = replace(request, prefix=tuple(ids), max_new_tokens=1)
        events = list(trace(pair, request, settings))
        steps = [step for event in events if isinstance(event, StepsEvent) for step in event.steps][: len(ids)]
    assert row["prompt_ids"] == events[0].ids
    return steps, events[-1]


def same_as_the_inspector(pair, settings, row):
    steps, end = inspected(pair, settings, row)
    assert row["response_ids"] == [s.token_id for s in steps]
    if row["finish_reason"] == "stop":  # the end of the turn is a step like any other, but no text
        assert row["response_ids"][-1] in pair.expert.end_ids
        assert (row["response"], row["finish_reason"]) == (end.text, end.finish_reason)
    for name in FLOAT_MEASURES:
        theirs = [getattr(s.score, name) for s in steps]
        assert [x is None for x in row[name]] == [x is None for x in theirs], name
        assert [x or 0 for x in row[name]] == pytest.approx([x or 0 for x in theirs], rel=1e-5, abs=1e-5), name
    for name in ("expert_rank", "amateur_rank", "agree"):
        assert row[name] == [getattr(s.score, name) for s in steps], name
    return steps


def same_details(row, steps, floor):
    kept = [s for s in steps if s.score.kl > floor or floor == 0]
    assert [(d["index"], d["token_id"]) for d in row["steps"]] == [(s.index, s.token_id) for s in kept]
    for detail, step in zip(row["steps"], kept, strict=True):
        assert detail["kl"] == row["kl"][step.index]
        assert sorted(detail["ids"]) == sorted(step.score.ids)
        assert detail["expert_logprobs"] == sorted(detail["expert_logprobs"], reverse=True)
        assert len(detail["ids"]) == len(detail["expert_logprobs"]) == len(detail["amateur_logprobs"])
        for alpha in (0.01, 0.2, 1.0):
            mine = support(detail["ids"], detail["expert_logprobs"], detail["amateur_logprobs"], alpha)
            for column, theirs in zip(mine[1:], step.score.support(alpha)[1:], strict=True):
                ids = step.score.support(alpha)[0]
                values = dict(zip(mine[0], column, strict=True))
                assert values == pytest.approx(dict(zip(ids, theirs, strict=True)), abs=2e-5)


@pytest.mark.parametrize("which", ["pair", "strangers"])
def test_the_dataset_holds_what_the_inspector_shows(request, settings, tmp_path, which):
    """One scorer: field by field, in batches whose responses end apart, with several ids for one token."""
    pair = request.getfixturevalue(which)
    build(pair, tmp_path, temperature=1.5, batch_size=5)
    found = list(rows(tmp_path))
    assert {row["question"] for row in found} == {q.strip() for q in QUESTIONS}
    assert len({len(row["response_ids"]) for row in found}) > 3  # or nothing here is tested
    assert {row["finish_reason"] for row in found} == {"stop", "length"}
    for row in found:
        same_details(row, same_as_the_inspector(pair, settings, row), 0.05)
    if which == "strangers":
        assert not pair.same_special_tokens and pair.alignment.expert_ids is not None
        assert any(None in row["expert_logprob"] for row in found)  # a token that the amateur lacks was taken


def test_the_bundled_pair_writes_what_the_inspector_writes(settings, tmp_path):
    preset = presets()[0]
    pair = load_pair(preset.expert, preset.amateur, LoadedModels(settings))
    build(pair, tmp_path, [asdict(p) for p in load_problems("bundled-test", limit=6).problems], max_new_tokens=64)
    found = list(rows(tmp_path))
    assert len({len(row["response_ids"]) for row in found}) > 3
    for row in found:
        same_details(row, same_as_the_inspector(pair, settings, row), 0.05)


@pytest.mark.parametrize("decoding", [{}, {"temperature": 1.3, "seed": 5}])
def test_what_is_written_does_not_depend_on_the_batches(pair, tmp_path, decoding):
    datasets = []
    for size in (1, 2, 7):
        build(pair, tmp_path / str(size), batch_size=size, **decoding)
        datasets.append(by_question(tmp_path / str(size)))
        assert len(shards(tmp_path / str(size))) == -(-7 // size)
    for other in datasets[1:]:
        for question, row in datasets[0].items():
            assert row["response_ids"] == other[question]["response_ids"]
            assert row["kl"] == pytest.approx(other[question]["kl"], abs=1e-5)


def test_sampling_draws_from_the_raw_distribution_and_is_seeded(pair, tmp_path):
    """Released code, mistake 5: a sharpened, truncated distribution. The inverse of the cumulated softmax is exact."""
    drawn = {}
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build(pair, tmp_path / name, samples=3, temperature=1.0, seed=seed)
        drawn[name] = {(r["question"], r["sample"]): r["response_ids"] for r in rows(tmp_path / name)}
    assert drawn["a"] == drawn["b"] != drawn["c"]
    assert len(drawn["a"]) == 3 * len(QUESTIONS)
    assert len({tuple(ids) for (question, _), ids in drawn["a"].items() if question == QUESTIONS[0]}) > 1


def test_a_draw_takes_the_token_at_its_place_in_the_distribution(pair):
    item = generate.GenerationRow(ProblemStream([(1, {"question": "q"})], title="t").__iter__().__next__(), 0, [5], [5])
    batch = generate._Batch(pair, [item], DecodingConfig(max_new_tokens=3, temperature=1.0), lambda ended: None)
    batch.draws = generate._Columns(np.array([[0.0, 0.2999, 0.3001]]), torch.device("cpu"))
    logits = torch.full((1, batch.vocabulary + 4), -torch.inf)
    logits[0, [7, 9]] = torch.tensor([0.3, 0.7]).log()
    logits[0, -1] = 50.0  # a padding row of the table
    assert [batch._choose(logits, [0], step).item() for step in range(3)] == [7, 7, 9]


def test_padding_rows_of_the_vocabulary_never_win(settings, tmp_path):
    expert = save_tiny(tmp_path / "expert", seed=1, vocab_rows=320)
    pair = load_pair(str(expert), str(save_tiny(tmp_path / "amateur", seed=2)), LoadedModels(settings))
    with torch.no_grad():
        weight = pair.expert.model.get_output_embeddings().weight
        weight[300:] = weight[:20] * 30
    greedy = pair.expert.model(torch.tensor([[5, 6, 7]])).logits[0, -1].argmax()
    assert greedy >= 300  # it would win
    build(pair, tmp_path / "run")
    assert all(max(row["response_ids"]) < 300 for row in rows(tmp_path / "run"))


def test_the_same_model_is_read_once_and_diverges_nowhere(pair, tmp_path, monkeypatch):
    decoders = []
    monkeypatch.setattr(
        amateur_reader, "BatchDecoder", lambda *arguments: decoders.append(arguments) or BatchDecoder(*arguments)
    )
    same = replace(pair, amateur=pair.expert, same_model=True)
    build(same, tmp_path, batch_size=8, beta_floor=0.0)
    assert len(decoders) == 1
    for row in rows(tmp_path):
        assert set(row["kl"]) == {0.0} and all(row["agree"])
        assert len(row["steps"]) == len(row["kl"])  # a floor of 0 keeps every step, those of KL 0 too


def test_the_floor_only_decides_what_is_detailed(pair, tmp_path):
    build(pair, tmp_path / "all", beta_floor=0.0, temperature=1.5)
    everything = list(rows(tmp_path / "all"))
    kls = sorted(kl for row in everything for kl in row["kl"])
    for floor in (0.05, float(kls[len(kls) // 2])):
        build(pair, tmp_path / str(floor), beta_floor=floor, temperature=1.5)
        for whole, part in zip(everything, rows(tmp_path / str(floor)), strict=True):
            assert whole["kl"] == part["kl"] and len(whole["steps"]) == len(whole["kl"])
            assert part["steps"] == [detail for detail in whole["steps"] if detail["kl"] > floor]
    assert 0 < sum(len(row["steps"]) for row in rows(tmp_path / str(floor))) < len(kls)


def test_vocabulary_sized_tensors_exist_for_one_chunk_of_steps(pair, tmp_path, monkeypatch):
    measured = []
    real = divergence.measure_steps

    def watched(expert, amateur, *rest, **named):
        measured.append((len(expert), len(amateur)))
        return real(expert, amateur, *rest, **named)

    monkeypatch.setattr(amateur_reader, "measure_steps", watched)
    monkeypatch.setattr(generate, "CHUNK", 4)
    build(ending(pair), tmp_path, batch_size=7)
    assert measured == [(28, 28)] * 6


def test_pandas_and_datasets_read_it_as_it_is(pair, tmp_path):
    import datasets

    build(pair, tmp_path)
    frame = pandas.read_parquet(tmp_path / "trajectories")
    assert len(frame) == len(QUESTIONS) and set(SCHEMA.names) == set(frame.columns)
    loaded = datasets.load_dataset(
        "parquet", data_files=str(tmp_path / "trajectories" / "*.parquet"), cache_dir=tmp_path / "cache"
    )["train"]
    assert sorted(loaded["problem_id"]) == sorted(frame["problem_id"])
    assert [len(kl) for kl in loaded["kl"]] == [len(ids) for ids in loaded["response_ids"]]


# --- which problems, in which batches


def prompts(pair, problems, settings, **decoding):
    stream = ProblemStream(enumerate(problems, 1), title="rows", distinct=True)
    return Prompts(pair, stream, DecodingConfig(**decoding), settings)


def test_problems_stream_and_are_sorted_within_a_window(pair, settings, monkeypatch):
    monkeypatch.setattr(sampling_plan, "WINDOW", 4)
    taken = []

    def endless():
        for n in range(10_000):
            taken.append(n)
            yield {"question": f"{n}" + " and one" * ((7 * n) % 5)}

    plan = batches(prompts(pair, endless(), settings), 3, 1)
    (first, a), (second, b), (third, c) = (next(plan) for _ in range(3))
    assert (first, second, third) == (0, 1, 2) and (len(a), len(b), len(c)) == (3, 1, 3)
    lengths = [len(item.prompt) for item in a + b]
    assert lengths == sorted(lengths)
    assert {item.problem.question.split(" ")[0] for item in a + b} == {"0", "1", "2", "3"}
    assert len(taken) <= 8  # memory does not grow with the source


def test_what_cannot_be_sampled_is_counted_and_the_rest_goes_on(pair, settings, tmp_path):
    problems = [
        {"question": "1 + 1?"},
        {"question": "1 + 1?", "answer": "2"},
        {"title": "no question"},
        {"question": "long " * 900},
        {"question": "Hi <|im_end|> there"},
        {"question": "2 + 2?"},
    ]
    found = prompts(pair, problems, settings)
    assert [item.problem.question for item in found] == ["1 + 1?", "2 + 2?"]
    skipped = found.skipped()
    assert (skipped.unusable, skipped.duplicates, skipped.unreadable) == (1, 1, 2)
    assert "no column for the question" in skipped.reasons[0] and skipped.reasons[0].startswith("row 3")
    assert "tokens" in skipped.reasons[1] and "control token" in skipped.reasons[2]
    progress = RecordingProgress()
    counts = build(pair, tmp_path, problems, progress=progress)
    assert counts.responses == 2
    assert (progress.of("progress")[-1]["done"], progress.of("progress")[-1]["total"]) == (2, 4)


def test_a_source_that_no_model_can_read_is_said(pair, settings):
    with pytest.raises(UserError, match=r"None of the 2 problems fits.*control token"):
        list(prompts(pair, [{"question": "<|im_end|> 1"}, {"question": "<|im_end|> 2"}], settings))


@pytest.mark.parametrize(
    ("decoding", "samples", "says"),
    [
        ({}, 4, "temperature"),
        ({"temperature": 0.8}, 0, "samples"),
        ({"beta_floor": -0.1}, 1, "floor"),
        ({"beta_floor": float("nan")}, 1, "floor"),
        ({"max_new_tokens": 0}, 1, "token limit"),
        ({"temperature": -1}, 1, "temperature"),
        ({"seed": -1}, 1, "seed"),
    ],
)
def test_settings_that_cannot_work_are_refused_in_a_sentence(settings, decoding, samples, says):
    with pytest.raises(UserError, match=says) as caught:
        SamplingJob(Path(), "", "", "", DecodingConfig(**decoding), samples_per_problem=samples).check(settings)
    assert "\n" not in str(caught.value)


def test_prompts_that_are_read_in_groups_leave_the_same_cache_as_alone(pair):
    """Groups of like length, a common beginning of the prompts, and prompts of one token and of none."""
    start = [5, 9, 11, 5]
    prompts = [[*start], [*start, 40, 7, 8], [*start, *range(20, 50)], [*start, 8, *range(20, 51)], [5], [9, 4]]
    for chosen in (prompts[:4], prompts, [[], [5, 9]], [[], []]):
        with torch.inference_mode():
            together = BatchDecoder(pair.expert, len(chosen))
            together.prefill(chosen)
            logits = together.step(torch.full((len(chosen),), 77))
            for row, prompt in enumerate(chosen):
                alone = pair.expert.model(torch.tensor([[*prompt, 77]])).logits[0, -1]
                assert torch.allclose(logits[row], alone, atol=1e-4)


@pytest.mark.parametrize(
    ("sequences", "common"),
    [([[1, 2, 3], [1, 2], [1, 2, 9]], [1, 2]), ([[1], [2]], []), ([[3, 4]], [3, 4]), ([[], [1]], [])],
)
def test_the_common_prefix(sequences, common):
    assert common_prefix(sequences) == common


def test_rows_of_like_length_are_grouped():
    groups = length_buckets([10, 10, 11, 14, 40, 41, 90])
    assert [(g.start, g.stop) for g in groups] == [(0, 4), (4, 6), (6, 7)]
    assert [(g.start, g.stop) for g in length_buckets([5000, 5000, 5000])] == [(0, 1), (1, 2), (2, 3)]
    assert length_buckets([7]) == [slice(0, 1)]


def test_the_batch_size_follows_from_memory(pair, monkeypatch):
    models = (pair.expert, pair.amateur)
    sizes = []
    for free in (10**12, 40_000_000, 10_000_000, 1000):
        monkeypatch.setattr("lightreasoner.decoding.batch_size.free_bytes", lambda device, free=free: free)
        sizes.append(fitting_rows(models, 600, 16))
    assert sizes == sorted(sizes, reverse=True) and sizes[0] == CPU_LARGEST and sizes[-1] == 1
    assert 1 < sizes[2] < CPU_LARGEST and all(size & (size - 1) == 0 for size in sizes)


@pytest.mark.parametrize(("millions", "rows"), [(5, 256), (100, 64), (198, 32), (2_000, 16)])
def test_a_cpu_takes_more_rows_of_smaller_models(pair, monkeypatch, millions, rows):
    """SmolLM2-135M and its first ten layers, 198 million, were read in batches of 16; in 32 it takes a tenth less."""
    monkeypatch.setattr("lightreasoner.decoding.batch_size.free_bytes", lambda device: 10**12)
    both = [replace(loaded, parameters=millions * 500_000) for loaded in (pair.expert, pair.amateur)]
    assert fitting_rows(both, 600, 16) == rows


def test_a_gpu_takes_up_to_1024_rows_within_half_of_its_free_memory(pair, monkeypatch):
    """At most 256 rows used 12 of 80 GB; and windows of 512 problems cut every batch to 512."""
    gpu = [replace(loaded, device=torch.device("cuda")) for loaded in (pair.expert, pair.amateur)]
    sizes = []
    for free in (10**12, 20_000_000, 1000):
        monkeypatch.setattr("lightreasoner.decoding.batch_size.free_bytes", lambda device, free=free: free)
        sizes.append(fitting_rows(gpu, 600, 16))
    assert sizes[0] == 1024 and 1 < sizes[1] < 256 and sizes[2] == 1
    prompts = [GenerationRow(Problem(str(n), "q", None), 0, [1] * (1 + n % 7), [1]) for n in range(1500)]
    assert [len(items) for _, items in batches(prompts, 1024, 1)] == [1024, 476]
    assert [len(items) for _, items in batches(prompts, 256, 1)] == [256] * 5 + [220]  # as ever


def test_a_batch_on_a_cpu_ends_after_seconds(pair):
    """200 problems were one batch: nothing was seen until the end, and a kill lost everything."""
    assert planned_rows(pair, 640) == CPU_ROWS <= 64
    assert fitting_rows((pair.expert, pair.amateur), 640, 16) > CPU_ROWS  # which memory would allow
