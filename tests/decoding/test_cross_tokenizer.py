"""Pairs across tokenizers: the amateur in the expert's tokens, against an enumeration of all that it may write."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

from benchmarks.across import Undone
from benchmarks.across import permuted as permuted_ids
from lightreasoner.datasets.card import dataset_card
from lightreasoner.datasets.trajectories import rows, write_shard
from lightreasoner.decoding.contrast import Contrast, contrast_generate, contrast_grid, takeover
from lightreasoner.decoding.cross_tokenizer import AcrossRow
from lightreasoner.decoding.cross_tokenizer_ahead import AcrossAhead
from lightreasoner.decoding.generate import DecodingConfig, GenerationRow, Given, generate_batch, greedy_generate
from lightreasoner.decoding.tree_reader import Continuation, TreesApart, answer_all, read_trees
from lightreasoner.errors import UserError
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import LoadedModel, load_model
from lightreasoner.models.pairs import ExpertOnly, Pair, describe_pair, find_preset, load_pair
from lightreasoner.models.prompts import pair_prompts
from lightreasoner.models.references import ModelRef
from lightreasoner.models.token_text import TokenTexts
from lightreasoner.models.tokenizer_pair import Segmenter, across_vocabulary
from lightreasoner.problems.rows import Problem
from lightreasoner.sampling.trajectory_table import batch_table
from lightreasoner.scoring.measures import COMPARED, STEP_MEASURES
from lightreasoner.settings import Settings
from lightreasoner.tracing.events import StepsEvent
from lightreasoner.tracing.records import Trace, columns, reweigh, trace_csv, trace_json
from lightreasoner.tracing.trace import TraceRequest, trace
from tests.support.tiny_models import CHAT_TEMPLATE, END, PAD, SPECIALS, save_tiny, tiny_model, tiny_tokenizer

CPU = Settings(device="cpu")


def tokenizer_of(merges: list[tuple[str, str]], digits: bool = False) -> PreTrainedTokenizerFast:
    """Byte-level BPE with these merges, in their order. digits: groups of up to three, as one token."""
    vocabulary = {token: id for id, token in enumerate([*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())])}
    for left, right in merges:
        vocabulary.setdefault(left + right, len(vocabulary))
    bpe = Tokenizer(models.BPE(vocabulary, merges))
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=PAD, eos_token=END, additional_special_tokens=[SPECIALS[1]]
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


class Canonical(torch.nn.Module):
    """A model that writes the letters of a small alphabet, and only as its tokenizer would."""

    def __init__(self, model, tokenizer, letters: str):
        super().__init__()
        self.model, self.config = model, model.config
        bytes_of = {id: token for token, id in tokenizer.get_vocab().items()}
        allowed = [id for id, token in bytes_of.items() if set(token) <= set(letters)]
        end, size = tokenizer.eos_token_id, model.config.vocab_size
        self.allowed = torch.full((size, size), -math.inf)
        self.allowed[:, [*allowed, end]] = 0.0
        for one in allowed:
            for other in allowed:
                text = bytes_of[one] + bytes_of[other]
                if tokenizer(text, add_special_tokens=False)["input_ids"] != [one, other]:
                    self.allowed[one, other] = -math.inf

    def get_output_embeddings(self):
        return self.model.get_output_embeddings()

    def forward(self, **kwargs):
        output = self.model(**kwargs)
        output.logits = output.logits + self.allowed[kwargs["input_ids"][:, -output.logits.shape[1] :]]
        return output


PROMPT = [10, 20, 30]
UNLIKELY = -16.0  # texts of smaller log P are left out of the truth


def amateur_of(tmp_path, merges, letters: str, seed: int):
    tokenizer = tokenizer_of(merges)
    tiny_model(seed, vocab_rows=len(tokenizer)).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_model(str(tmp_path), CPU)
    loaded.model = Canonical(loaded.model, loaded.tokenizer, letters)
    return loaded


@torch.inference_mode()
def everything(loaded, length: int) -> dict[str, float]:
    """Every text of at least so many letters that the amateur may begin with, or end before, with its probability.

    An end is written as ".". The naive truth: one forward pass for each of its sequences of tokens.
    """
    vocabulary = {id: token for token, id in loaded.tokenizer.get_vocab().items()}
    texts: dict[str, float] = {}
    growing: list[tuple[list[int], str, float]] = [([], "", 0.0)]
    while growing:
        logits = []
        for size in {len(ids) for ids, *_ in growing}:
            same = [row for row in growing if len(row[0]) == size]
            batch = torch.tensor([PROMPT + row[0] for row in same])
            found = loaded.model(input_ids=batch).logits[:, -1].double().log_softmax(-1)
            logits += list(zip(same, found, strict=True))
        growing = []
        for (ids, text, weight), row in logits:
            for id in row.isfinite().nonzero().flatten().tolist():
                more = weight + float(row[id])
                written = text + ("." if id == loaded.tokenizer.eos_token_id else vocabulary[id])
                if more < UNLIKELY:
                    continue
                if len(written) >= length or written.endswith("."):
                    texts[written] = texts.get(written, 0.0) + math.exp(more)
                else:
                    growing.append(([*ids, id], written, more))
    return texts


def truth(texts: dict[str, float], expert, beginning: list[int]) -> dict[int, float]:
    """The expert's next token after a beginning: its probability among the texts, by tokenising each of them."""
    found: dict[int, float] = {}
    end = expert.eos_token_id
    for text, share in texts.items():
        ids = expert(text.rstrip("."), add_special_tokens=False)["input_ids"] + [end] * text.endswith(".")
        if ids[: len(beginning)] == beginning and len(ids) > len(beginning):
            found[ids[len(beginning)]] = found.get(ids[len(beginning)], 0.0) + share
    total = sum(found.values())
    return {id: share / total for id, share in found.items()}


