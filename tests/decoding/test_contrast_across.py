"""Decoding by contrast where the amateur has another tokenizer: texts, verdicts and numbers of one tokenizer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.across import Undone, across, permuted
from lightreasoner.decoding.contrast import NOTHING, Contrast, contrast_generate, contrast_grid, takeover
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, Given, generate_batch
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import Pair, describe_pair, find_preset, load_pair
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.models.references import ModelRef
from lightreasoner.problems.rows import Problem
from lightreasoner.problems.stream import load_problems
from lightreasoner.scoring.divergence import support
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace
from lightreasoner.tracing.tuned_decoder import TunedModel

CPU = Settings(device="cpu")
CELLS = [NOTHING, *(Contrast(alpha, beta) for alpha in (0.05, 0.2) for beta in (1.0, 0.2)), Contrast(0.2, 0.2, cap=0.5)]
CELLS += [takeover(beta) for beta in (0.2, 1e9)]
LIMIT = 40
QUESTIONS = [load_problems("bundled-test").problems[n].question for n in (23, 17, 48, 9)]


@pytest.fixture(scope="module")
def pairs() -> tuple[Pair, Pair]:
    """The bundled pair, and the same where the amateur's tokens have other ids."""
    preset = find_preset("bundled")
    pair = load_pair(preset.expert, preset.amateur, LoadedModels(CPU))
    amateur = replace(permuted(pair.amateur), ref=ModelRef("permuted", "folder", "permuted"))
    return pair, across(pair, pair.expert, amateur)


def traced(pair, request, tuned=None, others=()):
    events = trace(pair, request, CPU, tuned=tuned, others=others)
    return [step for event in events if isinstance(event, StepsEvent) for step in event.steps]


def test_contrasts_across_tokenizers_write_what_those_of_one_tokenizer_do(pairs):
    """Issue 17: preview, contrast and takeover refused pairs whose tokenizers differ. Cells part and share rows."""
    one, other = (
        contrast_grid(pair, [pair_prompts(pair, question) for question in QUESTIONS], CELLS, LIMIT) for pair in pairs
    )
    for contrast, mine, theirs in zip(CELLS, one, other, strict=True):
        for usual, found in zip(mine, theirs, strict=True):
            assert usual.tokens.tolist() == found.tokens.tolist(), contrast
            assert (usual.own == found.own).all() and (usual.above == found.above).all()
            assert usual.decoded == found.decoded
            if contrast != NOTHING:
                np.testing.assert_allclose(found.kl, usual.kl, atol=1e-4)
    assert len({tuple(own[0].tokens) for own in other}) > 1, "no contrast changed anything"


@pytest.mark.parametrize("contrast", [Contrast(0.05, 0.1), takeover(0.1)], ids=["contrast", "takeover"])
def test_a_live_contrast_its_scores_and_its_text_scored_later_agree(pairs, contrast):
    """The grid's text; each step's KL and target are those that chose the token; `score` gives them again, and so does
    a run that goes on from its beginning."""
    pair = pairs[1]
    prompts = pair_prompts(pair, QUESTIONS[0])
    (expected,) = contrast_generate(pair, [prompts], contrast, LIMIT)
    request = TraceRequest(QUESTIONS[0], max_new_tokens=LIMIT, contrast=contrast)
    steps = traced(pair, request)
    assert [step.token_id for step in steps] == expected.tokens.tolist() and expected.changed > 0
    own = [step.amateur_choice if contrast.takeover else step.expert_choice for step in steps]
    assert [choice.token_id for choice in own] == expected.own.tolist()
    half = len(steps) // 2
    begun = replace(request, prefix=tuple(expected.tokens[:half].tolist()), max_new_tokens=LIMIT - half)
    again = traced(pair, begun)
    assert [(s.token_id, s.expert_choice, s.amateur_choice) for s in again] == [
        (s.token_id, s.expert_choice, s.amateur_choice) for s in steps
    ]
    np.testing.assert_allclose([s.score.kl for s in again], [s.score.kl for s in steps], atol=1e-4)
    for step in () if contrast.takeover else steps:
        score = step.score
        ids, *_, weights = support(score.ids, score.expert_logprobs, score.amateur_logprobs, contrast.alpha)
        chosen = ids[int(np.argmax(weights))] if score.kl > contrast.beta else step.expert_choice.token_id
        assert step.token_id == chosen
    row = GenerationRow(Problem("1", QUESTIONS[0], None), 0, *prompts, Given(expected.tokens.tolist()))
    scored = generate_batch(pair, [row], DecodingConfig(LIMIT, beta_floor=0.0), lambda ended: None)
    np.testing.assert_allclose([step.score.kl for step in steps], scored.measures["kl"], atol=1e-4)
    np.testing.assert_allclose([step.score.amateur_logprob for step in steps], scored.measures["amateur_logprob"], 1e-3)


def test_a_further_amateur_and_a_tuned_expert_read_along_across_tokenizers(pairs):
    """Both were refused. What training moved is between two experts, so the amateur's tokenizer does not matter."""
    request = TraceRequest(QUESTIONS[0], max_new_tokens=12)
    tuned = TunedModel(pairs[0].amateur)  # has the expert's tokens
    one, other = (traced(pair, request, tuned, more) for pair, more in ((pairs[0], []), (pairs[1], [pairs[0]])))
    for usual, found in zip(one, other, strict=True):
        assert found.score.kl == pytest.approx(usual.score.kl, abs=1e-4) == found.other_kls[0]
        assert found.shift.tuned_kl == pytest.approx(usual.shift.tuned_kl, abs=1e-5)
        assert len(found.shift.tuned_logprobs) == len(found.score.ids)
    along = traced(pairs[0], request, others=[pairs[1]])
    assert [s.other_kls[0] for s in along] == pytest.approx([s.score.kl for s in one], abs=1e-4)
    assert describe_pair(pairs[0], [pairs[1]])["others_across"] == [True]


def test_every_token_of_a_contrast_is_what_the_stored_measures_of_its_text_say(pairs):
    """502 merges of the expert undone. What `sample` and `score` store, read in larger pieces, gives the same choices:
    above β the target's where it is known, elsewhere the expert's own."""
    pair, contrast = Undone(pairs[0]).fine, Contrast(0.05, 0.2)
    prompts = [pair_prompts(pair, question) for question in QUESTIONS[:2]]
    responses = contrast_generate(pair, prompts, contrast, LIMIT)
    rows = [
        GenerationRow(Problem(str(n), question, None), 0, *both, Given(response.tokens.tolist()))
        for n, (question, both, response) in enumerate(zip(QUESTIONS, prompts, responses, strict=False))
    ]
    found = generate_batch(pair, rows, DecodingConfig(LIMIT, beta_floor=0.0), lambda ended: None).measures
    ends = np.cumsum(found["counts"])
    own = np.concatenate([response.own for response in responses])
    for n, (token, kl) in enumerate(zip(np.concatenate([r.tokens for r in responses]), found["kl"], strict=True)):
        names = ("ids", "expert_logprobs", "amateur_logprobs")
        listed = [found[name][ends[n] - found["counts"][n] : ends[n]].tolist() for name in names]
        if not listed[0] or kl <= contrast.beta:
            assert token == own[n]
            continue
        ids, *_, weights = support(*listed, contrast.alpha)
        assert token == ids[int(np.argmax(weights))]
    assert sum(response.changed for response in responses) > 1 and (found["counts"] > 0).mean() > 0.8
