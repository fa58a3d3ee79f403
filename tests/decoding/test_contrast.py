"""Selective contrastive decoding against a naive one, which reads the whole text again for every token."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lightreasoner.decoding import contrast as contrasts
from lightreasoner.decoding.contrast import (
    Contrast,
    choices,
    contrast_generate,
    contrast_grid,
    parse_contrasts,
    takeover,
)
from lightreasoner.decoding.generate import greedy_generate
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.pairs import load_pair
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.scoring.divergence import NotADistribution, contrastive_choice, contrastive_target
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.trace import TraceRequest, trace
from tests.support.tiny_models import SPECIALS, save_tiny, tiny_tokenizer
from tests.support.tiny_sampling import QUESTIONS, ending

LIMIT = 16
CONTRASTS = [Contrast(0.2, 0.4), Contrast(0.05, 0.0), Contrast(0.5, 1.0), Contrast(0.2, 1e9), Contrast(1.0, 0.1)]
CONTRASTS += [Contrast(0.05, 0.0, cap=cap) for cap in (0.0, 0.3)]
TAKEOVERS = [takeover(beta) for beta in (0.0, 0.4, 1e9)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """One pair with a tokenizer, and one that shares no control tokens: the amateur spells the expert's in several."""
    folder, models = tmp_path_factory.mktemp("models"), LoadedModels(Settings(device="cpu"))
    deepseek = tiny_tokenizer(specials=("<｜pad｜>", "<｜User｜>", "<｜end｜>"))
    refs = [
        (save_tiny(folder / "expert", seed=1), save_tiny(folder / "amateur", seed=2)),
        (
            save_tiny(folder / "other", seed=4, tokenizer=deepseek),
            save_tiny(folder / "own", seed=5, tokenizer=tiny_tokenizer(specials=SPECIALS)),
        ),
    ]
    return [ending(load_pair(str(expert), str(amateur), models), *range(40, 60)) for expert, amateur in refs]


def naive(pair, prompt: list[int], own: list[int], contrast: Contrast) -> tuple[list[int], int]:
    """(response, tokens that are not the writer's own choice)."""
    tokens, changed = [], 0
    while len(tokens) < LIMIT and not (tokens and tokens[-1] in pair.expert.end_ids):
        spelled = pair.alignment.retokenize(tokens)[0]
        e, a = (
            loaded.model(torch.tensor([ids])).logits[0, -1].float()
            for loaded, ids in ((pair.expert, prompt + tokens), (pair.amateur, own + spelled))
        )
        favourite = int(e[: len(pair.expert.tokenizer)].argmax())
        log_e, log_a = (x.log_softmax(-1) for x in (pair.alignment.expert(e), pair.alignment.amateur(a)))
        p = log_e.exp()
        divergence = float((p * (log_e - log_a)).sum())
        ratio = (log_e - log_a).masked_fill(p < contrast.alpha * p.max(), -np.inf)
        if contrast.cap is not None:  # of several at the cap, the one that the expert prefers
            capped = ratio.clamp_max(contrast.cap)
            ratio = log_e.masked_fill(capped < capped.max(), -np.inf)
        target, amateur = (pair.alignment.to_expert(int(x.argmax())) for x in (ratio, log_a))
        writer, above = (amateur, favourite) if contrast.takeover else (favourite, target)
        tokens.append(above if divergence > contrast.beta else writer)
        changed += tokens[-1] != writer
    return tokens, changed


@pytest.mark.parametrize("which", [0, 1], ids=["one tokenizer", "other control tokens"])
def test_it_chooses_as_a_naive_loop(pairs, which):
    pair = pairs[which]
    prompts = [pair_prompts(pair, question) for question in QUESTIONS]
    lengths = set()
    for contrast in CONTRASTS + TAKEOVERS:
        found = contrast_generate(pair, prompts, contrast, LIMIT)
        expected = [naive(pair, *prompt, contrast) for prompt in prompts]
        assert [(r.tokens.tolist(), r.changed) for r in found] == expected, contrast
        assert [r.decoded for r in found] == [len(tokens) for tokens, _ in expected]
        lengths |= {len(tokens) for tokens, _ in expected}
    assert len(lengths) > 2, "all responses have one length, so nothing was tested about rows that ended"


