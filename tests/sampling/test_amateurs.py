"""Several amateurs of one expert: each is measured as in a run of its own, at once or added later."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from lightreasoner.cli.main import main
from lightreasoner.datasets.amateurs import amateur_datasets
from lightreasoner.datasets.trajectories import rows, shards
from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.errors import UserError
from lightreasoner.sampling.add_amateur import add_amateur
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.run import run_sampling
from lightreasoner.scoring.against_stored import measure_against_stored
from lightreasoner.scoring.measures import FLOAT_MEASURES, STEP_MEASURES
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import read_run
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from tests.support.tiny_sampling import QUESTIONS, RecordingProgress

OTHER_TEXTS = ["a b cc dd ee the 12 34"]  # an amateur with other tokens than the expert
OTHER_ENDS = ("<pad>", "<start>", "<end>")  # an amateur without the expert's control tokens: it gets its own prompt


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("models")
    made = {name: save_tiny(place / name, seed) for seed, name in enumerate(("expert", "a", "b"), 1)}
    made["c"] = save_tiny(place / "c", 4, tiny_tokenizer(specials=OTHER_ENDS))
    made["d"] = save_tiny(place / "d", 5, tiny_tokenizer(OTHER_TEXTS))
    return {name: str(folder) for name, folder in made.items()}


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> Settings:
    return Settings(workspace=tmp_path_factory.mktemp("workspace"), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def job(models, tmp_path_factory) -> SamplingJob:
    place = tmp_path_factory.mktemp("runs")
    problems = place / "problems.jsonl"
    problems.write_text("".join(json.dumps({"question": q, "answer": "1"}) + "\n" for q in QUESTIONS))
    decoding = DecodingConfig(max_new_tokens=20, temperature=1.0)
    return SamplingJob(place, models["expert"], models["a"], str(problems), decoding, batch_size=3)


def sample(job: SamplingJob, settings: Settings, name: str, *amateurs: str, **progress) -> list[list[dict]]:
    """The rows of each amateur's dataset."""
    job = replace(job, run_dir=job.run_dir / name, amateur=amateurs[0], other_amateurs=amateurs[1:])
    run_sampling(job, settings, RecordingProgress(**progress))
    found = amateur_datasets(job.run_dir)
    assert sorted(each.amateur for each in found) == sorted(amateurs)
    by_name = {each.amateur: list(rows(each.folder)) for each in found}
    return [by_name[amateur] for amateur in amateurs]


def assert_same(found: list[dict], alone: list[dict], within: float) -> None:
    """The same rows; every measure within a difference; the same steps above β, each with the same candidates."""
    assert len(found) == len(alone) == len(QUESTIONS)
    for row, own in zip(found, alone, strict=True):
        numbers = {*STEP_MEASURES, "steps"}
        assert {n: v for n, v in row.items() if n not in numbers} == {n: v for n, v in own.items() if n not in numbers}
        for name in STEP_MEASURES:
            exact = name not in FLOAT_MEASURES
            assert row[name] == own[name] if exact else row[name] == pytest.approx(own[name], abs=within), name
        assert [(step["index"], step["ids"]) for step in row["steps"]] == [
            (step["index"], step["ids"]) for step in own["steps"]
        ]


def test_each_amateur_is_measured_as_in_a_run_of_its_own(job, settings, models):
    """Issue 15: amateurs could only be had one by one, the expert computed anew for each. c has its own prompt, and d
    its own tokens."""
    refs = [models[name] for name in ("a", "b", "c", "d")]
    together = sample(job, settings, "together", *refs)
    for ref, found in zip(refs, together, strict=True):
        assert_same(found, sample(job, settings, f"alone-{Path(ref).name}", ref)[0], 1e-5)
    first, alone = (json.loads((job.run_dir / name / "run.json").read_text()) for name in ("together", "alone-a"))
    assert first["config"] == alone["config"], "a dataset stays what a dataset of its first amateur is"
    assert first["result"]["above_beta"] == alone["result"]["above_beta"]


