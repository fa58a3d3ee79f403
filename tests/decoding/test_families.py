"""Every causal architecture that transformers can build here is read right, or refused; docs/models.md says which."""

import numpy as np
import pytest
import torch

from lightreasoner.decoding.forward_pass import ALIGNED, CHUNKS, PADDED, Reading, describe_reading, forward
from lightreasoner.decoding.generate import (
    DecodingConfig,
    GenerationRow,
    generate_batch,
    greedy_generate,
    sampled_generate,
)
from lightreasoner.decoding.reading_check import COLUMNS, check_reading
from lightreasoner.errors import UserError
from lightreasoner.models.pairs import Pair
from lightreasoner.models.vocabulary import align_vocabularies
from lightreasoner.problems.rows import Problem
from lightreasoner.tracing.pair_decoder import PairDecoder
from tests.support.families import (
    NAMES,
    PAGE,
    POSITIONS,
    TEXT,
    LoadedModel,
    ModelRef,
    causal_configs,
    long_difference,
    measure_families,
    table,
    tiny_config,
    tiny_family,
)
from tests.support.tiny_models import tiny_tokenizer

RIGHT = 1e-4  # nats


@pytest.fixture(scope="module")
def families():
    return list(measure_families())


def test_none_is_silently_wrong(families):
    """mamba, rwkv, jamba and bamba were wrong by nats, mistral and lfm2 in batches, and falcon-h1 crashed."""
    read = [family for family in families if family.verdict in NAMES.values()]
    assert len(read) > 130 and len({family.verdict for family in read}) == len(NAMES)
    assert {family.kind: family.difference for family in read if not family.difference < RIGHT} == {}


def test_the_usual_families_are_read_in_batches(families):
    """A slower way would be right, too, but these are what people bring."""
    ways = {family.kind: family.verdict for family in families}
    for kind in ("qwen2", "llama", "qwen3", "gpt2", "gpt_neox", "olmoe", "phi", "qwen3_moe", "gemma", "granite"):
        assert ways[kind] == NAMES[CHUNKS, PADDED], kind
    for kind in ("mistral", "gemma2", "gemma3_text", "lfm2", "qwen3_5_text", "falcon_h1", "gpt_oss", "bamba"):
        assert ways[kind] in (NAMES[CHUNKS, ALIGNED], NAMES[CHUNKS, PADDED]), kind


def test_the_table_is_what_was_measured(families):
    """Without the differences, whose last digits are the processor's."""
    shown = [line.split("|")[1:3] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    assert shown == [line.split("|")[1:3] for line in table(families).splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("kind", ["mistral", "lfm2", "gpt_neo"])
def test_padding_inside_a_sequence_is_what_was_wrong(kind):
    """A window counts columns and a convolution sees the padding, so rows of different length were read wrong."""
    config = tiny_config(causal_configs()[kind])
    cpu, ref = torch.device("cpu"), ModelRef(kind, "folder", kind)
    tokenizer = tiny_tokenizer()
    model = tiny_family(config)
    loaded = LoadedModel(ref, model, tokenizer, cpu, torch.float32, 0, 0, frozenset(), POSITIONS, kind)
    assert long_difference(loaded, Reading(many=PADDED)) > 5 * RIGHT
    assert long_difference(loaded, Reading(many=ALIGNED)) < RIGHT


def test_a_model_that_looks_ahead_is_refused_with_the_number():
    """BERT reads both ways unless it is told to be a decoder; its next-token probabilities would mean nothing."""
    config = tiny_config(causal_configs()["bert"])
    config.is_decoder = False
    cpu, ref = torch.device("cpu"), ModelRef("bert", "folder", "bert")
    loaded = LoadedModel(
        ref, tiny_family(config), tiny_tokenizer(), cpu, torch.float32, 0, 0, frozenset(), POSITIONS, "bert"
    )
    with pytest.raises(UserError, match=r"differ by [\d.e-]+ nats .* Use a causal language model"):
        check_reading(loaded, (TEXT[:COLUMNS], TEXT[3 : 3 + COLUMNS]))


def loaded_family(kind: str, seed: int) -> LoadedModel:
    config, tokenizer = tiny_config(causal_configs()[kind]), tiny_tokenizer()
    config.vocab_size = len(tokenizer)
    cpu, ref = torch.device("cpu"), ModelRef(kind, "folder", kind)
    model, name = tiny_family(config, seed), f"{kind}{seed}"
    return LoadedModel(ref, model, tokenizer, cpu, torch.float32, 0, 0, frozenset({2}), POSITIONS, name)


@pytest.mark.parametrize("kind", ["mistral", "lfm2", "falcon_h1", "mamba", "rwkv"])
def test_sampled_and_traced_divergences_are_those_of_plain_forwards(kind, tmp_path):
    """Responses of a batch that end at different steps: `sample` was wrong by up to 1.9 nats, and `trace` by 4."""
    expert, amateur = loaded_family(kind, 1), loaded_family(kind, 2)
    pair = Pair(None, expert, amateur, align_vocabularies(expert.tokenizer, amateur.tokenizer), False, True)
    prompts = [TEXT[:9], TEXT[5:28], TEXT[2:16], TEXT[20:26]]
    rows = [GenerationRow(Problem(str(n), "q", None), 0, ids, ids) for n, ids in enumerate(prompts)]
    expert.end_ids = frozenset(range(3, 300, 19))  # some end at once, some never
    found = generate_batch(pair, rows, DecodingConfig(40, temperature=1.0, seed=3), lambda ended: None)
    assert len({len(ids) for ids in found.tokens}) > 1
    plain = []
    with torch.inference_mode():
        for prompt, ids in zip(prompts, found.tokens, strict=True):
            logs = [forward(m, [prompt + ids], len(ids) + 1)[0, :-1].log_softmax(-1) for m in (expert, amateur)]
            plain += (logs[0].exp() * (logs[0] - logs[1])).sum(-1).tolist()
    assert found.measures["kl"].tolist() == pytest.approx(plain, abs=1e-4) and max(plain) > 0.05
    decoder = PairDecoder(pair, prompts[1], prompts[1])
    ids = found.tokens[1]
    start = sum(map(len, found.tokens[:1]))
    steps = decoder.score(ids, decoder.writer.teacher_force(ids)).steps
    assert [step.score.kl for step in steps] == pytest.approx(plain[start : start + len(ids)], abs=1e-4)


def test_responses_at_a_temperature_are_read_as_checked():
    """An evaluation at a temperature checked nothing: a model that bears no padding answered something else."""
    prompts, drawn = [TEXT[:9], TEXT[5:28], TEXT[2:16]], np.full((3, 8), 0.5)
    found = sampled_generate(loaded_family("rwkv", 1), prompts, 8, 1e-3, drawn)  # all but greedy
    assert found == greedy_generate(loaded_family("rwkv", 1), prompts, 8)


def test_a_slower_way_is_said_on_the_card(tmp_path):
    loaded = loaded_family("rwkv", 1)
    assert describe_reading(loaded) is None  # not measured yet
    check_reading(loaded)
    assert describe_reading(loaded).endswith("the whole text again for every token: slower, but right for a rwkv model")
    usual = loaded_family("mistral", 1)
    check_reading(usual)
    assert describe_reading(usual) is None