def test_far_above_every_kl_it_is_greedy_decoding(pairs):
    pair = pairs[0]
    prompts = [pair_prompts(pair, question) for question in QUESTIONS]
    found = contrast_generate(pair, prompts, Contrast(0.2, 1e9), LIMIT)
    assert [r.tokens.tolist() for r in found] == greedy_generate(pair.expert, [own for own, _ in prompts], LIMIT)
    assert sum(r.changed for r in found) == 0


@pytest.mark.parametrize("which, stop", [(0, ()), (0, ("e",)), (1, ())], ids=["", "stop string", "other tokens"])
def test_what_other_cells_of_a_grid_share_is_not_decoded_again(pairs, which, stop):
    """All cells are decoded in one batch, where each response is what it is alone. They were decoded one after another,
    which cost 4.55 times the expert's evaluation for six cells."""
    pair, alphas = pairs[which], (0.05, 0.5)
    prompts = [pair_prompts(pair, question) for question in QUESTIONS]
    cells = [Contrast(alpha, beta) for beta in (2.0, 1.0, 0.4, 0.1) for alpha in alphas] + [
        *TAKEOVERS,
        Contrast(),
        Contrast(0.05, 0.1, cap=0.3),
    ]
    grid = contrast_grid(pair, prompts, cells, LIMIT, stop=stop)
    saved = 0
    for contrast, found in zip(cells, grid, strict=True):
        alone = contrast_generate(pair, prompts, contrast, LIMIT, stop=stop)
        for one, other in zip(alone, found, strict=True):
            assert one.tokens.tolist() == other.tokens.tolist()
            assert one.changed == other.changed
            np.testing.assert_allclose(one.kl, other.kl, atol=1e-4)
            assert 0 <= other.decoded <= len(other.tokens)
            saved += len(other.tokens) - other.decoded
    assert saved > 0
    beginnings = [
        {tuple(own.tokens[:n]) for own in cells for n in range(len(own.tokens))} for cells in zip(*grid, strict=True)
    ]
    assert sum(own.decoded for found in grid for own in found) == sum(map(len, beginnings)), "each beginning once"


def test_a_model_beside_itself_changes_nothing(pairs):
    pair = replace(pairs[0], amateur=pairs[0].expert, same_model=True)
    prompts = [pair_prompts(pair, question) for question in QUESTIONS[:2]]
    found = contrast_generate(pair, prompts, Contrast(0.2, 0.0), LIMIT)
    assert sum(r.changed for r in found) == 0 and max(r.kl.max() for r in found) < 1e-6


def test_the_choice_is_the_largest_entry_of_the_target_also_where_the_amateur_gives_zero():
    log_e = torch.log_softmax(torch.tensor([[3.0, 2.5, 2.0, -9.0], [3.0, 2.9, 0.0, 0.0]]), -1)
    log_a = torch.log_softmax(torch.tensor([[3.0, 1.0, 0.0, -9.0], [1.0, -torch.inf, -torch.inf, 2.0]]), -1)
    for alpha in (0.0, 0.05, 0.2, 1.0):
        target = contrastive_target(log_e, log_a, alpha)
        assert contrastive_choice(log_e, log_a, alpha).tolist() == target.argmax(-1).tolist()
    # by hand: of ln(π_E / π_A) over the first row's plausible tokens, 2.0 − 0.0 is the largest; in the second, tokens
    # 1 and 2 have π_A = 0, and of them the expert prefers 1
    assert contrastive_choice(log_e, log_a, 0.2).tolist() == [2, 1]


