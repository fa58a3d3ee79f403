"""The command line: what it prints and writes, and its answers to mistakes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from lightreasoner.cli.main import main
from lightreasoner.settings import ROOT
from tests.support.tiny_models import save_tiny, shouting_tokenizer, tiny_tokenizer


@pytest.fixture(scope="module")
def refs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return [str(save_tiny(folder / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]


@pytest.fixture
def lightreasoner(capsys, monkeypatch, tmp_path):
    """Runs the command line in this process, which spares it seconds of imports a time."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path))  # its own accelerator: nobody else is waited for

    def run(*arguments, stdin="", **env):
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        try:
            code = main([str(a) for a in arguments])
        except SystemExit as exit:
            code = exit.code
        out, err = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=out, stderr=err)

    return run


def test_in_a_process_of_its_own():
    def run(*arguments):
        command = [sys.executable, "-m", "lightreasoner", *arguments]
        return subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=120)

    done = run("--help")
    assert done.returncode == 0 and "trace" in done.stdout and "pairs" in done.stdout
    done = run("trace", "--problem", " ")
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and done.stdout == ""


def test_pairs_lists_every_preset(lightreasoner):
    done = lightreasoner("pairs", "--json")
    assert done.returncode == 0
    names = [pair["name"] for pair in json.loads(done.stdout)]
    plain = lightreasoner("pairs").stdout
    assert names[0] == "bundled" and len(names) == 7 and all(name in plain for name in names)


def test_trace_prints_and_writes_the_same_steps(lightreasoner, refs, tmp_path):
    out = tmp_path / "trace.json"
    done = lightreasoner(
        *("trace", "--expert", refs[0], "--amateur", refs[1], "--problem", "2 + 2?", "--max-new-tokens", 12),
        *("--alpha", 0.05, "--beta", 0.3, "--json", out),
        FORCE_COLOR="1",
    )
    assert done.returncode == 0, done.stderr
    record = json.loads(out.read_text())
    steps = record["steps"]
    above = sum(step["kl"] > 0.3 for step in steps)
    assert f"{above} of {len(steps)} steps above β = 0.3" in done.stdout
    assert [s["selected"] for s in steps] == [s["kl"] > 0.3 for s in steps]
    assert "\x1b[48;5;" in done.stdout  # in colour
    assert record["pair"]["expert"] == refs[0] and record["finish_reason"] in ("stop", "length")
    for step in steps:
        support = step["support"]
        assert len({len(column) for column in support.values()}) == 1
        assert sum(support["weights"]) == pytest.approx(1, abs=1e-5)


def test_json_on_standard_output_is_nothing_but_json(lightreasoner, refs):
    done = lightreasoner(
        *("trace", "--expert", refs[0], "--amateur", refs[1], "--problem-file", "-", "--response", "It is 4."),
        *("--json", "-"),
        stdin="2 + 2?\n",
    )
    record = json.loads(done.stdout)
    assert record["finish_reason"] == "given"
    assert "".join(s["text"] for s in record["steps"]) == "It is 4."


def test_a_models_control_characters_do_not_reach_the_terminal(lightreasoner, refs):
    done = lightreasoner(
        *("trace", "--expert", refs[0], "--amateur", refs[1], "--problem", "2?"),
        *("--response", "a\x1b[2Jb\x07c\u202ed"),
        FORCE_COLOR="1",
    )
    assert done.returncode == 0
    assert "\x1b[2J" not in done.stdout and "\x07" not in done.stdout and "\u202e" not in done.stdout


def test_a_problem_from_a_file(lightreasoner, refs, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "How much is 5 + 5?", "answer": "10"}\n{"question": "And 6 + 6?"}\n')
    done = lightreasoner(
        *("trace", "--expert", refs[0], "--amateur", refs[1], "--problem-file", rows, "--response", "10", "--json", "-")
    )
    assert json.loads(done.stdout)["request"]["question"] == "How much is 5 + 5?"


