"""Fine-tuning on a tiny model: it learns, it resumes from its checkpoint, and it fails with one sentence."""

from __future__ import annotations

import errno
import itertools
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from peft.utils import save_and_load
from safetensors.torch import load_file

from lightreasoner.datasets.select_steps import training_samples
from lightreasoner.datasets.selectors import Selection
from lightreasoner.datasets.trajectories import rows
from lightreasoner.errors import UserError
from lightreasoner.jobs.context import job_context
from lightreasoner.models.adapters import linear_names, save_adapter
from lightreasoner.models.cache import LoadedModels
from lightreasoner.models.loading import LoadedModel, load_model
from lightreasoner.models.merging import save_merged
from lightreasoner.models.pairs import load_pair
from lightreasoner.progress import StopRequested
from lightreasoner.scoring.divergence import teaching
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import begin_run
from lightreasoner.training import trainer as training
from lightreasoner.training.batches import count_samples, group_by_trajectory, hold_out
from lightreasoner.training.config import FinetuneConfig
from lightreasoner.training.finetune import HELD_OUT_STEPS, _arguments, finetune, measured_steps
from lightreasoner.training.loss import PackedExample, Target
from tests.support.tiny_models import IDS, save_tiny
from tests.support.tiny_sampling import build

CONFIG = FinetuneConfig(
    learning_rate=1e-2,
    max_steps=30,
    samples_per_update=4,
    max_samples_per_trajectory=2,
    evaluate_every=10,
    save_every=10,
    held_out=0.1,
)


class RecordingProgress:
    """Records everything, and stops the run when it is time."""

    def __init__(self, stop_at: int | None = None, error: BaseException | None = None):
        self.events, self.points, self._stop_at, self._error = [], 0, stop_at, error

    def status(self, text: str) -> None:
        self.events.append({"kind": "status", "text": text})

    def event(self, kind: str, **data) -> None:
        self.events.append({"kind": kind} | data)

    def update(self, done, total, **numbers) -> None:
        pass

    def checkpoint(self) -> None:
        self.points += 1
        if self.points == self._stop_at:
            raise self._error

    def of(self, kind: str) -> list[dict]:
        return [event for event in self.events if event["kind"] == kind]

    def losses(self) -> dict[int, float]:
        return {event["update"]: event["loss"] for event in self.of("metrics")}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save_tiny(tmp_path / "model", seed=1)


def load(folder: Path) -> LoadedModel:
    return load_model(str(folder), Settings(device="cpu", dtype="float32"))


def examples() -> list[PackedExample]:
    """Twelve trajectories that all want token 5 wherever they are asked."""
    generator = torch.Generator().manual_seed(0)
    return [
        PackedExample(
            torch.randint(3, 290, (20 + n,), generator=generator).tolist(),
            10,
            tuple(Target(step, (5, 6), (0.9, 0.1)) for step in range(0, 8, 2)),
        )
        for n in range(12)
    ]


def run(folder: Path, model: Path, progress: RecordingProgress, config: FinetuneConfig = CONFIG):
    return finetune(folder, config, load(model), *hold_out(examples(), config.held_out, config.seed), progress)


def adapter(tuned: tuple) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in tuned[0].named_parameters() if p.requires_grad}


@pytest.mark.parametrize("cap", [None, 0.3])
def test_the_first_loss_is_the_mean_teaching_signal_of_the_selected_steps(tmp_path, model, cap):
    """A step is selected where the models differ, and training starts from what the targets differ from the expert."""
    save_tiny(tmp_path / "amateur", seed=2)
    pair = load_pair(str(model), str(tmp_path / "amateur"), LoadedModels(Settings(device="cpu", dtype="float32")))
    begin_run(tmp_path / "data", "dataset", {}, {})
    build(pair, tmp_path / "data")
    selection, signals = Selection(alpha=0.05, beta=0.1, cap=cap), []
    for row in rows(tmp_path / "data"):
        for step in row["steps"]:
            if step["kl"] > selection.beta:
                signals.append(teaching(step["expert_logprobs"], step["amateur_logprobs"], selection.alpha, cap))
    samples = group_by_trajectory(training_samples(tmp_path / "data", selection))
    whole = {"samples_per_update": len(signals), "max_samples_per_trajectory": 4096, "held_out": 0.0, "max_steps": 1}
    finetune(tmp_path / "run", FinetuneConfig(**whole), load(model), samples, [], progress := RecordingProgress())
    assert len(signals) == count_samples(samples) > 20
    assert progress.losses()[1] == pytest.approx(sum(signals) / len(signals), rel=1e-5)