def test_an_amateur_is_added_later_and_the_responses_are_not_written_again(job, settings, models):
    a, b = models["a"], models["b"]
    sample(job, settings, "later", a)
    before = {path: path.stat().st_mtime_ns for path in shards(job.run_dir / "later")}
    _, found = sample(job, settings, "later", a, b)
    assert {path: path.stat().st_mtime_ns for path in shards(job.run_dir / "later")} == before
    assert_same(found, sample(job, settings, "alone-later", b)[0], 1e-5)
    found, _ = sample(job, settings, "later", b, a)  # named in another order, and nothing is missing
    assert {path: path.stat().st_mtime_ns for path in shards(job.run_dir / "later")} == before


@pytest.mark.parametrize(("name", "first"), [("b", "a"), ("c", "a"), ("d", "a"), ("b", "d")])
def test_an_amateur_added_with_the_expert_is_measured_as_in_a_run_of_its_own(job, settings, models, name, first):
    """`sample --add-amateur`: the problems' file is not needed, and `sample` with both finds nothing to do. Stored
    responses were read one by one, which moved KL by up to 3e-5. d, which has other tokens, was refused (issue 17)."""
    folder = job.run_dir / f"with-expert-{name}-{first}"
    sample(job, settings, folder.name, models[first])
    found = add_amateur(folder, models[name], settings, RecordingProgress())
    assert found.why_expert == "the details are stored only of steps above 0.05 nats"
    alone = sample(job, settings, f"alone-with-{name}-{first}", models[name])[0]
    assert_same(list(rows(found.folder)), alone, 1e-5)
    assert found.above_beta == read_run(job.run_dir / f"alone-with-{name}-{first}")["result"]["above_beta"]
    before = {path: path.stat().st_mtime_ns for path in shards(found.folder)}
    sample(job, settings, folder.name, models[first], models[name])
    add_amateur(folder, models[name], settings, RecordingProgress())
    assert {path: path.stat().st_mtime_ns for path in shards(found.folder)} == before


def test_an_amateur_added_alone_is_measured_against_the_stored_candidates(job, settings, models, name="b"):
    """The expert is not loaded. Targets are exact; KL lacks how the rest of the vocabulary is spread."""
    every = replace(job, decoding=replace(job.decoding, beta_floor=0.0))
    folder = job.run_dir / f"alone-added-{name}"
    sample(every, settings, folder.name, models["a"])
    record = json.loads((folder / "run.json").read_text())
    moved = record | {"config": record["config"] | {"expert": str(job.run_dir / "gone")}}
    (folder / "run.json").write_text(json.dumps(moved))
    found = add_amateur(folder, models[name], settings, RecordingProgress())
    (folder / "run.json").write_text(json.dumps(record))
    assert found.why_expert == "" and "missed" in " ".join(found.sentences)
    alone = sample(every, settings, f"alone-beside-{name}", models[name])[0]
    for row, own in zip(rows(found.folder), alone, strict=True):
        assert row["response_ids"] == own["response_ids"]
        for exact in ("amateur_entropy", "amateur_logprob", "expert_logprob", "expert_entropy"):
            assert row[exact] == pytest.approx(own[exact], abs=1e-4), exact
        assert (row["amateur_rank"], row["agree"]) == (own["amateur_rank"], own["agree"])
        for mine, true in zip(row["kl"], own["kl"], strict=True):
            assert 0.2 * true - 1e-4 <= mine <= true + 1e-4  # of random models most of the difference is in the rest
        for step, true in zip(row["steps"], own["steps"], strict=True):
            known = dict(zip(true["ids"], true["amateur_logprobs"], strict=True))
            shared = {id: log for id, log in zip(step["ids"], step["amateur_logprobs"], strict=True) if id in known}
            assert shared == pytest.approx({id: known[id] for id in shared}, abs=1e-4) and len(shared) >= 10
    with pytest.raises(UserError, match="holds measures against stored candidates"):
        add_amateur(folder, models[name], settings, RecordingProgress(), with_expert=True)
    other = add_amateur(folder, models["c"], settings, RecordingProgress())
    assert "of a vocabulary of" in other.why_expert, "c lacks tokens, so the stored numbers are of another vocabulary"
    other = add_amateur(folder, models["d"], settings, RecordingProgress())
    assert "has another tokenizer" in other.why_expert and "compared" in next(rows(other.folder))