MISTAKES = {
    "no problem": ([], "--problem"),
    "blank problem": (["--problem", "  "], "empty"),
    "missing file": (["--problem-file", "/nowhere/at/all.txt"], "/nowhere/at/all.txt"),
    "a folder": (["--problem-file", "/"], "cannot be read"),
    "a file without end": (["--problem-file", "/dev/zero"], "1 MB or more"),  # it was read until memory ran out
    "an unset variable": (["--problem", "2?", "--expert", ""], "empty text"),  # the bundled pair answered
    "tokens": (["--problem", "2?", "--max-new-tokens", "0"], "token limit"),
    "not a number": (["--problem", "2?", "--max-new-tokens", "many"], "many"),
    "alpha": (["--problem", "2?", "--alpha", "nan"], "--alpha"),
    "alpha 0": (["--problem", "2?", "--alpha", "0"], "--alpha"),
    "beta": (["--problem", "2?", "--beta", "-1"], "--beta"),
    "unknown pair": (["--problem", "2?", "--pair", "nobody"], "nobody"),
    "half a pair": (["--problem", "2?", "--expert", "gpt2/x"], "--amateur"),
    "both ways": (["--problem", "2?", "--pair", "bundled", "--expert", "x/y"], "--pair"),
    "hub id offline": (["--problem", "2?", "--expert", "no-such/model", "--amateur", "no-such/model"], "no-such/model"),
    "a url": (["--problem", "2?", "--expert", "http://x.y/z", "--amateur", "http://x.y/z"], "http://x.y/z"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_status_2_and_one_line(lightreasoner, name):
    arguments, says = MISTAKES[name]
    done = lightreasoner("trace", *arguments)
    assert done.returncode == 2
    assert says in done.stderr and len(done.stderr.strip().splitlines()) == 1 and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["evaluate", "--amateur", "x/a", "--amateur", "x/b"], "--amateur: given twice, as x/a and as x/b"),
        (["preview", "--expert", "x/e", "--problems", "p", "--problems", "q"], "--problems: given twice"),
        (["preview", "--alpha", "0.1", "--alpha", "0.2"], "--alpha: given twice, as 0.1 and as 0.2"),
        (["evaluate", "--split", "a", "--split", "a", "--model", "x/a", "--model", "x/b"], "--model: given twice"),
        (["finetune", "--dataset", "a", "--dataset", "b"], "--dataset: given twice"),
        (["preview", "--amateur", "x/a", "--amateur", "x/b"], "the following arguments are required"),
    ],
)
def test_of_an_option_given_twice_the_last_is_not_taken_silently(lightreasoner, words, says):
    """`evaluate --amateur A --amateur B` previewed B alone, without a word; so did other options of one."""
    done = lightreasoner(*words)
    assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_tokenizer_that_changes_the_text_is_refused_and_another_is_read_across(lightreasoner, refs, tmp_path):
    loud = save_tiny(tmp_path / "loud", seed=3, tokenizer=shouting_tokenizer())
    done = lightreasoner("trace", "--expert", refs[0], "--amateur", loud, "--problem", "2?")
    assert done.returncode == 2 and "do not spell the text" in done.stderr and "Traceback" not in done.stderr
    other = save_tiny(tmp_path / "other", seed=3, tokenizer=tiny_tokenizer(["zebra zebra quagga quagga okapi okapi"]))
    done = lightreasoner("trace", "--expert", refs[0], "--amateur", other, "--problem", "2?", "--max-new-tokens", "8")
    assert done.returncode == 0 and "tokenizers differ" in done.stdout + done.stderr, done.stdout


def test_settings_that_are_no_numbers_are_named(lightreasoner):
    done = lightreasoner("pairs", LIGHTREASONER_MAX_NEW_TOKENS="lots")
    assert done.returncode == 2 and "LIGHTREASONER_MAX_NEW_TOKENS" in done.stderr