FINE = [("a", "b"), ("c", "a")]
COARSE = [*FINE, ("ab", "c"), ("b", "b"), ("ab", "ca")]
OTHER = [("b", "c"), ("a", "a"), ("c", "bc"), ("bc", "a")]


@pytest.mark.parametrize(
    ("expert_merges", "amateur_merges"),
    [(FINE, COARSE), (COARSE, FINE), (OTHER, COARSE), (COARSE, OTHER), (OTHER, FINE), (COARSE, COARSE), ([], COARSE)],
)
def test_the_amateur_in_the_experts_tokens_is_what_enumeration_gives(tmp_path, expert_merges, amateur_merges):
    """Pairs whose vocabularies differ were refused; what is compared must be the truth, or be left to the rest."""
    loaded = amateur_of(tmp_path, amateur_merges, "abc", seed=3)
    expert = tokenizer_of(expert_merges)
    texts = everything(loaded, 8)
    response = expert("abcaabb", add_special_tokens=False)["input_ids"]
    near = (len(expert.decode(response[:n])) <= 2 for n in range(1, len(response)))  # the truth is 8 letters long
    response = response[: 1 + sum(near)]
    vocabulary = across_vocabulary(expert, loaded.tokenizer)
    trees = TreesApart(loaded, [PROMPT[:-1]])
    row = AcrossRow(vocabulary, loaded, PROMPT, len(PROMPT) - 1)
    row.tolerance = 1e-3
    letters = [id for token, id in expert.get_vocab().items() if set(token) <= set("abc")]
    compared = worst = 0.0
    for start in range(0, len(response), 2):  # pieces
        piece = response[start : start + 2]
        asking = row.reading(piece, [dict.fromkeys(letters, 0.0)] * len(piece), frozenset([expert.eos_token_id]))
        for n, reading in enumerate(answer_all({0: asking}, trees)[0], start):
            wanted = truth(texts, expert, response[:n])
            got = {v: low for v, (low, high) in reading.sums.items() if high - low <= math.log1p(1e-3)}
            over = {v: high for v, (_, high) in reading.sums.items()}
            if reading.tail:
                found, shift, mask = reading.tail
                limit = vocabulary.most(found[None].exp().numpy())[0] * math.exp(shift)
                limit += 0.0 if reading.across is None else reading.across[vocabulary.expert_first]
                over |= {v: min(over.get(v, 0.0), float(np.log(limit[v]))) for v in letters}
                for id in np.flatnonzero(vocabulary.plain if mask is None else vocabulary.plain & mask).tolist():
                    got.setdefault(id, float(found[vocabulary.identical[id]]) + shift)
            for id, log in got.items():
                worst = max(worst, abs(math.exp(log) - wanted.get(id, 0.0)))
            for id, log in over.items():
                assert math.exp(log) >= wanted.get(id, 0.0) - 2e-3, "what is said to be the most is less than the truth"
            assert sum(map(math.exp, got.values())) <= 1 + 1e-6
            if reading.end is not None:
                assert math.exp(reading.end) == pytest.approx(wanted.get(expert.eos_token_id, 0.0), abs=3e-3)
            compared += sum(wanted.get(id, 0.0) for id in got)
    assert worst < 3e-3 and compared / len(response) > 0.5