def test_candidates_that_hold_everything_give_the_exact_divergences():
    """Against numbers by hand: with the whole vocabulary as candidates nothing is lumped together, and a rest is one
    token on both sides."""
    log_e, logits = torch.tensor([[0.5, 0.25, 0.25]]).log(), torch.tensor([[0.25, 0.25, 0.5]]).log()
    ids, taken = torch.tensor([[0, 1, 2]]), torch.tensor([2])
    whole = measure_against_stored(logits, ids, log_e, taken)
    assert whole["kl"][0] == pytest.approx(0.25 * math.log(2), abs=1e-5)  # ½ ln 2 − ¼ ln 2
    assert (whole["amateur_rank"][0], bool(whole["agree"][0])) == (1, False)
    part = measure_against_stored(logits, ids[:, :1], log_e[:, :1], taken)
    assert part["kl"][0] == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-6)
    assert part["reverse_kl"][0] == pytest.approx(0.25 * math.log(0.5) + 0.75 * math.log(1.5), abs=1e-6)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--add-amateur", "x/b"], "--add-amateur needs the dataset"),
        (["--add-amateur", "x/b", "RUN", "--limit", "3"], "the dataset decides --limit"),
        (["--add-amateur", "x/b", "RUN", "more"], "takes a model and a dataset's run folder, not 3 values"),
        (["--add-amateur", "A", "RUN"], "is an amateur of this dataset already"),
        (["--add-amateur", "x/b", "RUN/amateurs/OWN"], "name the dataset around it"),
        (["--add-amateur", "x/b", "EMPTY"], "is not a run folder"),
        (["--problems", "bundled-train"], "the following arguments are required: --run-dir"),
    ],
)
def test_what_cannot_be_added_is_refused_in_a_sentence(job, settings, models, tmp_path, capsys, words, says):
    folder = job.run_dir / "refusals"
    if not folder.exists():
        sample(job, settings, "refusals", models["a"], models["b"])
    own = amateur_datasets(folder)[1].folder.name
    put = lambda word: word.replace("RUN", str(folder)).replace("OWN", own).replace("EMPTY", str(tmp_path))  # noqa: E731
    words = [models["a"] if word == "A" else put(word) for word in words]
    try:
        status = main(["sample", *words])
    except SystemExit as refused:
        status = refused.code
    error = capsys.readouterr().err
    assert (status, error.count("\n")) == (2, 1) and says in error


def test_stopped_between_two_amateurs_it_resumes_without_repeating(job, settings, models):
    refs = [models[name] for name in ("a", "b")]
    with pytest.raises(KeyboardInterrupt):
        sample(job, settings, "stopped", *refs, stop_at=30, stop=KeyboardInterrupt())
    assert len(shards(job.run_dir / "stopped")) < 3
    resumed = sample(job, settings, "stopped", *refs)
    for found, alone in zip(resumed, sample(job, settings, "at-once", *refs), strict=True):
        assert_same(found, alone, 1e-5)


@pytest.mark.parametrize(
    ("verb", "amateurs", "says"),
    [
        ("sample", ["x/a", "x/b", "x/a"], "x/a is named twice"),
        ("sample", [f"x/a{n}" for n in range(17)], "at most 16"),
        ("score", ["x/a", "x/b"], "this command takes one amateur"),
    ],
)
def test_amateurs_that_cannot_be_measured_together_are_refused_in_a_sentence(tmp_path, capsys, verb, amateurs, says):
    words = [verb, "--expert", "x/e", "--run-dir", str(tmp_path / "run")]
    words += ["--problems", "bundled-train"] if verb == "sample" else ["--responses", "none.jsonl"]
    assert main([*words, *(word for ref in amateurs for word in ("--amateur", ref))]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_dataset_of_another_place_names_what_is_wrong(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        amateur_datasets(tmp_path)
