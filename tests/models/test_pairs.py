"""Presets, pairs, and the alignment of two vocabularies."""

import re
import shutil

import pytest
import torch
from tokenizers import AddedToken

from lightreasoner.errors import UserError
from lightreasoner.models import loading, pairs
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import load_model
from lightreasoner.models.pairs import describe_pair, find_preset, load_pair, presets
from lightreasoner.models.references import parse_ref
from lightreasoner.models.vocabulary import VocabularyAlignment, align_vocabularies
from lightreasoner.settings import Settings
from tests.support.tiny_models import END, PAD, START, save_tiny, save_tiny_gguf, shouting_tokenizer, tiny_tokenizer

CPU = Settings(device="cpu", dtype="float32")
DEEPSEEK = ("<｜pad｜>", "<｜User｜>", "<｜end｜>")  # other control tokens over the same ordinary ones


def swapped(tokenizer, first, second):
    """The same tokenizer but that two ids have changed places."""
    state = tokenizer.backend_tokenizer.to_str()
    names = [tokenizer.convert_ids_to_tokens(id) for id in (first, second)]
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    swap = {f'"{names[0]}":{first}': f'"{names[0]}":{second}', f'"{names[1]}":{second}': f'"{names[1]}":{first}'}
    for old, new in swap.items():
        assert state.count(old) == 1
        state = state.replace(old, new)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(state), pad_token=PAD, eos_token=END)


# --- presets ----------------------------------------------------------------------------------------------------------


def test_presets_are_sound():
    catalogue = presets()
    assert catalogue[0].name == "bundled" and catalogue[0].expert == "lightreasoner-expert-4m"
    names = [preset.name for preset in catalogue]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[a-z0-9.-]+", name) for name in names)
    for preset in catalogue:
        assert {parse_ref(preset.expert).kind, parse_ref(preset.amateur).kind} <= {"bundled", "hub"}
        assert preset.expert_params > preset.amateur_params > 0
        assert preset.memory_gb == pytest.approx(
            (preset.expert_params + preset.amateur_params) * 2.4e-9, rel=0.02, abs=0.003
        )
        assert preset.why.endswith(".") and preset.title
        assert find_preset(preset.name) == preset


def test_the_papers_pairs_are_there():
    experts = {preset.expert for preset in presets() if preset.amateur == "Qwen/Qwen2.5-0.5B"}
    qwen = {f"Qwen/Qwen2.5-Math-{size}{kind}" for size in ("1.5B", "7B") for kind in ("", "-Instruct")}
    assert experts == qwen | {"deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"}


@pytest.mark.parametrize("name", ["nope", "", None, 3])
def test_an_unknown_preset_lists_those_there_are(name):
    with pytest.raises(UserError, match=r"bundled.*smollm2"):
        find_preset(name)


def test_a_broken_catalogue_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(pairs, "CATALOGUE", tmp_path / "pairs.toml")
    for content in ("[[pair]\n", "x = 1", "[[pair]]\nname = 'a'\n"):
        (tmp_path / "pairs.toml").write_text(content)
        with pytest.raises(UserError, match="cannot be read"):
            presets()


# --- vocabularies -----------------------------------------------------------------------------------------------------


def test_the_same_vocabulary_is_a_slice():
    alignment = align_vocabularies(tiny_tokenizer(), tiny_tokenizer())
    assert alignment.size == 300 and alignment.expert_ids is None and alignment.amateur_ids is None
    logits = torch.randn(2, 320)  # a padded table
    assert torch.equal(alignment.expert(logits), logits[:, :300])
    assert torch.equal(alignment.amateur(logits[:, :310]), logits[:, :300])
    assert alignment.to_shared(299) == 299 and alignment.to_expert(299) == 299
    assert alignment.to_shared(300) is None and alignment.to_shared(-1) is None
    assert alignment.retokenize([5, 2, 299]) == ([5, 2, 299], [0, 1, 2])
    assert alignment.retokenize([]) == ([], [])


