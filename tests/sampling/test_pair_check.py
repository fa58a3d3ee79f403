"""The pair check: its numbers are those of sampling and evaluation, its assessment is the paper's rule in words."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from lightreasoner.cli.main import main
from lightreasoner.decoding.generate import DecodingConfig
from lightreasoner.formatting import format_duration
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, load_pair
from lightreasoner.problems.rows import Problem
from lightreasoner.sampling.coherence import coherence
from lightreasoner.sampling.estimate import BETAS, estimate_resources
from lightreasoner.sampling.pair_check import ModelAccuracy, assess_pair, check_pair
from lightreasoner.settings import Settings
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from tests.support.tiny_sampling import QUESTIONS, RecordingProgress

FINE = ModelAccuracy(0.6, 0.5, 0.7, 0.0, 0.0)
POOR = ModelAccuracy(0.1, 0.05, 0.2, 0.0, 0.0)


ASKED = [Problem(f"p{n}", question, str(n)) for n, question in enumerate(QUESTIONS[:6])]


@pytest.fixture(scope="module")
def pair(tmp_path_factory) -> Pair:
    place = tmp_path_factory.mktemp("pair")
    models = LoadedModels(Settings(workspace=place, device="cpu", dtype="float32"))
    return load_pair(str(save_tiny(place / "e", 1)), str(save_tiny(place / "a", 2)), models)


def verdict(**change) -> tuple[str, str]:
    usual = {"same": False, "expert": FINE, "amateur": POOR, "gap": (0.5, 0.4, 0.6), "loss": 1.0, "selected": 0.2}
    tone, sentences = assess_pair(**(usual | change))
    return tone, " ".join(sentences)


@pytest.mark.parametrize(
    ("change", "tone", "words"),
    [
        ({}, "good", "clearly outperforms the amateur: +50 points (95 % interval +40 to +60)"),
        ({"same": True}, "bad", "they never diverge"),
        ({"gap": (-0.1, -0.2, 0.0)}, "bad", "not better than the amateur"),
        ({"gap": (0.06, 0.01, 0.11)}, "warn", "gap in accuracy is small: +6 points"),
        ({"gap": (0.2, -0.05, 0.45)}, "warn", "too few to be sure"),
        ({"gap": None}, "warn", "No answers are known"),
        ({"loss": 6.0}, "bad", "hardly coherent: its loss is 6.0 nats per token"),
        ({"loss": float("nan")}, "bad", "is known of none of them, so whether it is coherent is not known"),
        ({"amateur": ModelAccuracy(0.0, 0.0, 0.1, 0.9, 0.9)}, "bad", "90% of its own responses hit the token limit"),
        ({"selected": 0.001}, "warn", "there is little to learn"),
        ({"selected": 0.8}, "warn", "raise β"),
        ({"expert": ModelAccuracy(0.6, 0.5, 0.7, 0.8, 0.0)}, "warn", "allow more tokens"),
    ],
)
def test_the_verdict_in_words(change, tone, words):
    found = verdict(**change)
    assert found[0] == tone
    assert words in found[1]


def test_the_estimate_is_in_proportion(pair):
    found, table = estimate_resources(pair, ASKED, DecodingConfig(max_new_tokens=10), 2, total=600)
    assert len(table) == found.measured == 6
    steps = [kl for row in table["kl"].to_pylist() for kl in row]
    above = sum(kl > 0.4 for kl in steps)
    assert above
    assert found.steps == len(steps) / 6
    assert found.samples == pytest.approx(above * 200)
    assert found.kept[BETAS.index(0.4)] == pytest.approx(above / len(steps))
    assert all(a >= b for a, b in zip(found.kept, found.kept[1:], strict=False))
    assert min(found.seconds, found.disk_bytes, found.memory_bytes) > 0


def test_the_amateur_is_asked_and_its_loss_is_that_of_the_dataset(pair):
    progress = RecordingProgress()
    found = check_pair(pair, ASKED, DecodingConfig(max_new_tokens=10), 100, progress)
    _, table = estimate_resources(pair, ASKED, DecodingConfig(max_new_tokens=10), 1, total=100)
    logprobs = [x for row in table["amateur_logprob"].to_pylist() for x in row]
    assert found.amateur_loss == pytest.approx(-sum(logprobs) / len(logprobs), rel=1e-5)
    assert sum(found.histogram) == len(logprobs)
    assert len(progress.of("status")) == 2
    json.dumps(found.as_json())


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 second"), (40, "40 seconds"), (420, "7 minutes"), (12_600, "3.5 hours")]
)
def test_times_as_people_say_them(seconds, words):
    assert format_duration(seconds) == words


@pytest.mark.parametrize("verb", ["check-pair", "preflight"])  # preflight: its name in version 0.2
def test_the_verb_writes_its_result_and_prints_it(tmp_path: Path, monkeypatch, capsys, verb):
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    options = [verb, "--problems", "bundled-train", "--limit", "4", "--max-new-tokens", "40"]
    assert main([*options, "--run-dir", str(tmp_path / "run")]) == 0
    result = json.loads((tmp_path / "run/preflight.json").read_text())
    assert result["tone"] in ("good", "warn", "bad")
    assert capsys.readouterr().out.splitlines() == [*result["verdict"], result["sentence"]]
    assert result["probe"]["problems"] == 1000
    assert main([*options, "--target", "0", "--run-dir", str(tmp_path / "other")]) == 2
    assert "--target is 0" in capsys.readouterr().err


def test_a_pair_across_tokenizers_says_what_was_compared(tmp_path, pair):
    """Its mean KL is a lower bound, which nothing said. Whether its amateur writes sense was refused."""
    other = save_tiny(tmp_path / "other", 3, tiny_tokenizer(["a b cc dd ee the 12 34"]))
    across = load_pair(str(pair.expert.ref), str(other), LoadedModels(Settings(device="cpu", dtype="float32")))
    found = check_pair(across, ASKED[:2], DecodingConfig(max_new_tokens=8), 10)
    assert 0 < found.compared < 1 and found.as_json()["compared"] == found.compared
    assert f"a lower bound, {found.compared:.0%} of the expert's mass was compared" in found.assessment[-1]
    assert "nan" not in verdict(loss=math.nan, amateur=replace(POOR, truncated=0.9))[1]
    assert "amateur_loss" not in replace(found, amateur_loss=math.nan).as_json()
    sense = coherence(across, ASKED[:2], 8)
    assert math.isfinite(sense.amateur.loss) and sense.amateur.loss > 0