def test_it_learns_and_measures_what_was_held_out(tmp_path, model):
    progress = RecordingProgress()
    _, result = run(tmp_path / "run", model, progress, replace(CONFIG, samples_per_update=16, dropout=0.0))
    assert result.updates == 30
    assert not result.stopped
    losses, held = progress.losses(), progress.of("held_out")
    assert losses[30] < 0.8 * losses[1]
    assert [event["update"] for event in held] == [0, 10, 20, 30]
    assert held[0]["drift"] == pytest.approx(0, abs=1e-6), "the untouched expert has not drifted from itself"
    assert held[-1]["drift"] > 0
    assert held[-1]["held_out_loss"] != held[0]["held_out_loss"]
    assert {"loss", "learning_rate", "grad_norm", "samples_per_second", "tokens_per_second"} <= set(
        progress.of("metrics")[0]
    )


def test_only_the_adapter_trains(tmp_path, model):
    before = {name: p.clone() for name, p in load(model).model.named_parameters()}
    tuned = run(tmp_path / "run", model, RecordingProgress())
    trained = adapter(tuned)
    assert trained
    assert all("lora_" in name for name in trained)
    with tuned[0].disable_adapter():
        after = {name.replace(".base_layer", ""): p for name, p in tuned[0].get_base_model().named_parameters()}
    assert all(torch.equal(after[name], p) for name, p in before.items())


def test_a_killed_run_resumes_as_if_nothing_had_happened(tmp_path, model):
    """Same data order, optimiser, schedule and dropout; and a checkpoint half written at the kill does not count."""
    undisturbed, whole = RecordingProgress(), run(tmp_path / "whole", model, whole_work := RecordingProgress())
    undisturbed = whole_work
    killed = RecordingProgress(stop_at=17, error=KeyboardInterrupt())  # nothing is saved on the way out
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", model, killed)
    half = tmp_path / "run/checkpoints/checkpoint-15"
    half.mkdir()
    (half / "trainer_state.json").write_text("{")

    resumed = RecordingProgress()
    again = run(tmp_path / "run", model, resumed)
    assert not half.exists()
    assert min(resumed.losses()) == 11, "it went on from the last whole checkpoint"
    assert again[1].updates == 30
    merged = killed.losses() | resumed.losses()
    assert merged == pytest.approx(undisturbed.losses(), abs=1e-6)
    for name, weight in adapter(whole).items():
        torch.testing.assert_close(adapter(again)[name], weight, rtol=0, atol=1e-6)


def test_no_checkpoint_asks_the_hub_about_the_base_model(tmp_path, model, monkeypatch):
    """After the best adapter was saved, each one did, where the expert is bundled or downloaded and has an id."""
    asked = []
    monkeypatch.setattr(save_and_load, "check_file_exists_on_hf_hub", lambda *about: asked.append(about))
    parts = hold_out(examples(), CONFIG.held_out, CONFIG.seed)
    finetune(
        *(tmp_path / "run", CONFIG, load(model), *parts, RecordingProgress()),
        on_measured=lambda tuned, update, measured: save_adapter(tuned, tmp_path / "best", "", "org/expert"),
    )
    saved = json.loads((tmp_path / "run/checkpoints/checkpoint-30/adapter_config.json").read_text())
    assert saved["base_model_name_or_path"] == "org/expert" and not asked


def test_stop_and_keep_keeps(tmp_path, model):
    tuned = run(tmp_path / "run", model, RecordingProgress(stop_at=7, error=StopRequested(keep=True)))
    assert tuned[1].stopped
    assert tuned[1].updates == 7
    assert (tmp_path / "run/checkpoints/checkpoint-7/complete").exists()


def test_cancelling_raises(tmp_path, model):
    with pytest.raises(StopRequested):
        run(tmp_path / "run", model, RecordingProgress(stop_at=3, error=StopRequested(keep=False)))


def test_memory_that_runs_short_costs_parts_not_the_run(tmp_path, model, monkeypatch):
    usual, tight = RecordingProgress(), RecordingProgress()
    run(tmp_path / "usual", model, usual, no_dropout := replace(CONFIG, dropout=0.0, max_steps=3))
    collate = training.collate

    def collate_little(part):
        if sum(len(example.targets) for example in part) > 1:
            raise torch.OutOfMemoryError
        return collate(part)

    monkeypatch.setattr(training, "collate", collate_little)
    run(tmp_path / "tight", model, tight, no_dropout)
    assert tight.losses() == pytest.approx(usual.losses(), rel=1e-5)
    assert [event["text"] for event in tight.of("note")] == [
        "Memory is short: each update is now computed in 2 parts",
        "Memory is short: each update is now computed in 4 parts",
    ]


def test_memory_too_short_for_one_sample(tmp_path, model, monkeypatch):
    def none(part):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(training, "collate", none)
    with pytest.raises(UserError, match="not enough memory even for one sample"):
        run(tmp_path / "run", model, RecordingProgress())


