"""The commands finetune and merge, from a dataset to a model that plain transformers loads."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from lightreasoner.cli.finetune import job_of
from lightreasoner.cli.main import build_parser, main
from lightreasoner.models.loading import load_model
from lightreasoner.settings import Settings
from lightreasoner.storage.remote import RunLocation
from lightreasoner.storage.runs import read_run
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.curves import Curves
from lightreasoner.training.examples import TurnCutter, load_examples, right_answers
from lightreasoner.training.finetune import has_stopped_falling
from lightreasoner.training.loss import PackedExample, Target
from tests.support.tiny_dataset import make_dataset
from tests.support.tiny_models import IDS, save_tiny

FAST = ["--max-steps", "6", "--save-every", "3", "--evaluate-every", "3", "--learning-rate", "0.05"]


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("LIGHTREASONER_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("LIGHTREASONER_DEVICE", "cpu")
    monkeypatch.setenv("LIGHTREASONER_DTYPE", "float32")
    make_dataset(tmp_path / "data", tokens=True, beta_floor=0)
    return tmp_path / "data"


def finetune(dataset: Path, run: Path, *options: str) -> int:
    return main(["finetune", "--dataset", str(dataset), "--run-dir", str(run), *FAST, *options])


def events(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["lightreasoner", "no-contrast", "all-steps", "random-steps"])
def test_from_a_dataset_to_an_adapter(dataset, tmp_path, method):
    run = tmp_path / "run"
    assert finetune(dataset, run, "--method", method) == 0
    record, end = read_run(run), events(run)[-1]
    assert record["kind"] == "finetune"
    assert record["config"]["method"] == method
    assert end["kind"] == "end"
    assert end["state"] == "succeeded"
    assert record["result"]["updates"] == end["result"]["updates"] == 6
    card = (run / "adapter/README.md").read_text()
    assert card.startswith("---\nbase_model: ")
    assert "| learning rate | 0.05 |" in card
    assert "| held-out loss |" in card


def test_methods_train_on_what_they_say(dataset, tmp_path):
    """Same trajectories; other steps, or other targets on the same steps."""
    learned = {}
    for method in ("lightreasoner", "no-contrast", "all-steps", "random-steps"):
        finetune(dataset, tmp_path / method, "--method", method)
        stored = load_examples(tmp_path / method)
        learned[method] = [
            (tuple(x.ids[:13]), t.step, tuple(t.token_ids), tuple(t.weights)) for x in stored for t in x.targets
        ]
    steps = {method: {(ids, step) for ids, step, _, _ in found} for method, found in learned.items()}
    assert len(learned["lightreasoner"]) == len(learned["random-steps"]), "equal budget"
    assert len(learned["no-contrast"]) == len(learned["lightreasoner"]) < len(learned["all-steps"])
    assert [t[1:3] for t in learned["no-contrast"]] == [t[1:3] for t in learned["lightreasoner"]]
    assert [t[3] for t in learned["no-contrast"]] != [t[3] for t in learned["lightreasoner"]]
    assert steps["random-steps"] != steps["lightreasoner"]
    for found in learned.values():
        assert all(sum(weights) == pytest.approx(1, abs=1e-5) for *_, weights in found)


def test_sft_learns_right_answers_whole(tmp_path, dataset):
    make_dataset(tmp_path / "answered", tokens=True, answer="7")  # one response in three says 7
    assert finetune(tmp_path / "answered", tmp_path / "run", "--method", "sft") == 0
    examples = load_examples(tmp_path / "run")
    assert len(examples) == 2
    # what the first process trains on is what the others read: with one token more it hung when sharded
    assert [example.ids for example in right_answers(tmp_path / "answered")[0]] == [example.ids for example in examples]
    for example in examples:
        response = [target.token_ids[0] for target in example.targets]
        assert [target.step for target in example.targets] == list(range(len(response)))
        assert example.ids[example.prompt_length :] == response[:-1]
        assert response[-1] == 2, "it learns to end its turn"


RUN_ON = "3 + 4 = 7\nThe answer is 7.<|im_end|>\nuser\nAnd 5 + 4?\nThe answer is 9."


@pytest.mark.parametrize("method", ["lightreasoner", "all-steps", "no-contrast", "sft"])
def test_what_follows_the_end_of_a_turn_is_not_trained_on(dataset, tmp_path, method, capsys):
    """Versions until 0.4 sampled Qwen2.5's base models past their <|im_end|>: half of such a dataset is noise."""
    rows = make_dataset(tmp_path / "old", tokens=True, beta_floor=0, response=RUN_ON, answer="7")
    ids = rows[0]["response_ids"]
    end = ids.index(2) + 1
    assert finetune(tmp_path / "old", tmp_path / "run", "--method", method, "--beta", "0.1", "--max-steps", "1") == 0
    examples = load_examples(tmp_path / "run")
    steps = [target.step for example in examples for target in example.targets]
    assert len(examples) == 6 and max(steps) == end - 1, "the end itself is learned"
    assert max(example.length() - example.prompt_length for example in examples) == end - 1
    (note,) = [event["text"] for event in events(tmp_path / "run") if event["kind"] == "note"]
    assert note.startswith("6 trajectories of this dataset run on past the end of the turn (<|im_end|>)")
    assert method not in ("all-steps", "sft") or f"{6 * (len(ids) - end)} steps" in note
    assert note in capsys.readouterr().err