@pytest.mark.parametrize("contrast", [Contrast(0.2, 0.4), takeover(0.4)], ids=["contrast", "takeover"])
def test_a_live_trace_writes_the_same_and_its_scores_are_those_of_the_text(pairs, contrast):
    pair, settings = pairs[0], Settings(device="cpu")
    request = TraceRequest(QUESTIONS[0], max_new_tokens=LIMIT, contrast=contrast)
    steps = [s for event in trace(pair, request, settings) if isinstance(event, StepsEvent) for s in event.steps]
    (expected,) = contrast_generate(pair, [pair_prompts(pair, QUESTIONS[0])], contrast, LIMIT)
    assert [step.token_id for step in steps] == expected.tokens.tolist()
    np.testing.assert_allclose([step.score.kl for step in steps], expected.kl, atol=1e-4)
    own = [step.amateur_choice if contrast.takeover else step.expert_choice for step in steps]
    assert [choice.token_id for choice in own] == expected.own.tolist()
    if contrast.takeover:
        assert [step.expert_choice.token_id for step in steps] == expected.above.tolist()
    else:
        assert all(step.amateur_choice is None for step in steps) and expected.changed > 0
    assert own[0].text == TokenTexts(pair.expert.tokenizer).text(own[0].token_id)
    given = TraceRequest(QUESTIONS[0], prefix=tuple(expected.tokens.tolist()), max_new_tokens=1)
    scored = [s for event in trace(pair, given, settings) if isinstance(event, StepsEvent) for s in event.steps]
    for ours, theirs in zip(steps, scored, strict=False):
        assert ours.token_id == theirs.token_id
        assert ours.score.kl == pytest.approx(theirs.score.kl, abs=1e-4)
        assert ours.score.expert_rank == theirs.score.expert_rank


def test_a_cap_is_of_all_cells_and_not_of_takeovers():
    cells = parse_contrasts("0.1,0.2", "0.4", False, cap=2.0)
    assert {cell.cap for cell in cells} == {2.0} and cells[0].title == "contrast α 0.1 β 0.4 cap 2"
    assert "cap" not in Contrast().as_json() and Contrast(**cells[0].as_json()) == cells[0]
    for wrong in (-1, "2", float("nan")):
        with pytest.raises(UserError, match="cap on the log ratio"):
            parse_contrasts("0.1", "0.4", False, cap=wrong)
    with pytest.raises(UserError, match="has no target, so a cap"):
        parse_contrasts("0.1", "0.4", True, cap=2)


def test_a_temperature_and_a_contrast_exclude_each_other(pairs):
    request = TraceRequest(QUESTIONS[0], temperature=0.5, contrast=Contrast())
    with pytest.raises(UserError, match=r"The temperature is 0\.5, but decoding by contrast draws nothing"):
        next(trace(pairs[0], request, Settings(device="cpu")))


def test_a_given_response_has_no_writer(pairs):
    request = TraceRequest(QUESTIONS[0], response="7", contrast=Contrast())
    with pytest.raises(UserError, match="A response is given, so nobody writes one"):
        next(trace(pairs[0], request, Settings(device="cpu")))


def test_on_a_gpu_it_looks_once_and_chooses_the_same(pairs, monkeypatch):
    """There a look at a value makes the host wait: it looked six times a step."""
    for pair in pairs:
        rows = pair.expert.model.get_output_embeddings().weight.shape[0]
        e, a = 3 * torch.randn(2, 40, rows, generator=torch.Generator().manual_seed(0))
        a[20:] = e[20:] + 0.2 * a[20:]  # below β
        a[3, 7], e[3, 7], e[5, 9] = -torch.inf, 9.0, -torch.inf
        asked = [Contrast(0.1, 0.4), Contrast(0.3, 2.0, cap=1.0), takeover(0.4), contrasts.NOTHING]
        usual, shared = choices(pair, e, a, asked), (pair.alignment.expert(e), pair.alignment.amateur(a))
        monkeypatch.setattr(contrasts, "blocks", lambda logits: [slice(0, 25), slice(25, 50)])
        found = contrasts._choices_queued(pair, e, *shared, list(usual.target), 0.4)
        for one, other in zip(
            (usual.kl, usual.expert, usual.amateur), (found.kl, found.expert, found.amateur), strict=True
        ):
            assert (one == other).all()
        assert 10 < (usual.kl > 0.4).sum() < 30
        assert len(found.target) == 2 and all((found.target[both] == ids).all() for both, ids in usual.target.items())
        e[30, 3] = torch.nan
        with pytest.raises(NotADistribution) as raised:
            contrasts._choices_queued(pair, e, pair.alignment.expert(e), shared[1], [], 0.4)
        assert raised.value.rows == [30]