def test_training_stays_on_the_gpu_that_the_model_is_on(tmp_path, model, monkeypatch):
    """On cuda:1 the Trainer moved the model to cuda:0, and the first update failed."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen: list[str] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append(str(device)))
    for device in (torch.device("cuda:1"), torch.device("cuda:0")):
        args = _arguments(tmp_path, CONFIG, replace(load(model), device=device))
        assert args.device == device and args.n_gpu == 1 and chosen[-1] == str(device)
        assert Accelerator().device == device  # which places what it prepares
    AcceleratorState._reset_state(reset_partial_state=True)


def test_held_out_steps_are_capped_on_a_gpu_and_whole_on_a_cpu():
    """At 2,048 tokens and 151,665 tokens of vocabulary the drift measure took 5.4 GB."""
    targets = tuple(Target(step, (0,), (1.0,)) for step in range(2048))
    whole = PackedExample([1] * 2060, 12, targets)
    assert measured_steps(whole, torch.device("cpu")) is whole
    capped = [target.step for target in measured_steps(whole, torch.device("cuda:0")).targets]
    assert len(capped) == HELD_OUT_STEPS and capped[0] == 0 and capped[-1] == 2047  # from all parts of the response
    assert {b - a for a, b in itertools.pairwise(capped)} == {8, 9}
    short = replace(whole, targets=targets[:HELD_OUT_STEPS])
    assert measured_steps(short, torch.device("cuda:0")) is short


def test_a_loss_that_runs_away_is_explained(tmp_path, model):
    loaded = load(model)
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[5] = float("nan")
    longer = [replace(example, ids=[5, *example.ids]) for example in examples()]
    with pytest.raises(UserError, match=r"The loss is not finite at update 1.*Lower the learning rate"):
        finetune(tmp_path / "run", CONFIG, loaded, longer, [], RecordingProgress())


def test_a_full_disk_at_a_checkpoint(tmp_path, model, monkeypatch):
    def full(*args, **kw):
        raise OSError(errno.ENOSPC, "No space left on device")

    run(tmp_path / "run", model, RecordingProgress(), replace(CONFIG, max_steps=10))
    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match=r"checkpoint-20 could not be written.*No space left.*resume"):
        run(tmp_path / "run", model, RecordingProgress(), replace(CONFIG, max_steps=20))
    assert [place.name for place in (tmp_path / "run/checkpoints").iterdir()] == ["checkpoint-10"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rank": 64}, "Rank 64 is beyond v_proj, whose matrix has rank 16 at most"),
        ({"target_modules": ("c_attn",)}, "no linear layers called c_attn; it has down_proj, gate_proj, k_proj"),
        ({"target_modules": ()}, "no linear layers called nothing"),
    ],
)
def test_what_the_architecture_lacks(tmp_path, model, change, sentence):
    with pytest.raises(UserError, match=sentence):
        run(tmp_path / "run", model, RecordingProgress(), replace(CONFIG, **change))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"method": "magic"}, "choose one of lightreasoner"),
        ({"rank": 0}, "rank is 0"),
        ({"rank": 2.5}, "rank is 2.5; it must be a whole number"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"dropout": -1}, "dropout is -1"),
        ({"max_steps": 10**9}, "max_steps is 1000000000"),
        ({"seed": "0"}, "seed is 0; it must be"),
        ({"schedule": "zigzag"}, "choose one of linear"),
        ({"target_modules": "q_proj"}, "target_modules must be names"),
    ],
)
def test_settings_out_of_bounds(change, sentence):
    with pytest.raises(UserError, match=sentence):
        replace(FinetuneConfig(), **change)


def test_the_adapter_loads_in_plain_peft_and_merging_changes_nothing(tmp_path, model):
    import peft
    from transformers import AutoModelForCausalLM

    tuned = run(tmp_path / "run", model, RecordingProgress(), replace(CONFIG, learning_rate=5e-2))
    save_adapter(tuned[0], tmp_path / "adapter", "# a card\n")
    assert json.loads((tmp_path / "adapter/adapter_config.json").read_text())["r"] == 8
    assert (tmp_path / "adapter/README.md").read_text() == "# a card\n"
    assert load_file(tmp_path / "adapter/adapter_model.safetensors")
    with torch.inference_mode():
        expected = tuned[0](input_ids=IDS).logits
        plain = AutoModelForCausalLM.from_pretrained(model)
        assert (plain(input_ids=IDS).logits - expected).abs().max() > 0.05, "the adapter does something"
        loaded = peft.PeftModel.from_pretrained(plain, tmp_path / "adapter").eval()
        torch.testing.assert_close(loaded(input_ids=IDS).logits, expected, rtol=0, atol=1e-5)
        save_merged(tuned[0], load(model).tokenizer, tmp_path / "merged", "# merged\n")
        merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
        torch.testing.assert_close(merged(input_ids=IDS).logits, expected, rtol=0, atol=1e-4)


def test_a_folder_that_cannot_be_written_leaves_nothing(tmp_path, model, monkeypatch):
    from lightreasoner.storage.atomic import atomic_folder

    with (
        pytest.raises(UserError, match=r"could not be written.*No space left"),
        atomic_folder(tmp_path / "adapter") as place,
    ):
        (place / "half").write_text("x")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not [path for path in tmp_path.iterdir() if "adapter" in path.name]


def test_the_output_head_is_no_target(model):
    assert set(linear_names(load(model).model)) == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }


def test_a_damaged_checkpoint_is_left_out_and_the_one_before_goes_on(tmp_path, model):
    """It carried its marker, so it was taken, and the run ended in the loader's traceback on every try."""
    killed = RecordingProgress(stop_at=27, error=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", model, killed)
    newest = tmp_path / "run/checkpoints/checkpoint-20"
    optimizer = newest / "optimizer.pt"
    optimizer.write_bytes(optimizer.read_bytes()[:100])
    resumed = RecordingProgress()
    assert run(tmp_path / "run", model, resumed)[1].updates == 30
    assert min(resumed.losses()) == 11
    assert any("checkpoint-20 is damaged (optimizer.pt)" in event["text"] for event in resumed.of("note"))


def test_rows_of_like_length_are_read_together():
    """Up to two fifths of what training read was padding: an update's rows were filled up to the longest of them."""
    lengths = [31, 150, 90, 33, 148, 60, 95, 30, 160, 64]
    update = [PackedExample([0] * 200, 20, (Target(length - 20, (n,), (1.0,)),)) for n, length in enumerate(lengths)]
    parts = training.of_like_length(update)
    read = sum(len(part) * max(map(PackedExample.length, part)) for part in parts)
    assert sum(lengths) > 0.9 * read
    assert sorted(target.token_ids[0] for part in parts for each in part for target in each.targets) == list(range(10))
    assert len(parts) < len(update), "rows of like length share a pass"


def test_out_of_memory_on_a_cpu_splits_the_update_too(tmp_path, model, monkeypatch):
    """The CPU's allocator raises a bare RuntimeError."""
    real, refused = training.step_logits, []

    def short(model, batch, whole_head=False):
        if len(batch.row) > 2:
            refused.append(len(batch.row))
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: 9 bytes"
            )
        return real(model, batch, whole_head)

    monkeypatch.setattr(training, "step_logits", short)
    progress = RecordingProgress()
    assert run(tmp_path / "run", model, progress, replace(CONFIG, max_steps=3))[1].updates == 3
    assert refused and "Memory is short" in progress.of("note")[0]["text"]