@torch.inference_mode()
@pytest.mark.parametrize(("expert_merges", "amateur_merges"), [(COARSE, FINE), (COARSE, OTHER), (OTHER, COARSE)])
def test_what_the_amateur_would_write_is_its_likeliest_text_in_the_experts_tokens(
    tmp_path, expert_merges, amateur_merges
):
    """A takeover was refused: the amateur's favourite may be a token that the expert finds unlikely, which the amateur
    writes in several tokens, or in one with what is before it."""
    loaded, tokenizer = amateur_of(tmp_path / "amateur", amateur_merges, "abc", seed=3), tokenizer_of(expert_merges)
    tiny_model(9, vocab_rows=len(tokenizer)).save_pretrained(tmp_path / "expert")
    tokenizer.save_pretrained(tmp_path / "expert")
    expert = load_model(str(tmp_path / "expert"), CPU)
    found, texts, tokens = across_vocabulary(expert.tokenizer, loaded.tokenizer), everything(loaded, 8), []
    pair = Pair(None, expert, loaded, ExpertOnly(found.expert.size), False, False, found)
    ahead = AcrossAhead(pair, [PROMPT])
    while len(expert.tokenizer.decode(tokens)) < 4 and not expert.end_ids & {*tokens}:
        ahead.look(expert.model(torch.tensor([PROMPT + tokens])).logits[:, -1], [0], amateurs=True)
        wanted = truth(texts, expert.tokenizer, tokens)
        assert ahead.choices == [max(wanted, key=wanted.get)]
        ahead.take({0: ahead.choices[0]})
        tokens += ahead.choices


def plain_pair(folder):
    expert, amateur = (str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2)))
    return load_pair(expert, amateur, LoadedModels(CPU))


ASKED = ["Tom has 3 apples.", "2 + 2?", "A box holds 6 caps, and there are 7 boxes."]


def rows_of(pair, count=3):
    rows = []
    for n, question in enumerate(ASKED[:count]):
        own, amateur = pair_prompts(pair, question)
        rows.append(GenerationRow(Problem(str(n), question, None), 0, own, amateur))
    return rows


def permuted(loaded, seed=5):
    """The same model whose tokens have other ids."""
    tokenizer = loaded.tokenizer
    data = json.loads(tokenizer.backend_tokenizer.to_str())
    size = len(tokenizer)
    order = [0, 1, 2, *(3 + np.random.default_rng(seed).permutation(size - 3)).tolist()]  # old id → new id
    data["model"]["vocab"] = {token: order[id] for token, id in data["model"]["vocab"].items()}
    other = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(data)),
        pad_token=PAD,
        eos_token=END,
        clean_up_tokenization_spaces=False,
    )
    other.chat_template = tokenizer.chat_template
    model = copy.deepcopy(loaded.model)
    weight = model.get_input_embeddings().weight
    with torch.no_grad():
        weight[order] = weight.clone()
    return replace(loaded, model=model, tokenizer=other)


def across(pair, amateur):
    found = across_vocabulary(pair.expert.tokenizer, amateur.tokenizer)
    return replace(
        pair, amateur=amateur, across=found, alignment=ExpertOnly(found.expert.size), same_special_tokens=False
    )


@pytest.mark.parametrize("ids", ["same", "permuted"])
def test_the_same_tokens_across_tokenizers_give_the_numbers_of_one_tokenizer(tmp_path, ids):
    """Also where a random model writes tokens that no tokenizer would, which can lie inside characters."""
    pair = plain_pair(tmp_path)
    other = across(pair, permuted(pair.amateur) if ids == "permuted" else pair.amateur)
    decoding = DecodingConfig(max_new_tokens=40, beta_floor=0.0)
    usual, found = (generate_batch(each, rows_of(each), decoding, lambda ended: None) for each in (pair, other))
    assert usual.tokens == found.tokens
    compared = found.measures["compared"]
    whole = compared > 1 - 1e-5
    assert whole.mean() > 0.5
    for name in ("kl", "js", "reverse_kl", "expert_entropy"):
        assert np.abs(usual.measures[name] - found.measures[name])[whole].max() < 1e-5, name
    assert (found.measures["kl"] <= usual.measures["kl"] + 1e-5).all()