def test_an_id_that_no_token_has_is_spelled_by_the_replacement_character():
    tokenizer = tiny_tokenizer()
    spelled, ends = align_vocabularies(tokenizer, tokenizer).retokenize([7, 310, 8])
    assert tokenizer.decode(spelled[1:-1]) == "\ufffd" and ends == [0, 3, 4]


def test_swapped_ordinary_ids_are_refused():
    with pytest.raises(UserError) as caught:
        align_vocabularies(tiny_tokenizer(), swapped(tiny_tokenizer(), 40, 41))
    a, b = tiny_tokenizer().convert_ids_to_tokens([40, 41])
    assert f"40: {a!r} and {b!r}" in str(caught.value) and f"41: {b!r} and {a!r}" in str(caught.value)
    assert " 2 ordinary tokens" in str(caught.value)


def test_other_vocabularies_are_refused_with_the_first_differences():
    mine, other = tiny_tokenizer(), tiny_tokenizer(["zzz yyy xxx www"])
    with pytest.raises(UserError) as caught:
        align_vocabularies(mine, other)
    shown = re.findall(r"(\d+): '(.*?)' and '(.*?)'", str(caught.value))
    first = next(id for id in range(300) if mine.convert_ids_to_tokens(id) != other.convert_ids_to_tokens(id))
    assert shown[0] == (str(first), mine.convert_ids_to_tokens(first), other.convert_ids_to_tokens(first))
    assert len(shown) == 5


@pytest.mark.parametrize("turned", [False, True])
def test_more_ordinary_tokens_are_refused(turned):
    few = tiny_tokenizer(["ab ab ab ab"])
    more = tiny_tokenizer(["ab ab ab ab cd"])
    assert few.get_vocab().items() < more.get_vocab().items()
    with pytest.raises(UserError, match="nothing"):
        align_vocabularies(*((few, more) if turned else (more, few)))


def test_padding_rows_that_a_gguf_file_names_are_no_tokens():
    tokenizer, padded = tiny_tokenizer(["ab ab ab"]), tiny_tokenizer(["ab ab ab"])
    state = padded.backend_tokenizer.to_str()
    size = len(padded)
    last = padded.convert_ids_to_tokens(size - 1)
    state = state.replace(
        f'"{last}":{size - 1}', f'"{last}":{size - 1},"[PAD{size}]":{size},"[PAD{size + 1}]":{size + 1}'
    )
    padded._tokenizer = type(padded.backend_tokenizer).from_str(state)
    assert len(padded) == size + 2
    for alignment in (align_vocabularies(tokenizer, padded), align_vocabularies(padded, tokenizer)):
        assert alignment.size == size and alignment.expert_ids is None


def test_other_control_tokens_are_left_out_but_the_end_of_a_turn_is_one():
    expert, amateur = tiny_tokenizer(specials=DEEPSEEK), tiny_tokenizer()
    alignment = align_vocabularies(expert, amateur)
    assert alignment.size == 298  # 300 less three control tokens, and the end
    assert alignment.to_shared(0) is None and alignment.to_shared(1) is None
    assert alignment.to_expert(alignment.to_shared(2)) == 2
    assert all(alignment.to_expert(alignment.to_shared(id)) == id for id in range(3, 300))
    logits = torch.randn(4, 300)
    assert torch.equal(alignment.amateur(logits), logits[:, 2:])
    spelled, ends = alignment.retokenize([5, 1, 9, 2])
    assert spelled[0] == 5 and spelled[-2:] == [9, 2]
    assert amateur.decode(spelled[1:-2]) == DEEPSEEK[1]
    assert ends == [0, len(spelled) - 3, len(spelled) - 2, len(spelled) - 1] and len(spelled) > 10


def test_ends_under_other_ids_are_put_together():
    """DeepSeek-R1-Distill-Qwen's way: the amateur's end lies under an id that is something else for the expert."""
    expert = tiny_tokenizer(specials=("<｜end｜>", "<｜User｜>", "<think>"))
    expert.eos_token = "<｜end｜>"
    alignment = align_vocabularies(expert, tiny_tokenizer())
    logits = torch.arange(300.0)
    shared = alignment.to_shared(0)
    assert alignment.expert(logits)[shared] == 0 and alignment.amateur(logits)[shared] == 2
    assert alignment.retokenize([7, 0]) == ([7, 2], [0, 1])
    assert alignment.to_shared(2) is None and alignment.size == 298


