"""Valid and invalid model references."""

from pathlib import Path

import pytest

from lightreasoner.errors import UserError
from lightreasoner.models.cache import missing_reason
from lightreasoner.models.references import parse_ref
from lightreasoner.settings import Settings

CPU = Settings(device="cpu")


def refusal(call, *args):
    """The message of the UserError that the call must raise: whole sentences, no traceback's leavings."""
    with pytest.raises(UserError) as caught:
        call(*args)
    text = str(caught.value)
    assert text[-1] == "." and "Traceback" not in text and len(text) < 700
    return text


@pytest.mark.parametrize(
    ("text", "kind", "base", "revision", "adapter"),
    [
        ("lightreasoner-expert-4m", "bundled", "lightreasoner-expert-4m", None, None),
        ("Qwen/Qwen2.5-0.5B", "hub", "Qwen/Qwen2.5-0.5B", None, None),
        ("  Qwen/Qwen2.5-0.5B\n", "hub", "Qwen/Qwen2.5-0.5B", None, None),
        ("org/name@refs/pr/3", "hub", "org/name", "refs/pr/3", None),
        ("org/name@v1.0::me/lora@abc", "hub", "org/name", "v1.0", "me/lora@abc"),
        ("/some/folder with space", "folder", "/some/folder with space", None, None),
        ("/x/model.Q4.GGUF", "gguf", "/x/model.Q4.GGUF", None, None),
        ("/x/a/../y.gguf::/runs/a", "gguf", "/x/y.gguf", None, "/runs/a"),
        ("lightreasoner-amateur-1m::/runs/a", "bundled", "lightreasoner-amateur-1m", None, "/runs/a"),
    ],
)
def test_references(text, kind, base, revision, adapter):
    ref = parse_ref(text)
    assert (ref.kind, ref.base, ref.revision, ref.adapter) == (kind, base, revision, adapter)
    assert parse_ref(str(ref)) == ref == parse_ref(ref)


JUNK = [
    "",
    "   ",
    "x" * 501,
    "http://huggingface.co/org/name",
    "file:///etc/passwd",
    "s3://bucket/m",
    "https://host/model.gguf",
    "hf:org/name",
]
JUNK += [
    "org/name\0",
    "org/\u202ename",
    "a/b\nc",
    "gpt2",
    "org/name@",
    "org/name@../../x",
    "org/name@a/../../x",
    "org/name@a//b",
    "org//name",
]
JUNK += ["-org/name", "org/..", "org/na--me", "org/name.git", "a/b/c", "org/name::", "::org/name", "org/a::b/c::d/e"]
JUNK += [
    "org/name::lightreasoner-expert-4m",
    "org/name::/x/y.gguf",
    "lightreasoner-expert-4m/../x",
    "Lightreasoner-expert-4m",
]
JUNK += [None, 7, float("nan"), ["org/name"], {"a": 1}, b"org/name", True]


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_refused(junk, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refusal(parse_ref, junk)
    assert missing_reason(junk, CPU)


def test_what_is_neither_names_the_four_forms():
    text = refusal(parse_ref, "gpt2")
    assert all(form in text for form in ("bundled", "org/name", "/path/to/folder", ".gguf"))


def test_relative_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("org/name").mkdir(parents=True)
    Path("single").mkdir()
    assert parse_ref("org/name").kind == "hub", "a folder must not stand in for the Hub's model"
    assert parse_ref("./org/name").base == str(tmp_path / "org/name")
    assert parse_ref("single").base == str(tmp_path / "single")