@pytest.fixture(scope="module", params=["float32", "bfloat16"])
def bundled(request):
    preset = find_preset("bundled")
    return load_pair(preset.expert, preset.amateur, LoadedModels(Settings(device="cpu", dtype=request.param)))


def test_permuted_ids_give_the_numbers_of_one_tokenizer_to_the_rounding(bundled):
    """KL differed by 5e-6: the rows were read one by one, and log_softmax rounds as coarsely on some CPUs. The
    responses end at different steps, and the amateur's table has rows without a token."""
    other = permuted_ids(bundled.amateur)
    rows = torch.nn.functional.pad(other.model.get_output_embeddings().weight, (0, 0, 0, 8), value=1.0)
    other.model.get_output_embeddings().weight = torch.nn.Parameter(rows)
    other.model.config.vocab_size += 8
    found_pair = across(bundled, other)
    assert found_pair.across.alike
    decoding = DecodingConfig(max_new_tokens=24, beta_floor=0.0)
    usual, found = (generate_batch(each, rows_of(each), decoding, lambda ended: None) for each in (bundled, found_pair))
    assert usual.tokens == found.tokens and len({len(tokens) for tokens in found.tokens}) > 1
    for name, most in (("kl", 1e-6), ("expert_entropy", 1e-6), ("js", 1e-5), ("reverse_kl", 1e-5)):
        assert np.abs(usual.measures[name] - found.measures[name]).max() < most, name
    both = []
    for each in (bundled, found_pair):
        rows = [replace(row, given=Given(ids)) for row, ids in zip(rows_of(each), usual.tokens, strict=True)]
        both.append(generate_batch(each, rows, decoding, lambda ended: None).measures["kl"])
    assert np.abs(both[0] - both[1]).max() < 1e-6


@torch.inference_mode()
@pytest.mark.parametrize("kind", ["qwen2", "gemma3_text"])
def test_rows_read_together_are_read_as_each_by_itself(kind):
    """Each row was read by itself, 1.55 times as slow, and later its branches; rows that forget tokens leave columns
    that nobody may see."""
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    sizes |= {"num_key_value_heads": 2, "head_dim": 8, "vocab_size": 300, "sliding_window": 20}
    layers = {"layer_types": ["sliding_attention", "full_attention"]} if "gemma" in kind else {}
    config = AutoConfig.for_model(kind, **sizes, **layers)
    torch.manual_seed(7)
    model, ref = AutoModelForCausalLM.from_config(config).eval(), ModelRef(kind, "folder", kind)
    loaded = LoadedModel(ref, model, tiny_tokenizer(), torch.device("cpu"), torch.float32, 0, 0, frozenset(), 128, kind)
    prompts = [[7, 3, 9, 11, 5], [4] * 30, [8, 8, 2]]
    trees = [read_trees(loaded, [prompt[:-1] for prompt in prompts], apart) for apart in (False, True)]
    sequences = [prompt[:-1] for prompt in prompts]
    rounds = [
        {
            0: Continuation(0, [5, 6, 7], 2, [(6, 9), (-1, 10), (2, 4)]),
            1: Continuation(0, [4, 1], 1),
            2: Continuation(0, [2], 1, [(0, 9), (-1, 5), (1, 1), (-2, 6)]),
        },
        {0: Continuation(2, [9], 1), 2: Continuation(0, [3] * 12, 3, [(4, 4)])},
        {0: Continuation(0, [], 0, [(1, 3)]), 1: Continuation(1, [], 0), 2: Continuation(5, [12, 13], 2)},
        {0: Continuation(1, [2, 3, 4], 3), 1: Continuation(0, [6], 1, [(9, 9)])},
        {0: Continuation(1, [2, 3, 4], 3), 2: Continuation(0, [], 0, [(0, 9), (5, 7)])},
        {0: Continuation(0, [1], 1), 1: Continuation(1, [5, 6], 1), 2: Continuation(2, [7], 1)},
    ]
    for number, wanted in enumerate(rounds):
        if number == 3:  # the second row is given up, and the others part
            for own in trees:
                own.select(torch.tensor([0, 2]))
                own.copy([1], [2])
            sequences = [sequences[0], sequences[2], sequences[2]]
        found, apart = (own.follow(wanted) for own in trees)
        for row, one in wanted.items():
            sequences[row] = whole = sequences[row][: len(sequences[row]) - one.drop] + one.ids
            read = [whole[: len(whole) - n] for n in reversed(range(one.keep))]
            beside = []
            for parent, token in one.branches:
                beside.append([*(whole[: parent + 1] if parent >= 0 else beside[-1 - parent]), token])
            assert len(found[row]) == len(apart[row]) == len(read) + len(beside)
            for n, ids in enumerate(read + beside):
                plain = model(torch.tensor([ids])).logits[0, -1]
                assert torch.allclose(found[row][n], plain, atol=1e-4), (number, row, n)
                assert torch.allclose(apart[row][n], plain, atol=1e-4), (number, row, n)


