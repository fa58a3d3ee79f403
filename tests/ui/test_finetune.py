"""The calls and handlers of the Fine-tune tab as plain functions, with valid and with forged arguments."""

from __future__ import annotations

import json
import math
import threading
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from lightreasoner.cli.dataset import selection_of
from lightreasoner.cli.finetune import config_of
from lightreasoner.cli.main import build_parser
from lightreasoner.datasets.selectors import Selection
from lightreasoner.errors import UserError
from lightreasoner.jobs.accelerator import WaitCancelled
from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.settings import Settings
from lightreasoner.storage.atomic import new_id
from lightreasoner.storage.runs import run_folder
from tests.support.families import causal_configs, tiny_config, tiny_family
from tests.support.tiny_dataset import make_dataset, selection_report
from tests.support.tiny_models import save_tiny, tiny_tokenizer
from tests.support.tiny_tuning import make_run
from ui.components.dataset_catalogue import Datasets
from ui.components.downloads import downloads_folder
from ui.finetune.calls import MOST_COMPARED, FinetuneActions
from ui.finetune.catalogue import Tunings
from ui.finetune.estimate import measured
from ui.finetune.form import FinetuneForm, carried, dataset_choices, layer_field, layers_of, moved, rank_info
from ui.finetune.request import CONFIG, amount, defaults, read_form, source_of_defaults, targets_of
from ui.finetune.tab import linked_selection, renewed, start_run
from ui.studio import Studio


class Bench:
    """A workspace without a running scheduler, and a dataset of random logits with a tiny expert in it."""

    def __init__(self, workspace: Path):
        self.studio = Studio(Settings(workspace=workspace, device="cpu", dtype="float32"))
        self.settings, self.jobs = self.studio.settings, self.studio.jobs
        self.datasets, self.tunings = Datasets(self.settings, self.jobs), Tunings(self.settings, self.jobs)
        self.calls = {call.__name__: call for call in FinetuneActions(self.tunings, self.datasets).calls}
        self.dataset = new_id()
        make_dataset(run_folder(self.settings, self.dataset), tokens=True)

    def form(self, **changed) -> dict:
        """The form's values once the dataset is selected."""
        fields = {"dataset": self.dataset, "method": "lightreasoner", "alpha": 0.2, "beta": 0.4, "selector": "kl"}
        fields |= {"expert": ""} | defaults(self.datasets.find(self.dataset)) | {"tau": None, "box": "", "cap": 0}
        assert changed.keys() <= fields.keys()
        return fields | changed

    def read(self, **changed):
        return read_form(self.datasets, self.form(**changed))

    def run(self, **config) -> str:
        run_id = new_id()
        make_run(run_folder(self.settings, run_id), run_folder(self.settings, self.dataset), **config)
        return run_id

    def ask(self, name: str, *arguments):
        return self.calls[name](list(arguments))


@pytest.fixture
def bench(tmp_path) -> Bench:
    return Bench(tmp_path)


# ---- the form


def test_a_preset_fills_the_form(bench):
    """The settings of a run could not be taken over into the form."""
    form = FinetuneForm.__new__(FinetuneForm)  # its handlers alone
    form.datasets = bench.datasets
    run = bench.run(rank=4, learning_rate=1e-3)
    assert bench.ask("save_preset", run, "my preset") == {"saved": "my preset"}
    dropdown, names = form.list_presets([])
    assert names == ["my preset"] == [value for _, value in dropdown.choices]
    method, alpha, beta, selector, tau, box, cap, *values, notice = form.choose_preset("my preset")
    shown = dict(zip(CONFIG, values, strict=True))
    assert (method, alpha, beta, selector, tau, box, cap) == ("lightreasoner", 0.2, 0.4, "kl", None, "", 0)
    assert (shown["rank"], shown["learning_rate"], shown["max_steps"]) == (4, 1e-3, 40) and "my preset" in notice
    assert "There is no preset" in form.choose_preset("gone")[-1] and form.choose_preset(None)[-1] == ""
    assert "is no name for a preset" in bench.ask("save_preset", run, "../x")["error"]
    (bench.settings.workspace / "presets" / "share.toml").write_text('selector = "top-percent"\nbudget = 0.25\n')
    assert "a share of 0.25 of the steps" in form.choose_preset("share")[-1]