@pytest.mark.parametrize(
    "error",
    [RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), OSError(28, "No space")],
)
def test_whatever_a_full_disk_is_called_it_is_one_sentence(tmp_path, model, monkeypatch, error):
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr(training.Trainer, "_save_checkpoint", full)
    with pytest.raises(UserError, match=r"could not be written: .*Free some space and resume"):
        run(tmp_path / "run", model, RecordingProgress())
    assert not list((tmp_path / "run/checkpoints").glob("checkpoint-*"))


def test_a_flipped_bit_in_a_checkpoint_is_noticed(tmp_path, model):
    """The file stays readable, so it was taken, and training went on from other numbers."""
    run(tmp_path / "run", model, RecordingProgress(), replace(CONFIG, max_steps=20))
    newest = tmp_path / "run/checkpoints/checkpoint-20"
    weights = newest / "adapter_model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-9] ^= 4
    weights.write_bytes(data)
    resumed = RecordingProgress()
    assert run(tmp_path / "run", model, resumed)[1].updates == 30
    assert any("checkpoint-20 is damaged (adapter_model.safetensors)" in event["text"] for event in resumed.of("note"))
    assert training.damaged_file(tmp_path / "run/checkpoints/checkpoint-30") is None


def test_a_folder_that_is_deleted_at_a_checkpoint_is_not_made_again(tmp_path, model, monkeypatch):
    """The Trainer makes its folders again: the checkpoint stayed behind, alone, in a new folder."""
    real = training.PackedTrainer.save_model

    def late(self, *args, **options):
        shutil.rmtree(tmp_path / "run")
        return real(self, *args, **options)

    monkeypatch.setattr(training.PackedTrainer, "save_model", late)
    with (
        pytest.raises(UserError, match="was deleted or moved while its job worked in it"),
        job_context(tmp_path / "run", "finetune", Settings(workspace=tmp_path), accelerator=False) as work,
    ):
        run(tmp_path / "run", model, work)
    assert not (tmp_path / "run").exists()