def test_a_pair_across_tokenizers_is_traced_as_it_is_sampled_and_stored(tmp_path):
    """Live, as a batch and from a file: the same numbers, lower bounds of KL with the share that was compared."""
    expert = str(save_tiny(tmp_path / "expert", seed=1))
    amateur = str(save_tiny(tmp_path / "amateur", seed=2, tokenizer=tiny_tokenizer(["a b cc dd ee the 12 34"])))
    settings = Settings(device="cpu", workspace=tmp_path)
    pair = load_pair(expert, amateur, LoadedModels(settings))
    items = rows_of(pair, 2)
    decoding = DecodingConfig(max_new_tokens=24, beta_floor=0.0)
    table = batch_table(pair, items, generate_batch(pair, items, decoding, lambda ended: None))
    write_shard(tmp_path / "run", "000000", table)
    row = next(iter(rows(tmp_path / "run")))
    run = {"config": {"expert": expert, "amateur": amateur}, "about": {"pair": describe_pair(pair)}}
    for card in (
        dataset_card(tmp_path / "run", run, "t", "mit"),
        dataset_card(tmp_path / "run", run, "t", "mit", {"a": run}),
    ):
        assert "every KL is a lower bound, " in card and "## KL(expert \u2016 amateur), at least\n" in card
    assert "in `a`; its tokenizer is another one, so its KLs are lower bounds\n" in card
    plain = dataset_card(tmp_path / "run", run | {"about": {}}, "t", "mit")
    assert "lower bound" not in plain and "nats.\n\n```" in plain and "at least" not in plain
    events = list(trace(pair, TraceRequest("Tom has 3 apples.", max_new_tokens=24), settings))
    steps = [step for event in events if isinstance(event, StepsEvent) for step in event.steps]
    assert [step.token_id for step in steps] == row["response_ids"]
    # What is read of a step depends a little on where the pieces of the response end.
    close = np.abs(np.array([step.score.kl for step in steps]) - row["kl"]) < 0.05
    assert close.mean() > 0.7
    assert all(0 <= share <= 1.00001 for share in row["compared"]) and min(row["compared"]) < 0.999
    assert all(len(step["ids"]) == len(step["amateur_logprobs"]) > 0 for step in row["steps"])
    record = Trace(describe_pair(pair), TraceRequest("Tom has 3 apples."))
    for event in events:
        record.add(event, TokenTexts(pair.expert.tokenizer))
    stored = json.loads(json.dumps(trace_json(record)))
    assert columns(stored)[len(STEP_MEASURES)] == COMPARED and stored["steps"][0][COMPARED] is not None
    assert reweigh(stored, 0.3, 0.2)["steps"] and trace_csv(stored)


@torch.inference_mode()
def test_merges_that_the_expert_lacks_change_no_target():
    """The bundled pair, with 502 merges of the expert's tokenizer undone, against sums over the amateur's tokens."""
    preset = find_preset("bundled")
    pair = load_pair(preset.expert, preset.amateur, LoadedModels(CPU))
    question = "Tom has 14 apples and buys 23 more. How many apples does he have now?"
    prompts = pair_prompts(pair, question)
    tokens = greedy_generate(pair.expert, [prompts[0]], 40)[0]
    steps = Undone(pair).measure(tokens, prompts)
    assert len(steps) == len(tokens) > 10
    for above, apart, _ in steps:
        assert above < 1e-4 and apart < 1e-3  # −1 without a target
    assert sum(apart >= 0 for _, apart, _ in steps) > 0.8 * len(steps)
    assert float(np.median([above for above, *_ in steps])) > -0.01