def test_the_amateurs_end_means_one_thing_only():
    """An expert that has the amateur's end as just another control token must not have it counted twice."""
    expert = tiny_tokenizer(specials=("<｜pad｜>", END, "<｜end｜>"))
    alignment = align_vocabularies(expert, tiny_tokenizer())
    assert alignment.amateur_list.count(2) == 1
    assert alignment.amateur_list[alignment.to_shared(2)] == 2 and alignment.to_shared(1) is None


def test_the_same_control_tokens_under_other_ids_are_shared():
    expert, amateur = tiny_tokenizer(specials=(START, PAD, END)), tiny_tokenizer()
    alignment = align_vocabularies(expert, amateur)
    assert alignment.size == 300
    assert alignment.retokenize([0, 1, 2, 3]) == ([1, 0, 2, 3], [0, 1, 2, 3])
    logits = torch.arange(300.0)
    assert alignment.amateur(logits)[:4].tolist() == [1, 0, 2, 3] and alignment.expert(logits)[:4].tolist() == [
        0,
        1,
        2,
        3,
    ]


def test_further_control_tokens_keep_the_slice():
    expert = tiny_tokenizer()
    expert.add_tokens([AddedToken("<think>", special=False)])
    alignment = align_vocabularies(expert, tiny_tokenizer())
    assert alignment.size == 300 and alignment.expert_ids is None
    spelled, ends = alignment.retokenize([300, 4])
    assert tiny_tokenizer().decode(spelled[:-1]) == "<think>" and ends == [6, 7]
    assert alignment.to_shared(300) is None


def test_tables_with_fewer_rows_than_the_tokenizer_has_tokens():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("<think>"), AddedToken("<tool>")])
    assert align_vocabularies(tokenizer, tokenizer, 320, 301).size == 301
    assert align_vocabularies(tokenizer, tokenizer).size == 302


def test_large_vocabularies_are_compared():
    class Large:
        eos_token_id = 150_000
        added_tokens_decoder = {150_000: AddedToken("<end>")}  # noqa: RUF012

        def __init__(self, end):
            self.vocab = {f"token{id}": id for id in range(150_000)} | {end: 150_000}

        def get_vocab(self):
            return self.vocab

        def __call__(self, text, add_special_tokens):
            return {"input_ids": [1]}

    assert align_vocabularies(Large("<end>"), Large("<end>")).expert_ids is None
    assert align_vocabularies(Large("<end>"), Large("<fin>")).size == 150_001


# --- pairs ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    save_tiny(root / "expert", seed=1, hidden=64)
    save_tiny(root / "padded", seed=2, vocab_rows=320)
    save_tiny(root / "deepseek", seed=3, tokenizer=tiny_tokenizer(specials=DEEPSEEK))
    save_tiny(root / "stranger", seed=4, tokenizer=tiny_tokenizer(["zzz yyy xxx www"]))
    return {folder.name: str(folder) for folder in root.iterdir()}


def test_padded_tables_are_fine(folders):
    pair = load_pair(folders["expert"], folders["padded"], LoadedModels(CPU), name="mine")
    assert pair.name == "mine" and not pair.same_model and pair.same_special_tokens
    ids = torch.tensor([[5, 6, 7]])
    for loaded, rows, pick in ((pair.expert, 300, pair.alignment.expert), (pair.amateur, 320, pair.alignment.amateur)):
        logits = loaded.model(input_ids=ids).logits
        assert logits.shape == (1, 3, rows) and pick(logits).shape == (1, 3, 300)


def test_the_same_model_twice(folders):
    models = LoadedModels(CPU)
    pair = load_pair(folders["expert"], folders["expert"], models)
    assert pair.same_model and pair.same_special_tokens and pair.expert is pair.amateur and pair.name is None


