"""Bytes and texts of tokens."""

import random

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers
from transformers import PreTrainedTokenizerFast

from lightreasoner.models.token_text import TokenTexts
from tests.support.tiny_models import tiny_tokenizer

TEXTS = [
    "",
    " ",
    "The answer is 7.",
    "\n\n\t\r\n ",
    "\0\x01\x7f",
    "naïve café",
    "e\u0301\u0327",
    "日本語の文",
    "😀👩‍👩‍👧‍👦🏳️‍🌈",
]
TEXTS += [
    "العربية",
    "\ufeffBOM\u200b\u202e",
    "Ġ Ċ ▁ <0x0A>",
    "\ufffd\uffff\U0010ffff",
    "a\\xe2b",
    "½ ² Ⅷ",
    "   x   =   3",
]


@pytest.fixture(scope="module")
def byte_level():
    return tiny_tokenizer()


@pytest.mark.parametrize("text", TEXTS)
def test_the_bytes_of_tokens_add_up_to_the_text(byte_level, text):
    texts, ids = TokenTexts(byte_level), byte_level.encode(text, add_special_tokens=False)
    assert b"".join(texts.bytes(id) for id in ids) == text.encode()


def test_the_bytes_of_tokens_add_up_for_random_text(byte_level):
    texts, rng = TokenTexts(byte_level), random.Random(0)
    ranges = [(0, 0x80), (0x80, 0x800), (0x800, 0xD800), (0xE000, 0x10000), (0x10000, 0x110000)]
    for _ in range(300):
        text = "".join(chr(rng.randrange(*rng.choice(ranges))) for _ in range(rng.randrange(40)))
        ids = byte_level.encode(text, add_special_tokens=False)
        assert b"".join(texts.bytes(id) for id in ids) == text.encode()


def test_texts_are_what_stands_in_the_response(byte_level):
    texts = TokenTexts(byte_level)
    assert [texts.text(id) for id in byte_level.encode("The answer\n")][-1] == "\n"
    assert any(texts.text(id).startswith(" ") for id in range(len(byte_level)))
    assert "".join(texts.text(id) for id in byte_level.encode(" 3 + 4 = 7\n")) == " 3 + 4 = 7\n"


def test_part_of_a_character_is_spelled_by_its_bytes(byte_level):
    texts = TokenTexts(byte_level)
    assert [texts.text(id) for id in byte_level.encode("é")] == ["\\xc3", "\\xa9"]
    assert [texts.text(id) for id in byte_level.encode("€")] == ["\\xe2", "\\x82", "\\xac"]


def test_every_byte_has_its_token(byte_level):
    assert set(map(TokenTexts(byte_level).bytes, range(3, 259))) == {bytes([b]) for b in range(256)}


def test_added_tokens_are_their_content():
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens([AddedToken("<thìnk> Ġ", special=False)])
    texts, think = TokenTexts(tokenizer), len(tokenizer) - 1
    assert texts.text(2) == "<|im_end|>" and texts.special(2) and texts.special(0)
    assert texts.text(think) == "<thìnk> Ġ" and not texts.special(think)
    assert not TokenTexts(tokenizer).special(50) and TokenTexts(tokenizer).special(1)


@pytest.mark.parametrize(
    "id", [300, 151_900, 2**31, 2**70, -1, -(2**40), None, "x", 1.0, [1], float("nan"), True, "\ud800"]
)
def test_ids_that_no_token_has(byte_level, id):
    texts = TokenTexts(byte_level)
    assert texts.text(id) == f"[{id}]".encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")
    assert isinstance(texts.bytes(id), bytes)


@pytest.fixture(scope="module")
def sentencepiece():
    """As Llama 2 has it: ▁ for a space, and bytes for what the vocabulary lacks."""
    vocab = {"<unk>": 0, "</s>": 1} | {f"<0x{byte:02X}>": 2 + byte for byte in range(256)}
    for token in ("▁", "a", "b", "▁a", "▁▁", "日", "Ġ"):
        vocab[token] = len(vocab)
    merges = [("▁", "a"), ("▁", "▁")]
    bpe = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>"))
    bpe.normalizer = normalizers.Replace(" ", "▁")
    bpe.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="</s>", unk_token="<unk>")


@pytest.mark.parametrize("text", ["a b", " a  b", "日😀\n", "é\0Ġ"])
def test_sentencepiece(sentencepiece, text):
    texts, ids = TokenTexts(sentencepiece), sentencepiece.encode(text, add_special_tokens=False)
    assert b"".join(texts.bytes(id) for id in ids) == text.encode()


def test_sentencepiece_texts(sentencepiece):
    texts = TokenTexts(sentencepiece)
    vocab = sentencepiece.get_vocab()
    assert texts.text(vocab["▁a"]) == " a" and texts.text(vocab["<0xE2>"]) == "\\xe2"
    assert texts.text(vocab["<0x0A>"]) == "\n" and texts.text(vocab["</s>"]) == "</s>"
    assert texts.text(vocab["Ġ"]) == "Ġ", "a letter of Maltese, not a space"


def test_each_token_is_worked_out_once(byte_level):
    class Counting:
        calls = 0

        def __getattr__(self, name):
            return getattr(byte_level, name)

        def convert_ids_to_tokens(self, id):
            self.calls += 1
            return byte_level.convert_ids_to_tokens(id)

    counting = Counting()
    texts = TokenTexts(counting)
    before = counting.calls
    for _ in range(5):
        assert texts.text(70) == TokenTexts(byte_level).text(70)
    assert counting.calls == before + 1