def sentencepiece(digits: bool = False) -> PreTrainedTokenizerFast:
    """BPE on words with ▁ for a space and bytes for unknown characters, as Llama's and Gemma's. digits: one by one."""
    words = ["▁the", "▁apples", "▁12", "12", "ap", "▁a", "th", "é", "▁"]
    alphabet = sorted({c for word in words for c in word} | set("Tombuys.0123456789\n"))
    tokens = [*SPECIALS, "<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), *alphabet]
    merges = [("t", "h"), ("a", "p"), ("▁", "a"), ("▁", "th"), ("▁th", "e"), ("▁", "ap"), ("▁ap", "p")]
    merges += [] if digits else [("1", "2"), ("▁", "12")]
    tokens += [left + right for left, right in merges]
    vocabulary = {token: id for id, token in enumerate(dict.fromkeys(tokens))}
    bpe = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    bpe.decoder = decoders.Sequence(parts)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, pad_token=PAD, eos_token=END, unk_token="<unk>")
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def with_added_tokens() -> PreTrainedTokenizerFast:
    """A tokenizer to which words were added that lie across its own."""
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["apples and", "<b>", "12 "])
    return tokenizer


def splitting_digits() -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(["7 12 123 the apples"])
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return tokenizer


def composing() -> PreTrainedTokenizerFast:
    """Its normaliser joins a letter and an accent that follow each other."""
    tokenizer = tiny_tokenizer(["caf\u00e9 the 12"])
    tokenizer.backend_tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def space_before_the_text() -> PreTrainedTokenizerFast:
    """It writes a space before the first word, and two line ends as one token."""
    tokenizer = tokenizer_of([("\u010a", "\u010a"), ("t", "h"), ("th", "e")])
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    return tokenizer


def test_a_tokenizer_that_puts_a_space_before_the_text_is_read(tmp_path):
    """It was refused, as if it dropped case or spaces: the line end that was written before a text ran together with
    one in the text."""
    own = Segmenter(space_before_the_text())
    for text in (" the", "The", "\n", "\n\n", "the\n\nthe", "1"):
        assert b"".join(own.bytes_of[id] for id in own.encode(text.encode())) == text.encode()
    assert len(own.encode(b"\n\n")) == 1


KINDS = {
    "byte-level": tiny_tokenizer,
    "space before the text": space_before_the_text,
    "byte fallback": sentencepiece,
    "byte fallback, single digits": lambda: sentencepiece(digits=True),
    "added tokens": with_added_tokens,
    "single digits": splitting_digits,
    "NFC": composing,
}


@pytest.mark.parametrize(
    ("expert", "amateur"),
    [
        ("byte-level", "byte fallback"),
        ("byte fallback", "single digits"),
        ("added tokens", "byte fallback, single digits"),
        ("NFC", "added tokens"),
        ("single digits", "NFC"),
        ("space before the text", "byte-level"),
    ],
)
def test_every_kind_of_tokenizer_gives_probabilities(tmp_path, expert, amateur):
    """Random models write what no tokenizer would: tokens inside characters, undone accents, ends within a word."""
    pair = load_pair(
        str(save_tiny(tmp_path / "expert", seed=1, tokenizer=KINDS[expert]())),
        str(save_tiny(tmp_path / "amateur", seed=2, tokenizer=KINDS[amateur]())),
        LoadedModels(CPU),
    )
    pair = pair if pair.across else across(pair, pair.amateur)
    decoding = DecodingConfig(max_new_tokens=12, beta_floor=0.0, temperature=1.0)
    found = generate_batch(pair, rows_of(pair, 2), decoding, lambda ended: None)
    counts, q = found.measures["counts"], np.exp(found.measures["amateur_logprobs"].astype(np.float64))
    sums = np.bincount(np.repeat(np.arange(len(counts)), counts), q, len(counts))
    assert (sums <= 1 + 1e-6).all()
    compared = found.measures["compared"]
    assert (compared >= 0).all() and (compared <= 1 + 1e-5).all() and np.isfinite(found.measures["kl"]).all()
    prompts = [pair_prompts(pair, question) for question in ASKED]
    contrasts = [Contrast(0.05, 0.1), Contrast(0.2, 1.0), takeover(0.1)]
    for contrast, together in zip(contrasts, contrast_grid(pair, prompts, contrasts, 10), strict=True):
        for both, mine in zip(prompts, together, strict=True):  # each response was read by itself
            alone = contrast_generate(pair, [both], contrast, 10)[0]
            assert mine.tokens.tolist() == alone.tokens.tolist() and (mine.own == alone.own).all()
            np.testing.assert_allclose(mine.kl, alone.kl, rtol=0.01)  # bounds: other steps were read before