def test_a_pair_with_other_control_tokens(folders):
    pair = load_pair(folders["deepseek"], folders["expert"], LoadedModels(CPU))
    assert not pair.same_special_tokens and not pair.same_model and pair.alignment.size == 298
    logits = pair.amateur.model(input_ids=torch.tensor([[5, 6]])).logits
    assert pair.alignment.amateur(logits).shape == (1, 2, 298)


def test_strangers_are_refused_by_name(folders, tmp_path):
    """Other tokens make a pair across tokenizers, but not where the tokens do not spell the text."""
    pair = load_pair(folders["expert"], folders["stranger"], LoadedModels(CPU))
    assert pair.across and not pair.same_special_tokens and describe_pair(pair)["across"]
    loud = str(save_tiny(tmp_path / "shouting", seed=4, tokenizer=shouting_tokenizer()))
    with pytest.raises(UserError) as caught:
        load_pair(folders["expert"], loud, LoadedModels(CPU))
    assert folders["expert"] in str(caught.value) and loud in str(caught.value)
    assert "cannot be a pair" in str(caught.value) and "do not spell the text" in str(caught.value)


def test_alignments_move_with_the_logits(folders):
    alignment = align_vocabularies(tiny_tokenizer(specials=DEEPSEEK), tiny_tokenizer())
    moved = alignment.to_devices(torch.device("meta"), torch.device("cpu"))
    assert moved.expert_ids.device.type == "meta" and moved.amateur_ids.device.type == "cpu"
    assert moved.to_shared(5) == alignment.to_shared(5)
    assert VocabularyAlignment(3).to_devices(torch.device("meta"), torch.device("meta")).size == 3


def test_rows_are_taken_from_the_models(tmp_path):
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("<think>")])
    folder = save_tiny(tmp_path / "short", seed=5, tokenizer=tokenizer, vocab_rows=300)
    assert len(load_model(str(folder), CPU).tokenizer) == 301
    assert load_pair(str(folder), str(folder), LoadedModels(CPU)).alignment.size == 300


def no_weights(*_):
    pytest.fail("weights were read")


def test_two_tokenizers_that_differ_are_refused_before_weights_are_read(tmp_path, monkeypatch):
    """Two GGUF files took two minutes to be told apart, because both models were loaded first."""
    one = save_tiny_gguf(tmp_path / "one.gguf")
    other = save_tiny(tmp_path / "other", seed=2, tokenizer=shouting_tokenizer())
    monkeypatch.setattr(loading, "_load_weights", no_weights)
    said = []
    with pytest.raises(UserError, match=r"cannot be a pair.*tokenizers differ"):
        load_pair(str(one), str(other), LoadedModels(CPU), said.append)
    assert said == ["Reading both tokenizers"]


@pytest.mark.parametrize("nothing", [None, "", " ", 3, [], "../", "no such"])
def test_a_reference_that_names_no_model_is_refused_in_a_sentence(nothing):
    """The first version of the check of tokenizers ended in a traceback here."""
    for refs in ((nothing, "lightreasoner-amateur-1m"), ("lightreasoner-expert-4m", nothing)):
        with pytest.raises(UserError):
            load_pair(*refs, LoadedModels(CPU))


def test_the_same_file_as_expert_and_amateur_is_read_once(tmp_path):
    """Under two names, too: a second copy in memory compares nothing. Each keeps its own tokenizer and template."""
    one = save_tiny(tmp_path / "one", seed=1)
    other = shutil.copytree(one, tmp_path / "copy")
    (other / "chat_template.jinja").write_text("{{ messages[0].content }}")
    models = LoadedModels(CPU)
    pair = load_pair(str(one), str(other), models)
    assert pair.same_model and pair.amateur.model is pair.expert.model
    assert pair.amateur.ref.base == str(other) and pair.amateur.tokenizer.chat_template == "{{ messages[0].content }}"
    assert load_pair(str(one), str(other), models).amateur is pair.amateur
