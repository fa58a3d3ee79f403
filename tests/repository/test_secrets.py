"""Nothing is committed that should not be: tokens, cloud keys and private keys, and what a run wrote."""

from __future__ import annotations

import re
import subprocess

import pytest

from lightreasoner.settings import ROOT

SECRETS = {
    "a Hub token": rb"\bhf_[A-Za-z0-9]{30,}",
    "a forge's token": rb"\b(?:gh[pousr]_[A-Za-z0-9]{36}|glpat-[A-Za-z0-9_-]{20,})",
    "a cloud key": rb"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "an API key": rb"\bsk-[A-Za-z0-9_-]{32,}",
    "a private key": rb"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----",
}


def secrets_in(data: bytes) -> list[str]:
    return [name for name, pattern in SECRETS.items() if re.search(pattern, data)]


def test_it_would_find_one():
    assert secrets_in(b"token = hf_" + b"a1B2" * 9) == ["a Hub token"]
    assert secrets_in(b"-----BEGIN RSA " + b"PRIVATE KEY-----") == ["a private key"]


@pytest.fixture(scope="module")
def tracked() -> list[str]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [name for name in listed.stdout.decode().split("\0") if name]


def test_no_file_holds_a_secret(tracked):
    for name in tracked:
        path = ROOT / name
        found = secrets_in(path.read_bytes()) if path.is_file() and path.suffix != ".safetensors" else []
        assert not found, f"{name} holds {', '.join(found)}"


def test_nothing_that_a_run_wrote_is_committed(tracked):
    """The folder of an experiment was, when s3://bucket/x had been taken for a path."""
    ours = [name for name in tracked if not name.startswith("tests/written_by_0_2/")]
    assert not [n for n in ours if ":" in n or n.rpartition("/")[2] in ("events.jsonl", "run.json", ".lock")]