def test_responses_that_end_with_their_turn_are_left_whole(dataset, tmp_path):
    assert finetune(dataset, tmp_path / "run", "--max-steps", "1") == 0
    assert not [event for event in events(tmp_path / "run") if event["kind"] == "note"]
    loaded = load_model(str(tmp_path / "expert"), Settings(device="cpu", dtype="float32"))
    cutter = TurnCutter(loaded)
    assert (cutter.end([5, 6]), cutter.end([5, 2]), cutter.end([2, 5]), cutter.end([])) == (None, 2, 1, None)
    only_after = PackedExample([9, 9, 2, 5, 6], 2, (Target(2, (5,), (1.0,)),))
    assert cutter.cut(only_after) is None and cutter.note


def test_again_is_a_resume_and_other_settings_are_refused(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    assert finetune(dataset, run) == 0
    result, log = read_run(run)["result"], len(events(run))
    assert result["held_out_loss"] is not None
    assert finetune(dataset, run) == 0
    assert read_run(run)["result"] == result, "running a finished run again once wiped what it had measured"
    assert not [event for event in events(run)[log:] if event["kind"] == "metrics"]
    assert finetune(dataset, run, "--rank", "4") == 2
    assert "rank was 8, now 4" in capsys.readouterr().err


def test_the_merged_model_is_the_adapted_one(dataset, tmp_path, capsys):
    finetune(dataset, tmp_path / "run")
    assert main(["merge", "--run-dir", str(tmp_path / "run"), "--out", str(tmp_path / "merged")]) == 0
    import peft

    base = AutoModelForCausalLM.from_pretrained(tmp_path / "expert")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    with torch.inference_mode():
        plain = base(input_ids=IDS).logits
        expected = peft.PeftModel.from_pretrained(base, tmp_path / "run/adapter").eval()(input_ids=IDS).logits
        torch.testing.assert_close(merged(input_ids=IDS).logits, expected, rtol=0, atol=1e-4)
        assert (expected - plain).abs().max() > 0.01
    assert main(["merge", "--run-dir", str(tmp_path / "run"), "--out", str(tmp_path / "merged")]) == 2
    assert "already exists" in capsys.readouterr().err


def test_a_dataset_from_another_expert_is_refused(dataset, tmp_path, capsys):
    record = json.loads((dataset / "run.json").read_text())
    record["about"]["fingerprints"] = {"expert": "another"}
    (dataset / "run.json").write_text(json.dumps(record))
    assert finetune(dataset, tmp_path / "run") == 2
    assert "sampled from another expert" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--beta", "900"], "Nothing is selected"),
        (["--rank", "64"], "Rank 64 is beyond v_proj"),
        (["--rank", "0"], "rank is 0"),
        (["--learning-rate", "nan"], "learning_rate is nan"),
        (["--target-modules", "c_attn"], "no linear layers called c_attn"),
        (["--selector", "magic"], "There is no selector"),
        (["--method", "sft"], "no known answers"),
        (["--expert", "./nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_sentence(dataset, tmp_path, capsys, options, sentence):
    assert finetune(dataset, tmp_path / "run", *options) == 2
    output = capsys.readouterr().err.strip().splitlines()[-1]
    assert sentence in output
    assert not (tmp_path / "run/adapter").exists()


def test_details_that_were_not_stored_are_asked_for(dataset, tmp_path, capsys):
    make_dataset(tmp_path / "floored", tokens=True)
    assert finetune(tmp_path / "floored", tmp_path / "run", "--method", "all-steps") == 2
    assert "details of every step, which is the default" in capsys.readouterr().err


def test_what_is_no_dataset(dataset, tmp_path, capsys):
    save_tiny(tmp_path / "model", 1)
    assert finetune(tmp_path / "model", tmp_path / "run") == 2
    assert "is not a run folder" in capsys.readouterr().err
    finetune(dataset, tmp_path / "run")
    assert finetune(tmp_path / "run", tmp_path / "other") == 2
    assert "is a finetune run, not a dataset" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("expert", "named"),
    [("org/name", "org/name"), ("org/name@v2", "org/name"), ("lightreasoner-expert-4m", "lightreasoner-expert-4m")],
)
def test_an_adapter_names_its_base_and_no_place_on_this_machine(tmp_path, expert, named):
    """It named the folder of the Hub's cache, which revealed a path of this disk to downloaders and loaded nowhere."""
    from lightreasoner.models.adapters import add_lora, save_adapter
    from tests.support.tiny_models import tiny_model

    model = tiny_model(seed=1)
    model.name_or_path = str(tmp_path / "hub/models--org--name/snapshots/abc")
    save_adapter(add_lora(model, 2, 4, 0, ("q_proj",), 0), tmp_path / "adapter", "card", expert)
    config = json.loads((tmp_path / "adapter/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == named
    assert config["revision"] == (expert.partition("@")[2] or None)
    assert str(tmp_path) not in json.dumps(config)


def test_it_prints_its_result(dataset, tmp_path, capsys):
    assert finetune(dataset, tmp_path / "run") == 0
    output = capsys.readouterr()
    assert "6 updates" in output.out and str(tmp_path / "run/adapter") in output.out
    assert "Training" in output.err
    assert finetune(dataset, tmp_path / "none", "--estimate") == 0
    output = capsys.readouterr().out
    assert "of memory" in output and "on disk" in output and not (tmp_path / "none").exists()


def test_mean_loss_and_seconds_are_of_the_whole_run_in_all_attempts(dataset, tmp_path):
    """They were once divided as if one process had made all updates, and published so in the adapter's card."""
    assert finetune(dataset, tmp_path / "whole", "--dropout", "0") == 0
    assert finetune(dataset, tmp_path / "run", "--dropout", "0") == 0
    losses = [e["loss"] for e in events(tmp_path / "whole") if e["kind"] == "metrics"]
    result = read_run(tmp_path / "whole")["result"]
    assert len(losses) == 6 and result["train_loss"] == pytest.approx(sum(losses) / 6)
    # as after a kill -9 behind the first checkpoint: no adapter, no result, and the log continues
    run = tmp_path / "run"
    record = json.loads((run / "run.json").read_text())
    record.pop("result")
    (run / "run.json").write_text(json.dumps(record))
    shutil.rmtree(run / "adapter")
    shutil.rmtree(run / "checkpoints/checkpoint-6")
    assert finetune(dataset, run, "--dropout", "0") == 0
    again = read_run(run)["result"]
    assert again["train_loss"] == pytest.approx(result["train_loss"], rel=1e-4)
    starts = [event for event in events(run) if event["kind"] == "start"]
    assert len(starts) == 2 and again["seconds"] > 0


def test_random_steps_take_a_budget(dataset, tmp_path):
    """The budget was checked against the selector that the method replaces."""
    assert finetune(dataset, tmp_path / "run", "--method", "random-steps", "--budget", "0.2") == 0
    assert read_run(tmp_path / "run")["config"]["budget"] == 0.2


def test_imported_tokens_that_the_model_lacks_are_refused(dataset, tmp_path, capsys):
    model = save_tiny(tmp_path / "model", seed=1)
    row = {"prompt_id": "2 + 2?", "step": 0, "prefix": "", "tokens": ["x"], "token_ids": [999999], "weights": [1.0]}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row | {"kl_divergence": 1.0}) + "\n")
    assert main(["import", str(tmp_path / "rows.jsonl"), "--run-dir", str(tmp_path / "imported")]) == 0
    assert finetune(tmp_path / "imported", tmp_path / "run", "--expert", str(model), "--held-out", "0") == 2
    assert "asks for the token 999,999" in capsys.readouterr().err


def test_a_damaged_shard_can_be_skipped(dataset, tmp_path, capsys):
    shard = sorted((dataset / "trajectories").glob("*.parquet"))[0]
    shard.write_bytes(shard.read_bytes()[:40])
    assert finetune(dataset, tmp_path / "run") == 2
    assert shard.name in capsys.readouterr().err
    assert finetune(dataset, tmp_path / "run", "--skip-corrupt") == 0
    notes = [event["text"] for event in events(tmp_path / "run") if event["kind"] == "note"]
    assert any(shard.name in text for text in notes)
    assert any(text.startswith("1 of the ") and "shards of this dataset are damaged or lost" in text for text in notes)


def test_a_setting_is_accepted_under_its_former_name(dataset, tmp_path, capsys):
    run = tmp_path / "run"
    assert finetune(dataset, run, "--group", "2") == 0
    record = json.loads((run / "run.json").read_text())
    assert record["config"]["max_samples_per_trajectory"] == 2
    record["config"]["group"] = record["config"].pop("max_samples_per_trajectory")  # as version 0.2 stored it
    (run / "run.json").write_text(json.dumps(record))
    assert finetune(dataset, run, "--max-samples-per-trajectory", "2") == 0
    assert finetune(dataset, run, "--max-samples-per-trajectory", "3") == 2
    assert "max_samples_per_trajectory was 2, now 3" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["finetune", "--help"])
    assert "--group" not in capsys.readouterr().out


def test_a_run_past_its_best_keeps_the_adapter_of_its_lowest_held_out_loss(dataset, tmp_path, capsys):
    """Only the last adapter could be evaluated, merged and pushed, however far the held-out loss had risen."""
    run = tmp_path / "run"
    finetune(dataset, run, "--learning-rate", "1", "--evaluate-every", "1")
    curves, weights = Curves(run).refresh(), "adapter_model.safetensors"
    update, loss = curves.measured.lowest("held_out_loss")
    last = (run / "adapter" / weights).read_bytes()
    assert update < 6 and loss < curves.measured.last("held_out_loss"), "the example rises"
    assert "The held-out loss rises" in curves.held_out_comment()
    assert main(["use-adapter", "--run-dir", str(run), "best"]) == 0
    assert f"the adapter of update {update}, with a held-out loss of {loss:.4g}" in capsys.readouterr().out
    best = (run / "adapter" / weights).read_bytes()
    assert best == (run / "adapter-best" / weights).read_bytes() != last
    assert f"the lowest held-out loss | {update} |" in (run / "adapter/README.md").read_text()
    assert main(["merge", "--run-dir", str(run), "--out", str(tmp_path / "merged")]) == 0
    assert f"the lowest held-out loss | {update} |" in (tmp_path / "merged/README.md").read_text()
    assert main(["use-adapter", "--run-dir", str(run), "last"]) == 0
    assert (run / "adapter" / weights).read_bytes() == last
    assert "lowest held-out loss" not in (run / "adapter/README.md").read_text()


def test_training_ends_where_the_held_out_loss_no_longer_falls(dataset, tmp_path):
    """With patience the rest of the updates is not made, the best adapter is used, and the run is not begun again."""
    run, options = tmp_path / "run", ["--patience", "2", "--evaluate-every", "1", "--held-out", "0.34"]
    options += ["--learning-rate", "1e-30", "--max-steps", "6"]
    assert finetune(dataset, run, *options) == 0  # nothing moves, so neither does the loss
    record = read_run(run)
    assert record["config"]["patience"] == 2 and "patience" not in read_run(dataset)["config"]
    assert record["result"]["updates"] == record["result"]["early"] == 2
    assert json.loads((run / "adapter" / "measured.json").read_text())["update"] == 1, "the first of equal ones"
    assert "held-out loss has stopped falling" in [e["text"] for e in events(run) if e["kind"] == "note"][-1]
    seen = len(events(run))
    assert finetune(dataset, run, *options) == 0
    assert not [e for e in events(run)[seen:] if e["kind"] == "metrics"]


@pytest.mark.parametrize(
    ("losses", "patience", "ends"),
    [
        ([3, 2, 1], 1, False),
        ([3, 2, 2], 1, True),
        ([3, 2, 2], 2, False),
        ([1, 2], 2, False),
        ([1, 2, 3], 2, True),
        ([1, 2, 0.5], 2, False),
        ([1, 2, 3, 4], 0, False),
    ],
)
def test_patience_counts_measurements_without_a_new_lowest_loss(losses, patience, ends):
    assert has_stopped_falling(losses, patience) == ends


def test_a_quick_run_has_the_settings_of_its_pair_unless_they_are_given(dataset, tmp_path):
    """`--max-steps 1000` is the paper's, and given: the quick preset must not take it for a default."""

    def parse(*more: str):
        options = build_parser().parse_args(["finetune", "--dataset", "D", "--run-dir", str(tmp_path / "x"), *more])
        options.dataset = RunLocation(dataset, str(dataset))
        return options

    quick = job_of(parse("--quick")).config
    assert (quick.max_steps, quick.evaluate_every, quick.learning_rate) == (80, 40, 5e-4)
    kept = job_of(parse("--quick", "--max-steps", "1000", "--evaluate-every", "50")).config
    assert (kept.max_steps, kept.evaluate_every, kept.learning_rate) == (1000, 50, 5e-4)
    assert job_of(parse()).config == FinetuneConfig()


@pytest.mark.parametrize(
    ("losses", "says"),
    [
        ([1, 0.8, 0.7], None),
        ([1, 0.8, 0.805], None),
        ([1], None),
        ([], None),
        ([1, 0.8, 0.9], "lowest at training step 1, 0.8 nats, and is 0.9 now"),
        ([1, 1.2, 1.1], "rises from the first update on: it was 1 nats before training and 1.1"),
        ([1, None, 0.8, None, 0.9], "lowest at training step 2, 0.8 nats"),
    ],
)
def test_a_rising_held_out_loss_is_commented_on(tmp_path, losses, says):
    curves = Curves(tmp_path)
    for update, loss in enumerate(losses):
        curves.measured.add(update, {"held_out_loss": loss})
    assert (says or "") in (curves.held_out_comment() or "") and bool(says) == bool(curves.held_out_comment())
