"""Trackers: a run's numbers are mirrored to the one that was named, and nothing is without one."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest

from lightreasoner.cli.main import main
from lightreasoner.errors import UserError
from lightreasoner.jobs.context import job_context
from lightreasoner.jobs.events import EVENTS_FILE, read_events
from lightreasoner.jobs.trackers import TRACKERS
from lightreasoner.settings import Settings
from lightreasoner.storage.runs import begin_run


class Fake(ModuleType):
    """A tracker's package: everything that is called on it or on its run is remembered."""

    def __init__(self, name: str, fails_at: int = 99):
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.logged, self.said, self.config, self.summary, self.left = [], [], {}, {}, fails_at

    def init(self, **options):
        self.said.append(options)
        return self

    SummaryWriter = define_metric = add_text = lambda self, *texts, **options: self.said.append(texts) or self

    def log(self, numbers, step=None):
        self.left -= 1
        if self.left < 0:
            raise OSError("The tracker's server is gone.\nTraceback")
        self.logged.append((numbers, step))

    def add_scalar(self, name, value, step):
        self.log({name: value}, step)

    def finish(self):
        self.said.append("finished")

    close = finish


@pytest.fixture
def package(monkeypatch):
    """package(name, …) puts a made-up package in the place of a tracker's."""

    def put(name: str, **options) -> Fake:
        fake = Fake(name, **options)
        fake.config = type("Config", (dict,), {"update": lambda self, d, **more: dict.update(self, d)})()
        for module in TRACKERS[name][1:]:
            monkeypatch.setitem(sys.modules, module, fake)
        return fake

    return put


def run(tmp_path, report_to: str, verb: str = "finetune"):
    """A run of three updates; its events."""
    folder = tmp_path / "run"
    with job_context(folder, verb, Settings(workspace=tmp_path, report_to=report_to), title="A run") as job:
        begin_run(folder, "finetune", {"rank": 4, "budget": None}, {})
        for update in (1, 2, 3):
            job.event("metrics", update=update, loss=1 / update, grad_norm=None)
            job.update(update, 3, loss=1 / update)
        job.event("held_out", update=3, held_out_loss=0.5)
        job.result(updates=3, stopped=False, train_loss=0.6)
    return read_events(folder / EVENTS_FILE)


STEPS = [("train/loss", 1.0, 1), ("train/loss", 0.5, 2), ("train/loss", 1 / 3, 3), ("held_out/held_out_loss", 0.5, 3)]


@pytest.mark.parametrize("name", sorted(TRACKERS))
def test_a_run_is_mirrored_with_its_settings_and_its_result(tmp_path, package, name):
    fake = package(name)
    run(tmp_path, name)
    rows = [(key, value, numbers.get("step", step)) for numbers, step in fake.logged for key, value in numbers.items()]
    assert [row for row in rows if row[0] != "step"][:4] == STEPS
    assert fake.said[-1] == "finished"
    assert fake.config.get("rank") == 4 or "rank: 4" in str(fake.said)
    result = fake.summary or dict(row[:2] for row in rows if row[0].startswith("result/"))
    assert list(result.values()) == [3, 0.6]


def test_nothing_is_reported_unless_a_tracker_is_named(tmp_path, package):
    fakes = [package(name) for name in TRACKERS]
    run(tmp_path, "")
    assert not any(fake.said or fake.logged for fake in fakes)


def test_other_numbers_than_training_s_are_mirrored_too(tmp_path, package):
    fake = package("trackio")
    with job_context(tmp_path / "a", "sample", Settings(workspace=tmp_path, report_to="trackio")) as job:
        job.update(5, 5, samples=40, tokens_per_second=3.5)
    assert fake.logged == [({"progress/samples": 40, "progress/tokens_per_second": 3.5}, 5)]


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path, package):
    fake = package("trackio", fails_at=1)
    events = run(tmp_path, "trackio")
    assert events[-1]["state"] == "succeeded" and len(fake.logged) == 1
    notes = [event["text"] for event in events if event["kind"] == "note"]
    assert notes == ["trackio failed, so the rest of the run is not mirrored: The tracker's server is gone."]


@pytest.mark.parametrize("verb", [["finetune", "--dataset", "none"], ["experiment"]])
def test_a_tracker_that_is_not_installed_is_one_sentence(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.setattr("lightreasoner.jobs.trackers.find_spec", lambda package: None)
    (tmp_path / "none").mkdir()
    verb = [str(tmp_path / word) if word == "none" else word for word in verb]
    assert main([*verb, "--run-dir", str(tmp_path / "x"), "--report-to", "trackio"]) == 2
    told = capsys.readouterr().err
    assert "the package trackio is needed" in told and "pip install trackio" in told and told.count("\n") == 1


def test_a_tracker_that_cannot_begin_ends_the_run_before_it_computes(tmp_path, package):
    fake = package("wandb")
    fake.init = lambda **options: (_ for _ in ()).throw(RuntimeError("No API key configured. Use `wandb login`."))
    with pytest.raises(UserError, match=r"wandb cannot be used: No API key configured.* Set it up, or leave"):
        run(tmp_path, "wandb")
    assert read_events(tmp_path / "run" / EVENTS_FILE)[-1]["state"] == "failed"