def test_settings_that_change_with_the_dataset_are_named():
    """An imported dataset changed the defaults without a word."""
    old = tuple(defaults(None)[name] for name in CONFIG)
    assert moved(old, list(old)) == ""
    new = [7 if name == "rank" else value for name, value in zip(CONFIG, old, strict=True)]
    assert moved(old, new) == f" Changed with the dataset: rank {old[CONFIG.index('rank')]} → 7."


def test_a_link_brings_its_selector_with_tau_or_without():
    """A selector that knows no τ would be refused with the one that was left in the form."""
    assert linked_selection({"selector": "teaching", "tau": "0.1"})[2:] == ("teaching", 0.1, "", 0)
    assert linked_selection({"selector": "js", "alpha": "0.1"})[2:] == ("js", None, "", 0)
    assert linked_selection({"selector": "all", "box": "0:1:0.4:inf"})[2:] == ("all", None, "0:1:0.4:inf", 0)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"method": "no-contrast", "alpha": 0.1, "beta": 1.5, "selector": "js"},
        {"method": "random-steps", "seed": 7, "beta": 0.25, "tau": 0.1},
        {"selector": "teaching", "tau": 0.1, "cap": 2},
        {"method": "all-steps", "box": "0:1:0.4:inf", "cap": 0.5},
        {"selector": "entropy-kl", "tau": 0.1},
        {"rank": 4, "lora_alpha": 8, "target_modules": ["q_proj", "down_proj"], "dropout": 0},
        {"learning_rate": 1.25e-7, "schedule": "cosine", "warmup": 10, "weight_decay": 0.01, "held_out": 0},
        {
            "max_steps": 7,
            "samples_per_update": 3,
            "max_samples_per_trajectory": 1,
            "evaluate_every": 2,
            "save_every": 3,
        },
    ],
)
def test_the_command_line_says_what_the_form_says(bench, changed):
    asked = bench.read(**changed)
    options = build_parser().parse_args([*asked.argv("DIR"), "--run-dir", "my-run"])
    assert replace(config_of(options), seed=asked.config.seed) == asked.config
    assert options.seed in (None, asked.config.seed)
    chosen = selection_of(options) or Selection()
    assert replace(chosen, seed=asked.config.seed) == asked.selection
    assert str(options.dataset) == "DIR"


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"dataset": None}, "No dataset is selected"),
        ({"dataset": "../../etc/passwd"}, "no valid run id"),
        ({"dataset": ["x"]}, "no valid run id"),
        ({"dataset": "A" * 22}, "There is no dataset"),
        ({"method": "magic"}, "method is 'magic'"),
        ({"method": ["sft"]}, "method is"),
        ({"rank": None}, "rank is None"),
        ({"rank": 2.5}, "rank is 2.5"),
        ({"rank": 17}, "Rank 17 is beyond v_proj"),
        ({"learning_rate": math.nan}, "learning_rate is nan"),
        ({"dropout": True}, "dropout is True"),
        ({"target_modules": []}, "no linear layers called nothing"),
        ({"target_modules": ["c_attn"]}, "no linear layers called c_attn; it has down_proj"),
        ({"target_modules": None}, "target_modules must be names"),
        ({"target_modules": [["q_proj"]]}, "target_modules must be names"),
        ({"alpha": 0}, "α is 0"),
        ({"beta": "much"}, "β is much"),
        ({"selector": "magic"}, "There is no selector"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_mistakes_in_the_form_are_one_sentence(bench, changed, sentence):
    with pytest.raises(UserError, match=sentence) as caught:
        bench.read(**changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"beta": 900}, "No steps are selected at β = 900"),
        ({"method": "all-steps"}, "details of every step, which is the default"),
        ({"method": "sft"}, "no known answers"),
    ],
)
def test_an_unsuitable_dataset_is_refused_before_a_job_is_made(bench, changed, sentence):
    with pytest.raises(UserError, match=sentence):
        start_run(bench.studio, bench.datasets, bench.form(**changed))
    assert bench.jobs.store.jobs() == []


