"""Several experiments of one file, as the paper's: the whole chain on tiny pairs in Qwen's layout, and its dry run."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from huggingface_hub import constants
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from lightreasoner.cli.main import main
from lightreasoner.errors import UserError
from lightreasoner.evaluation.paper_results import read_paper
from lightreasoner.experiments import requirements as requirements_module
from lightreasoner.experiments import series
from lightreasoner.experiments.plan import CONTROL, read_plans
from lightreasoner.experiments.requirements import (
    SPEEDS,
    gpu_seconds,
    gpu_time,
    model_requirement,
    refuse_troubles,
    requirements,
)
from lightreasoner.hub.download import cached_snapshot, download_snapshot
from lightreasoner.models.pairs import presets
from lightreasoner.paper import ALPHA, BETA
from lightreasoner.problems.sources import SOURCES
from lightreasoner.progress import StopRequested
from lightreasoner.training.config import FinetuneConfig
from tests.support.hub_server import Hub
from tests.support.tiny_models import CHAT_TEMPLATE, TEXTS, save_tiny

ROOT = Path(__file__).parents[2]
PAPER_TOML, DOCS = ROOT / "experiments" / "paper.toml", ROOT / "docs"
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>")
R1 = ("<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>")
R1_TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'system' %}{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}"
    "{{ '<｜User｜>' + m['content'] }}{% else %}{{ '<｜Assistant｜>' + m['content'] + '<｜end▁of▁sentence｜>' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<｜Assistant｜><think>\n' }}{% endif %}"
)


def qwen_tokenizer(specials: tuple[str, ...], template: str) -> PreTrainedTokenizerFast:
    """Qwen2.5's layout in small: NFC, its splitting with single digits, and control tokens after the vocabulary, of
    which the base models end with <|endoftext|> although the chat template ends a turn with <|im_end|>. R1's has other
    control tokens under the same ids, and alone a token that begins every text."""
    bpe = Tokenizer(models.BPE())
    bpe.normalizer, bpe.decoder = normalizers.NFC(), decoders.ByteLevel()
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    bpe.train_from_iterator(TEXTS, trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    bpe.add_special_tokens(list(specials))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=specials[0], pad_token=specials[0])
    tokenizer.chat_template = template
    if "bos_token" in template:
        tokenizer.bos_token = specials[3]
    return tokenizer


def save_qwen(folder: Path, seed: int, rows: int, specials: tuple[str, ...] = QWEN, template: str = CHAT_TEMPLATE):
    """rows: of the embedding, more than the tokenizer has and other ones in every size of the family."""
    tokenizer = qwen_tokenizer(specials, template)
    save_tiny(folder, seed, tokenizer, vocab_rows=len(tokenizer) + rows)
    for name in ("config.json", "generation_config.json"):
        read = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(read | {"eos_token_id": tokenizer.eos_token_id}))


def test_one_command_runs_every_experiment_and_writes_the_table_beside_the_paper_s(tmp_path, capsys, monkeypatch):
    """Repeating the paper took a plan for each of its experts and each of its benchmarks, and a table by hand."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    save_qwen(tmp_path / "Qwen" / "Qwen2.5-Math-1.5B", 1, 14)
    save_qwen(tmp_path / "deepseek-ai" / "DeepSeek-R1-Distill-Qwen-1.5B", 3, 14, R1, R1_TEMPLATE)
    save_qwen(tmp_path / "amateur", 2, 2)
    for name in ("train", "gsm8k", "svamp"):
        rows = [{"question": f"{name}: Tom has {n} apples. Café?", "answer": "7"} for n in range(3)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = PAPER_TOML.read_text()
    head = f"""amateur = '{tmp_path}/amateur'
problems = '{tmp_path}/train.jsonl'
max_new_tokens = 6
test = ['{tmp_path}/gsm8k.jsonl', '{tmp_path}/svamp.jsonl']
test_max_new_tokens = 6
preview = 0
arms = {{ max_steps = 1, beta = 0.0, held_out = 0.0 }}
"""
    tables = text[text.index("[[arm]]") : text.index("[[experiment]]")]
    for name, expert in (("a", "Qwen/Qwen2.5-Math-1.5B"), ("b", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B")):
        tables += f"[[experiment]]\nname = '{name}'\nexpert = '{tmp_path}/{expert}'\n"
    (tmp_path / "plan.toml").write_text(head + tables)
    assert main(["experiment", str(tmp_path / "plan.toml"), "--run-dir", str(tmp_path / "runs" / "p")]) == 0
    table = (tmp_path / "runs" / "p" / "table.md").read_text()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("| ")]
    assert rows[0] == ["expert", "numbers", "method", "gsm8k.jsonl", "svamp.jsonl", "average"]
    for expert in ("Qwen/Qwen2.5-Math-1.5B", "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B"):
        own = [row for row in rows if row[0] == expert and row[1] in (series.HERE, series.PAPER)]
        assert [tuple(row[1:3]) for row in own] == [
            *(("measured here", name) for name in ("base", "LightReasoner", CONTROL)),
            *(("the paper", name) for name in ("base", "sft", "lightreasoner")),
        ]
        assert all(len(row) == 6 and "–" not in row for row in own)
    assert ["Qwen/Qwen2.5-Math-1.5B", "the paper", "lightreasoner", "70.6", "76.0", "73.3"] in rows
    compared = [row for row in rows if len(row) == 6 and row[1] in ("LightReasoner", CONTROL)]
    assert len(compared) == 4 and all(" to " in row[3] for row in compared)
    assert "| Qwen/Qwen2.5-Math-1.5B | the paper | lightreasoner | 70.6" in capsys.readouterr().out
    next((tmp_path / "runs" / "p-a-1-lightreasone-test" / "answers").glob("00-*")).write_bytes(b"damaged")
    assert main(["experiment", str(tmp_path / "plan.toml"), "--run-dir", str(tmp_path / "runs" / "p")]) == 2
    assert "1 of 2 experiments are not complete. a: " in capsys.readouterr().err
    assert set(pd.read_csv(tmp_path / "runs" / "p" / "table.csv")["expert"]) == {expert}, "the other one's table"


def test_the_paper_s_file_has_the_paper_s_settings():
    plans = read_plans(PAPER_TOML)
    assert {plan.expert for plan in plans.values()} == set(read_paper().scores)
    assert {plan.expert for plan in plans.values()} <= {preset.expert for preset in presets()}
    for plan in plans.values():
        method, control = plan.arms
        assert (plan.amateur, plan.problems, plan.limit, plan.max_new_tokens) == (
            "Qwen/Qwen2.5-0.5B",
            "gsm8k",
            1000,
            128,
        )
        assert plan.tests == read_paper().benchmarks and control.is_control
        assert method.config == FinetuneConfig() and (method.selection.alpha, method.selection.beta) == (ALPHA, BETA)
    for source in SOURCES.values():
        assert len(source.sizes) == len(source.splits)
        assert all(f"{size:,}" in source.description for size in source.sizes)


@pytest.mark.parametrize(
    "text, says",
    [
        ("[[experiment]]\nexpert = 'a/b'", "calls an experiment None"),
        ("[[experiment]]\nname = 'x'\n[[experiment]]\nname = 'x'", "calls an experiment 'x'"),
        ("[[experiment]]\nname = '../x'", "small letters"),
        ("experiment = 3", r"begin each with \[\[experiment\]\]"),
        ("[[experiment]]\nname = 'x'\nlearning_rate = 3", "'learning_rate', which is unknown"),
    ],
)
def test_what_is_no_file_of_experiments_is_refused(tmp_path, text, says):
    (tmp_path / "p.toml").write_text("problems = 'bundled-train'\ntest = 'bundled-test'\n" + text)
    with pytest.raises(UserError, match=says):
        read_plans(tmp_path / "p.toml")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub-cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with Hub() as hub:
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        )
        yield hub


def test_a_dry_run_says_what_is_gated_missing_or_open_before_anything_runs(hub, tmp_path, monkeypatch):
    """Access was noticed when its turn came, hours after the first stage had begun."""
    save_tiny(tmp_path / "model", 1)
    hub.add("Qwen/Qwen2.5-0.5B", tmp_path / "model")
    hub.add("Qwen/Qwen2.5-Math-7B", gated=True)
    found = {one.name: one for one in requirements(read_plans(PAPER_TOML).values())}
    assert len(found) == 6 + 7
    opened = found["Qwen/Qwen2.5-0.5B"]
    files = [p for p in (tmp_path / "model").iterdir() if p.suffix in (".json", ".safetensors", ".jinja")]
    assert (opened.size, opened.source, opened.trouble) == (sum(p.stat().st_size for p in files), "the Hub", "")
    gated, missing = found["Qwen/Qwen2.5-Math-7B"], found["gsm8k"]
    assert "is gated" in gated.trouble and gated.size == 2 * 7_615_616_512 and "15 GB" in gated.line
    assert "knows no dataset openai/gsm8k" in missing.trouble
    with pytest.raises(UserError, match="is gated") as error:
        refuse_troubles(found.values())
    assert len(str(error.value).splitlines()) == 12
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.seen.clear()
    assert all("HF_HUB_OFFLINE is set" in one.trouble for one in requirements(read_plans(PAPER_TOML).values()))
    assert not hub.seen


def test_a_wrong_token_is_named(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_nobody")
    for one in requirements(read_plans(PAPER_TOML).values()):
        assert "does not know this access token (401)" in one.trouble


def test_a_renamed_model_is_found_under_its_former_name(hub, tmp_path):
    """The Hub answers for the former name with a redirect to the present one."""
    hub.add("Qwen/Qwen2.5-Half", save_tiny(tmp_path / "model", 1))
    for path in ("/api/models/{}", "/api/models/{}/revision/main", "/{}/resolve/main/model.safetensors"):
        to = path.format("Qwen/Qwen2.5-Half")
        hub.fail(f"(GET|HEAD) {path.format('Qwen/Qwen2.5-0.5B')}$", 307, Location=to)
    found = model_requirement("Qwen/Qwen2.5-0.5B")
    assert found.trouble == "" and found.size > 10_000 and found.source == "the Hub"


def test_what_the_disk_cannot_take_is_refused_before_anything_is_downloaded(hub, tmp_path, monkeypatch, capsys):
    """A plan of 41 GB began, and ended hours later at the expert that did not fit."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    hub.add("org/expert", save_tiny(tmp_path / "expert", 1))
    hub.add("org/amateur", save_tiny(tmp_path / "amateur", 2))
    plan = "amateur = 'org/amateur'\nproblems = 'bundled-train'\ntest = 'bundled-test'\n"
    (tmp_path / "plan.toml").write_text(plan + "[[experiment]]\nname = 'a'\nexpert = 'org/expert'\n")
    command = ["experiment", str(tmp_path / "plan.toml"), "--run-dir", str(tmp_path / "runs" / "p")]
    full, disk_usage = {"free": 200_000}, requirements_module.shutil.disk_usage
    monkeypatch.setattr(
        requirements_module.shutil, "disk_usage", lambda place: disk_usage(place)._replace(free=full["free"])
    )
    for words in (["--dry-run"], []):
        assert main(command + words) == 2
        assert "kB free; make room, or set HF_HOME" in capsys.readouterr().err
    assert not (tmp_path / "runs" / "p-a-data").exists() and not hub.asked("GET .*safetensors")
    download_snapshot("org/amateur", None)
    weights = (cached_snapshot("org/amateur", None) / "model.safetensors").resolve()
    whole, saved = model_requirement("org/expert").size, weights.stat().st_size
    (weights.parents[1] / "refs" / "main").unlink()  # as a download that was cut off after the weights
    assert model_requirement("org/amateur").size <= whole - saved
    full["free"] = 10**9
    assert main([*command, "--dry-run"]) == 0


def test_one_expert_that_fails_leaves_the_others_to_go_on(tmp_path, monkeypatch, capsys):
    """Anything but a UserError in one expert's dataset, such as a GPU's error, ended the whole series."""
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setattr(series, "write_table", lambda plans, folder: None)
    seen = []

    def run(plan, folder, settings, console):
        seen.append(folder.name)
        if folder.name == "p-a":
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(series, "run_experiment", run)
    text = "pair = 'bundled'\nproblems = 'bundled-train'\ntest = 'bundled-test'\n"
    (tmp_path / "plan.toml").write_text(text + "".join(f"[[experiment]]\nname = '{name}'\n" for name in "abc"))
    assert main(["experiment", str(tmp_path / "plan.toml"), "--run-dir", str(tmp_path / "runs" / "p")]) == 2
    assert seen == ["p-a", "p-b", "p-c"]
    said = capsys.readouterr()
    assert "1 of 3 experiments are not complete. a: An unexpected error occurred." in said.err
    monkeypatch.setattr(series, "run_experiment", lambda *_: (_ for _ in ()).throw(StopRequested(keep=False)))
    assert main(["experiment", str(tmp_path / "plan.toml"), "--run-dir", str(tmp_path / "runs" / "q")]) == 130


def test_the_gpu_s_time_is_that_of_the_measured_figures():
    """docs/gpu.md was measured anew, and the plan's hours went on telling of a GPU without CUDA graphs."""
    plans = read_plans(PAPER_TOML)
    batches = sum(-(-n // 64) for n in (1319, 5000, 300, 2305, 272, 674, 3153))
    expected = 17 * 2.3 + 2000 * 0.243 + 1000 / 18.4 + 3 * batches * 2048 * 0.0063
    assert gpu_seconds(plans["math-1-5b"], SPEEDS[0], 0.0063) == pytest.approx(expected)
    both = gpu_time(plans.values())
    assert "1.5B's shape on an H100 and Qwen2.5-Math-7B's shape on an H200" in both and "hours" in both
    measured = (DOCS / "gpu.md").read_text()
    figures = ("read in 2.3 s", "18.4 problems/s", "243 ms each", "| 32 | 60.1 | 4.1 |", "| 256 | 60.1 | 6.3 |")
    figures += ("read in 4.8 s", "took 17.7 s", "239 ms an update", "107.7 tokens/s")
    assert all(figure in measured for figure in figures)
