"""Several amateurs of one expert: each is measured as in a run of its own, at once or added later."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from lightreasoner.cli.main import main
from lightreasoner.datasets.amateurs import amateur_datasets
from lightreasoner.datasets.trajectories import rows, shards
from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.errors import UserError
from lightreasoner.sampling.job import SamplingJob
from lightreasoner.sampling.run import run_sampling
from lightreasoner.scoring.measures import FLOAT_MEASURES, STEP_MEASURES
from lightreasoner.settings import Settings
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from tests.support.tiny_sampling import QUESTIONS, RecordingProgress

OTHER_ENDS = ("<pad>", "<start>", "<end>")  # an amateur without the expert's control tokens: it gets its own prompt


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> dict[str, str]:
    place = tmp_path_factory.mktemp("models")
    made = {name: save_tiny(place / name, seed) for seed, name in enumerate(("expert", "a", "b"), 1)}
    made["c"] = save_tiny(place / "c", 4, tiny_tokenizer(specials=OTHER_ENDS))
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
    """Issue 15: amateurs could only be had one by one, the expert computed anew for each. c has its own prompt."""
    refs = [models[name] for name in ("a", "b", "c")]
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
    assert_same(found, sample(job, settings, "alone-later", b)[0], 1e-4)
    found, _ = sample(job, settings, "later", b, a)  # named in another order, and nothing is missing
    assert {path: path.stat().st_mtime_ns for path in shards(job.run_dir / "later")} == before


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