def test_the_amount_of_training_data(bench):
    found = amount(bench.datasets, bench.read(beta=1.0, max_steps=10, samples_per_update=4))
    folder = run_folder(bench.settings, bench.dataset)
    assert found.samples == selection_report(folder, Selection(beta=1.0)).usable > 0
    assert f"{found.samples:,} samples. 10 training steps of about 4 samples see 40, " in found.sentence()
    passes = 40 / (found.samples * 0.95)
    said = f"about {passes:.1f} epochs" if passes >= 1 else f"about {passes:.0%} of one epoch"
    assert said in found.sentence()


def test_a_dataset_that_runs_on_past_the_end_of_a_turn_is_noticed_before_a_run(bench):
    """Former versions sampled Qwen2.5's base models past their <|im_end|>; the run leaves out what follows it."""
    assert "run on" not in amount(bench.datasets, bench.read()).sentence()
    old = new_id()
    rows = make_dataset(run_folder(bench.settings, old), tokens=True, response="7<|im_end|>\nuser 8", answer="7")
    after = sum(len(row["response_ids"]) - row["response_ids"].index(2) - 1 for row in rows)
    for method in ("lightreasoner", "sft"):
        said = amount(bench.datasets, bench.read(dataset=old, method=method, beta=0.1)).sentence()
        assert "6 responses run on past the end of their turn" in said and f"their {after} steps after it" in said


def test_an_imported_dataset_needs_a_model(bench, tmp_path):
    from lightreasoner.datasets.imported import import_samples

    sample = {"prompt_id": "How many?", "step": 0, "prefix": "", "tokens": ["a"], "token_ids": [70], "weights": [1.0]}
    (tmp_path / "samples.jsonl").write_text(json.dumps(sample | {"kl_divergence": 1.0}) + "\n")
    imported = new_id()
    import_samples(tmp_path / "samples.jsonl", run_folder(bench.settings, imported), 1_000_000)
    with pytest.raises(UserError, match="names no expert; enter the model"):
        bench.read(dataset=imported, expert="  ")
    model = str(save_tiny(tmp_path / "model", 5))
    asked = bench.read(dataset=imported, expert=model)
    assert asked.argv("D")[:5] == ["finetune", "--dataset", "D", "--expert", model]
    assert amount(bench.datasets, asked).samples == 1
    assert "--target-modules" not in asked.argv("D")
    with pytest.raises(UserError, match="contrastive targets only"):
        amount(bench.datasets, bench.read(dataset=imported, expert=model, method="no-contrast"))


def test_the_target_modules_are_those_of_the_architecture(tmp_path):
    """The form asked for q_proj and v_proj of every model; a fused projection could be chosen by nobody."""
    tiny_family(tiny_config(causal_configs()["gpt2"])).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    layers = layers_of(str(tmp_path))
    assert list(layers) == ["c_attn", "c_fc", "c_proj"] and targets_of(str(tmp_path)) == ("c_attn",)
    assert layer_field(layers, ["q_proj", "v_proj"], ("c_attn",))["value"] == ["c_attn"]
    assert layer_field(layers, ["c_fc", "v_proj"], ("c_attn",))["value"] == ["c_fc"]
    assert layer_field(layers, [], ("c_attn",))["value"] == []  # the user chose none
    for unknown in (None, "", " ", "no/such", str(tmp_path / "missing")):
        assert targets_of(unknown) == ("q_proj", "v_proj")


