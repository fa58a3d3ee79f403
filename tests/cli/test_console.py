"""Terminals and pipes that cannot show every character: no verb stops, and nothing is silently altered."""

from __future__ import annotations

import io
import json
import subprocess
import sys

import pytest

from lightreasoner.cli.main import COMMANDS, main
from lightreasoner.settings import ROOT
from tests.support.tiny_models import save_tiny

ENCODINGS = ("ascii", "iso-8859-1", "cp1252", "cp437", "iso-8859-7", "utf-8")
GREEK = ("iso-8859-7", "utf-8")


@pytest.fixture(scope="module")
def refs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]


@pytest.fixture
def verb(monkeypatch, tmp_path):
    """Runs a verb with an output of an encoding; returns (exit code, the text written)."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    monkeypatch.setenv("NO_COLOR", "1")

    def run(encoding: str, *arguments, stdin: bytes = b""):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        with monkeypatch.context() as patch:
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin), encoding=encoding))
            try:
                code = main([str(argument) for argument in arguments])
            except SystemExit as exit:
                code = exit.code or 0
            out.flush()
        return code, out.buffer.getvalue().decode(encoding)

    return run


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_help_text_can_be_printed(verb, encoding):
    """`finetune --help` ended in a traceback where the terminal lacked β."""
    verbs = [name for command in COMMANDS for name in names_of(command)]
    assert len(verbs) > 12
    for name in verbs:
        code, text = verb(encoding, name, "--help")
        assert code == 0 and "usage" in text, name
    code, text = verb(encoding, "export", "--help")
    assert ("β" in text) is (encoding in GREEK)


def names_of(command) -> list[str]:
    found = []

    class Verbs:
        def add_parser(self, name, **_):
            found.append(name)
            return Parser()

    class Parser:
        def __getattr__(self, _):
            return lambda *a, **k: Parser()

    command.add(Verbs())
    return [name for name in found if name != "preflight"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_a_run_from_sampling_to_merging_prints_in_any_encoding(verb, encoding, refs, tmp_path):
    expert, amateur = refs
    problems = tmp_path / "p.jsonl"
    problems.write_text("".join(json.dumps({"question": f"{n} + 答 = β?", "answer": str(n)}) + "\n" for n in range(3)))
    pair = ("--expert", expert, "--amateur", amateur)
    fast = ("--problems", problems, "--max-new-tokens", "6")
    lines = {
        "trace": ("trace", *pair, "--problem", "β + 答?", "--max-new-tokens", "6"),
        "check": ("check-pair", *pair, *fast, "--limit", "2", "--run-dir", tmp_path / "check"),
        "sample": ("sample", *pair, *fast, "--beta-floor", "0", "--run-dir", tmp_path / "data"),
        "export": ("export", "--run-dir", tmp_path / "data", "--format", "paper", "--out", tmp_path / "out.jsonl"),
        "evaluate": ("evaluate", "--model", expert, *fast, "--run-dir", tmp_path / "eval"),
        "jobs": ("jobs", "list"),
        "pairs": ("pairs",),
    }
    texts = {}
    for name, line in lines.items():
        code, texts[name] = verb(encoding, *line)
        assert code == 0, name
    assert f"above {'β' if encoding in GREEK else 'beta'} =" in texts["trace"]


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_json_on_standard_output_reads_back_exactly(verb, encoding, refs):
    """A stand-in for a character would change the data."""
    line = ("trace", "--expert", refs[0], "--amateur", refs[1], "--max-new-tokens", "3", "--json", "-")
    code, text = verb(encoding, *line, "--problem", "β + 答 = “x”?")
    assert code == 0 and json.loads(text)["request"]["question"] == "β + 答 = “x”?"


@pytest.mark.parametrize(("encoding", "typed"), [("utf-8", "utf-8"), ("iso-8859-1", "iso-8859-1"), ("ascii", "utf-8")])
def test_a_problem_from_a_pipe_is_read_as_it_was_written(verb, encoding, typed, refs):
    """`trace --problem-file -` read UTF-8 in the terminal's encoding, so that é became two letters."""
    line = ("trace", "--expert", refs[0], "--amateur", refs[1], "--max-new-tokens", "3", "--json", "-")
    code, text = verb(encoding, *line, "--problem-file", "-", stdin="Combien coûte le café ?".encode(typed))
    assert code == 0 and json.loads(text)["request"]["question"] == "Combien coûte le café ?"


def test_in_processes_of_their_own():
    for module in (["-m", "lightreasoner", "finetune"], ["app.py"]):
        env = {"PYTHONIOENCODING": "ascii:strict", "PATH": ""}
        done = subprocess.run([sys.executable, *module, "--help"], cwd=ROOT, env=env, capture_output=True, timeout=120)
        assert done.returncode == 0 and b"usage" in done.stdout, done.stderr