def splitting(merges: list[tuple[str, str]], pattern: str) -> PreTrainedTokenizerFast:
    tokenizer = tokenizer_of(merges)
    steps = [pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    return tokenizer


def test_tokens_that_depend_on_what_is_before_and_behind_them():
    """Only the last token and what follows were looked at. After two spaces that are two tokens before a digit, all
    words counted that follow one token of two spaces: 0.44 where enumeration gives 0. "12" counted after "32", where
    the expert writes "321" and "2"; and where it groups digits from the right, "12" counted before any further digit:
    0.48 where enumeration gives 0.002."""
    other = tokenizer_of([("1", "2"), ("a", "a")])

    def ids(tokenizer, *texts):
        return tuple(tokenizer.convert_tokens_to_ids([*texts]))

    spaces = tokenizer_of([("\u0120", "\u0120"), ("\u0120", "a")])
    found, (one, two, digit, word) = (
        across_vocabulary(spaces, other),
        ids(spaces, "\u0120", "\u0120\u0120", "1", "\u0120a"),
    )
    assert found.depends((one, one), [digit]) and not found.depends((one, one), [word])
    assert not found.depends((two,), [word]) and not found.follows((one,), one) and found.follows((two,), word)
    left = splitting([("1", "2")], r"\p{N}{1,3}")
    found, (three, two, both) = across_vocabulary(left, other), ids(left, "3", "2", "12")
    assert found.follows((two,), both) and not found.follows((three, two), both) and not found.plain[both]
    right = splitting([("1", "2")], r"\d{1,3}(?=(?:\d{3})*(?:\D|$))")
    found, (both,) = across_vocabulary(right, other), ids(right, "12")
    assert found.cut(both, b"7") is None and found.cut(both, b"a") and not found.plain[both]
    assert across_vocabulary(right, splitting([("1", "2"), ("a", "a")], r"\d{1,3}(?=(?:\d{3})*(?:\D|$))")).plain[both]
    parts = "\u65e5".encode()  # a character of three tokens stays known inside
    inside = tuple(found.expert.id_of[parts[n : n + 1]] for n in range(3))
    assert not found.depends(inside[:2], inside[2:]) and found.follows(inside[:2], inside[2])


class Ending(torch.nn.Module):
    """A model that gives one token 0.9 or so, wherever it is asked."""

    def __init__(self, model, id: int):
        super().__init__()
        self.model, self.config, self.id = model, model.config, id

    def get_output_embeddings(self):
        return self.model.get_output_embeddings()

    def forward(self, **kwargs):
        output = self.model(**kwargs)
        output.logits[..., self.id] = output.logits.logsumexp(-1) + 2
        return output


def test_an_end_of_the_turn_that_is_no_control_token_is_no_text(tmp_path):
    """Some tokenizers only add it. Its probability counted as that of the expert's "<" as well, so the sum was 2, and
    nothing was said of the very steps at which the amateur ends."""
    stranger = tiny_tokenizer(["a b"], specials=("<s>", "<u>", "</s>"))
    stranger.add_tokens(["<|end|>"])
    stranger.chat_template = CHAT_TEMPLATE.replace(SPECIALS[1], "<u>").replace(END, "<|end|>")
    expert, amateur = save_tiny(tmp_path / "expert", 1), save_tiny(tmp_path / "amateur", 2, stranger)
    pair = load_pair(str(expert), str(amateur), LoadedModels(CPU))
    end = stranger.convert_tokens_to_ids("<|end|>")
    assert end in pair.amateur.end_ids and pair.across
    pair = replace(pair, amateur=replace(pair.amateur, model=Ending(pair.amateur.model, end)))
    ids = pair.expert.tokenizer("7", add_special_tokens=False)["input_ids"]
    rows = [replace(rows_of(pair, 1)[0], given=Given([*ids, pair.expert.tokenizer.eos_token_id]))]
    found = generate_batch(pair, rows, DecodingConfig(max_new_tokens=40, beta_floor=0.0), lambda ended: None).measures
    assert found["amateur_logprob"][-1] > -0.2 and found["compared"][-1] > 0.5


def test_what_the_amateur_reads_stays_within_its_context(tmp_path):
    """The room was guessed from the expert's tokens: a response of bytes went beyond it. Then such a response ended the
    whole sampling, and each resume of it again: now nothing is said of the steps beyond it, and its batch goes on."""
    expert = str(save_tiny(tmp_path / "expert", seed=1))
    amateur = str(save_tiny(tmp_path / "amateur", seed=2, tokenizer=tokenizer_of([])))
    pair = load_pair(expert, amateur, LoadedModels(CPU))
    row = rows_of(pair, 1)[0]
    ids = pair.expert.tokenizer(" apples and apples and apples", add_special_tokens=False)["input_ids"]
    needed, read = len(row.amateur_prompt) + pair.across.length(ids), []
    forward = pair.amateur.model.forward

    def watched(*given, **kwargs):
        read.append(int(kwargs.get("position_ids", torch.arange(kwargs["input_ids"].shape[1])).max()))
        return forward(*given, **kwargs)

    pair.amateur.model.forward = watched
    decoding = DecodingConfig(max_new_tokens=40, beta_floor=0.0)

    def measures(room, sampled):
        """Of one response that fits and of one twice as long, as the sampler reads them or as the inspector does."""
        narrow = replace(pair, amateur=replace(pair.amateur, max_positions=room))
        rows = [replace(row, given=Given(each, None, sampled=sampled)) for each in (ids, [*ids, *ids])]
        return generate_batch(narrow, rows, decoding, lambda ended: None).measures

    for sampled in (False, True):
        wide = measures(None, sampled)
        for room, whole in ((needed, True), (needed - 1, False), (len(row.amateur_prompt), False)):
            read.clear()
            found = measures(room, sampled)
            assert max(read, default=0) < room
            seen, beyond = found["compared"] > 1e-6, slice(2 * len(ids), None)
            assert not seen[beyond].any() and found["kl"][beyond].max() < 1e-6
            assert not found["counts"][beyond].any(), "a step that the amateur did not read has a target"
            assert found["agree"][beyond].all(), "nobody knows what it prefers there"
            assert seen[len(ids) - 1] == whole
            seen = np.flatnonzero(seen)
            assert len(seen) > len(ids) - 6 or room == len(row.amateur_prompt)
            np.testing.assert_allclose(found["kl"][seen], wide["kl"][seen], rtol=1e-3, atol=1e-4)

    narrow = replace(pair, amateur=replace(pair.amateur, max_positions=len(row.amateur_prompt) + 12))
    prompts = [(each.prompt, each.amateur_prompt) for each in rows_of(narrow, 2)]
    for contrast in (Contrast(0.05, 0.1), takeover(0.1)):  # the amateur has a say, so they end
        for found, (_, prompt) in zip(contrast_generate(narrow, prompts, contrast, 40), prompts, strict=True):
            room = narrow.amateur.max_positions - len(prompt)
            assert pair.across.length(found.tokens[:-2].tolist()) <= room < pair.across.length(found.tokens.tolist())
            assert found.kl[-1] < 1e-6 < found.kl[-3]
    request = TraceRequest(ASKED[0], max_new_tokens=12, contrast=Contrast(0.05, 0.1))
    with pytest.raises(UserError, match="has a say in it and reads"):
        list(trace(narrow, request, Settings()))


def test_a_tokenizer_that_drops_case_is_refused(tmp_path):
    """It was read in small letters: a tenth of the expert's mass was compared, and nobody was told."""
    small = tiny_tokenizer(["other words"])
    small.backend_tokenizer.normalizer = normalizers.Lowercase()
    expert, amateur = save_tiny(tmp_path / "expert", seed=1), save_tiny(tmp_path / "amateur", seed=2, tokenizer=small)
    with pytest.raises(UserError, match="may drop case"):
        load_pair(str(expert), str(amateur), LoadedModels(CPU))