def test_a_run_is_a_job_with_the_command_that_was_shown(bench):
    run_id = start_run(bench.studio, bench.datasets, bench.form(max_steps=5))
    (job,) = bench.jobs.store.jobs()
    assert (job.verb, job.run_dir.name) == ("finetune", run_id)
    folder = str(run_folder(bench.settings, bench.dataset).absolute())
    assert job.argv == ("finetune", "--dataset", folder, "--max-steps", "5", "--run-dir", str(job.run_dir))
    assert job.title.startswith("LightReasoner · ")
    opened = bench.ask("overview", run_id, [], {})["open"]
    assert (opened["state"], opened["name"], opened["adapter"]) == ("waiting", job.title, None)
    assert opened["job"]["actions"] == ["cancel"]


def test_settings_follow_the_dataset_unless_the_user_changed_them():
    paper = defaults(None)
    pair = paper | {"learning_rate": 0.001, "max_steps": 300}
    now = [paper | {"max_steps": 77}][0]
    moved = dict(zip(CONFIG, carried(paper, pair, tuple(now[name] for name in CONFIG)), strict=True))
    assert moved["learning_rate"] == 0.001, "the user did not change it"
    assert moved["max_steps"] == 77, "the user changed it"


def test_a_pair_brings_its_own_settings(bench):
    record = run_folder(bench.settings, bench.dataset) / "run.json"
    known = json.loads(record.read_text())
    record.write_text(json.dumps(known | {"about": {"pair": {"name": "bundled"}}}))
    dataset = bench.datasets.find(bench.dataset)
    assert defaults(dataset)["learning_rate"] > defaults(None)["learning_rate"] == 5e-5
    assert "learning rate" in source_of_defaults(dataset)
    assert source_of_defaults(None) == "The defaults are those of the paper."


def test_layers_are_those_of_the_model():
    there = {"down_proj": 32, "q_proj": 32, "v_proj": 16}
    field = layer_field(there, ["q_proj", "c_attn"])
    assert field["choices"] == list(there) and field["value"] == ["q_proj"]
    assert rank_info(there, ["q_proj", "v_proj"]) == "at most 16 with these modules"
    assert "not on this disk" in layer_field(None, ["q_proj"])["info"]


def test_the_list_of_datasets_follows_the_workspace(bench):
    assert [id for _, id in dataset_choices(bench.datasets)] == [bench.dataset]
    side, chosen, _ = renewed(bench.datasets, None, None)
    assert side.visible and chosen.value == bench.dataset
    other = new_id()
    make_dataset(run_folder(bench.settings, other), problems=2)
    assert renewed(bench.datasets, bench.dataset, None)[1].value == bench.dataset, "what was chosen stays"
    assert renewed(bench.datasets, bench.dataset, other)[1].value == other
    seen = renewed(bench.datasets, bench.dataset, None, other)
    assert seen[1].value == other, "the newest was selected, not the one in view on the Datasets tab"
    assert renewed(bench.datasets, bench.dataset, None, "A" * 22)[1].value == bench.dataset
    for junk in ("A" * 22, ["x"], {"a": 1}, 5, "<img src=x>"):
        _, chosen, notice = renewed(bench.datasets, bench.dataset, junk)
        assert chosen.value == bench.dataset
        assert "lr-error" in notice and "<img" not in notice
    bench.datasets.remove(bench.dataset)
    bench.datasets.remove(other)
    side, chosen, _ = renewed(bench.datasets, bench.dataset, None)
    assert not side.visible and chosen.value is None


# ---- the runs


def test_a_run_is_shown_in_full(bench):
    run_id = bench.run(updates=40, learning_rate=0.001, rank=4)
    answer = bench.ask("overview", run_id, [], {})
    (listed,) = answer["runs"]
    assert listed["name"] == "LightReasoner · lightreasoner-expert-4m · Bundled, train"
    assert listed["state"] == "done"
    assert listed["facts"] == "40 training steps · held-out loss 0.8 nats · learning rate 0.001 · rank 4"
    opened = answer["open"]
    figures = opened["figures"]["changed"]
    assert figures["loss"]["data"][0]["x"] == list(range(1, 41))
    assert figures["held_out_loss"]["data"][0]["y"][-1] == 0.8
    assert opened["numbers"] == {
        "samples": 500,
        "trajectories": 50,
        "held_out": 3,
        "tokens": 4000,
        "samples_seen": 640.0,
        "epoch": 2.0,
        "before": 1.0,
        "after": 0.8,
        "lowest": (40, 0.8),
    }
    settings = dict(opened["settings"])
    assert (settings["Rank"], settings["Target modules"], settings["α"]) == ("4", "q_proj, v_proj", "0.2")
    assert "<h3>A card</h3>" in opened["card_html"]
    assert opened["adapter"] > 0 and opened["merge"] is None
    again = bench.ask("overview", run_id, [], {"open": opened["version"]})["open"]
    assert again["unchanged"] and "figures" not in again


def test_only_figures_that_changed_are_sent_again(bench):
    run_id = bench.run(updates=20)
    first = bench.ask("overview", run_id, [], {})["open"]
    assert list(first["figures"]["changed"]) == list(first["figures"]["marks"])
    log = EventLog(run_folder(bench.settings, run_id) / EVENTS_FILE)
    log.append("metrics", update=21, loss=0.5, samples_seen=336)
    log.close()
    seen = {"open": first["version"], "figures": first["figures"]["marks"]}
    now = bench.ask("overview", run_id, [], seen)["open"]["figures"]
    assert "loss" in now["changed"] and "held_out_loss" not in now["changed"]
    assert now["marks"]["held_out_loss"] == first["figures"]["marks"]["held_out_loss"]


def test_runs_are_compared_setting_by_setting(bench):
    ids = [bench.run(updates=n, rank=rank) for n, rank in ((10, 8), (20, 4), (20, 8))]
    answer = bench.ask("overview", None, [*ids, "A" * 22, "../x"], {})["compared"]
    assert [run["id"] for run in answer["runs"]] == ids
    assert answer["missing"] == ["A" * 22, "../x"]
    differing = {row["name"]: row["values"] for row in answer["table"] if row["differs"]}
    assert differing == {"Rank": ["8", "4", "8"], "Training steps": ["10", "20", "20"]}
    lines = answer["figures"]["changed"]["loss"]["data"]
    assert [line["name"] for line in lines] == ["A", "B", "C"]
    assert [line["x"][-1] for line in lines] == [10, 20, 20]
    again = bench.ask("overview", None, ids, {"compared": answer["version"]})["compared"]
    assert again["unchanged"]
    many = [bench.run(updates=1) for _ in range(MOST_COMPARED + 1)]
    assert len(bench.ask("overview", None, many, {})["compared"]["runs"]) == MOST_COMPARED


JUNK = (None, True, -1, 1.5, "", "x" * 10_000, "../../etc/passwd", ["a"], {"a": 1}, [[[]]])


@pytest.mark.parametrize("name", ["overview", "act", "discard", "merge", "prepare"])
def test_forged_arguments_get_a_sentence(bench, name):
    run_id = bench.run(updates=3)
    wanted = {"overview": 3, "act": 2, "discard": 1, "merge": 1, "prepare": 2}[name]
    for junk in JUNK:
        assert isinstance(bench.calls[name](junk), dict)
        answer = bench.calls[name]([junk] * wanted)
        assert isinstance(answer, dict) and "our side" not in json.dumps(answer)
        if name in ("act", "prepare"):
            answer = bench.calls[name]([run_id, junk])
            assert "There is no" in answer["error"]
        elif name == "overview":
            answer = bench.calls[name]([run_id, junk, junk])
            assert answer["open"]["id"] == run_id
    assert run_folder(bench.settings, run_id).is_dir()


def test_a_run_of_another_kind_is_not_shown(bench):
    assert "not a fine-tuning run" in bench.ask("overview", bench.dataset, [], {})["error"]
    assert "not a fine-tuning run" in bench.ask("discard", bench.dataset)["error"]


def test_the_adapter_can_be_downloaded(bench):
    run_id = bench.run(updates=3)
    answer = bench.ask("prepare", run_id, "adapter")
    (path,) = (downloads_folder(bench.settings) / answer["url"].rpartition("/")[2]).iterdir()
    assert answer["name"] == path.name == f"lightreasoner-{run_id[:8]}.zip"
    with zipfile.ZipFile(path) as zipped:
        names = zipped.namelist()
        assert zipped.testzip() is None
    assert sorted(name.partition("/")[2] for name in names) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert not any(".." in name or name.startswith("/") for name in names)
    failed = bench.run(updates=3, state="failed")
    assert "has no adapter yet" in bench.ask("prepare", failed, "adapter")["error"]
    assert "merge it first" in bench.ask("prepare", run_id, "merged")["error"]


def test_merging_is_a_job_and_its_model_is_found(bench):
    run_id = bench.run(updates=3)
    folder = run_folder(bench.settings, run_id).absolute()
    job = bench.jobs.store.get(bench.ask("merge", run_id)["job"])
    assert job.argv == ("merge", "--run-dir", str(folder), "--out", str(folder / "merged-3"))
    assert "already being merged" in bench.ask("merge", run_id)["error"]
    assert "cancel that job first" in bench.ask("discard", run_id)["error"]
    merge = bench.ask("overview", run_id, [], {})["open"]["merge"]
    assert merge["busy"] and merge["folder"] is None
    # killed while it wrote: nothing of that is taken for a model, and the next one starts clean
    (folder / "merged-3").mkdir()
    (folder / "merged-3/stop").write_text("cancel")
    (folder / ".merged-3.abcd").mkdir()
    bench.jobs.cancel(job.id)
    job = bench.jobs.store.get(bench.ask("merge", run_id)["job"])
    assert job.run_dir == folder / "merged-3" and not job.run_dir.exists()
    assert not (folder / ".merged-3.abcd").exists()
    job.run_dir.mkdir()
    (job.run_dir / "config.json").write_text("{}")
    bench.jobs.store.change(job.id, ("queued",), state="succeeded")
    merge = bench.ask("overview", run_id, [], {})["open"]["merge"]
    assert (merge["busy"], merge["folder"]) == (False, str(job.run_dir))
    assert bench.ask("prepare", run_id, "merged")["name"].endswith("merged-3.zip")
    # the run of the fine-tuning itself is still what it was
    assert bench.tunings.find(run_id).state == "done"


def test_deleting_takes_everything(bench):
    run_id = bench.run(updates=3)
    assert bench.ask("discard", run_id) == {}
    assert not run_folder(bench.settings, run_id).exists()
    assert "There is no fine-tuning run" in bench.ask("overview", run_id, [], {})["error"]


# ---- the estimate


def test_the_estimate_is_of_the_run_that_would_start(bench):
    said = []
    asked = bench.read(max_steps=50, samples_per_update=8)
    text = measured(bench.studio, asked, said.append, threading.Event())
    lines = text.splitlines()
    assert lines[0].startswith("About ") and "of memory" in lines[0]
    assert "50 updates see " in lines[1]
    assert lines[2].startswith("Measured just now on the CPU, with ")
    assert "Training a few updates" in said
    assert bench.studio.accelerator.holder() is None


def test_the_estimate_refuses_what_the_run_would_refuse(bench):
    record = run_folder(bench.settings, bench.dataset) / "run.json"
    known = json.loads(record.read_text())
    record.write_text(json.dumps(known | {"about": {"fingerprints": {"expert": "another"}}}))
    with pytest.raises(UserError, match="sampled from another expert"):
        measured(bench.studio, bench.read(), lambda text: None, threading.Event())
    assert bench.studio.accelerator.holder() is None


def test_an_abandoned_estimate_ends(bench):
    stop = threading.Event()
    with pytest.raises(WaitCancelled):
        measured(bench.studio, bench.read(), lambda text: text.startswith("Loading") and stop.set(), stop)
