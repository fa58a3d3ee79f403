"""ZeroGPU, pretended: a fake `spaces` lends to a process of its own, as the real one does."""

from __future__ import annotations

import json
import pickle
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from lightreasoner.errors import UserError
from lightreasoner.jobs.local import LocalBackend
from lightreasoner.jobs.scheduler import Scheduler
from lightreasoner.jobs.store import JobStore
from lightreasoner.serving import zerogpu
from lightreasoner.settings import ROOT, Settings
from lightreasoner.tracing.trace import TraceRequest
from tests.serving.test_http import GOOD, call_trace, last_value
from tests.support.browser import App
from tests.support.tiny_models import save_tiny

FAKE = str(ROOT / "tests" / "support" / "fake_zerogpu")
SPACE = {"SPACES_ZERO_GPU": "true", "SPACE_ID": "me/studio", "PYTHONPATH": FAKE, "GRADIO_SERVER_NAME": "127.0.0.1"}


def client_of(app: App) -> httpx.Client:
    headers = {"Content-Type": "application/json"}
    return httpx.Client(base_url=app.url, timeout=120, trust_env=False, headers=headers)


@pytest.fixture(scope="module")
def no_quota(tmp_path_factory) -> Path:
    """While this file exists, the fake `spaces` has no quota left."""
    return tmp_path_factory.mktemp("quota") / "none"


@pytest.fixture(scope="module")
def zero(tmp_path_factory, no_quota):
    app = App(tmp_path_factory.mktemp("zero"), **SPACE, FAKE_NO_QUOTA=no_quota).start()
    with client_of(app) as client:
        yield app, client
    app.stop()
    assert not app.tracebacks()


def numbers(said: str) -> list:
    return [item for item in last_value(said) if isinstance(item, list)]


def test_a_trace_on_a_lent_gpu_is_the_trace_without(zero, app):
    _, client = zero
    data = [*GOOD[:6], 24, *GOOD[7:]]
    there = call_trace(client, data)
    with client_of(app) as plain:
        here = call_trace(plain, data)
    assert numbers(there) == numbers(here) and len(numbers(there)) > 4
    run = last_value(there)[0]["run"]
    record = json.loads((zero[0].workspace / "traces" / f"{run}.json").read_text())
    assert record["pair"]["expert_fingerprint"] and record["response"] and record["seconds"] > 0
    assert set(record["tokens"]) >= {str(i) for s in record["steps"] for i in s["candidates"]["ids"]}
    assert not list(zero[0].workspace.rglob("stop-*"))


def test_what_goes_wrong_there_is_said_here(zero):
    data = [*GOOD[:3], "cake " * 600, *GOOD[4:]]  # more than the bundled pair reads
    errors = [item["error"] for item in last_value(call_trace(zero[1], data)) if "error" in item]
    assert len(errors) == 1 and "tokens" in errors[0]


def test_the_page_says_why_jobs_are_off_and_what_is_forgotten(zero):
    page = zero[1].get("config").text
    assert zerogpu.NO_JOBS in page and "disk is ephemeral" in page


def test_without_quota_its_own_words_are_shown(zero, no_quota):
    no_quota.touch()
    try:
        errors = [item["error"] for item in last_value(call_trace(zero[1], GOOD)) if "error" in item]
        assert errors == ["ZeroGPU ended the run: You have exceeded your GPU quota. Log in"]
    finally:
        no_quota.unlink()


def test_no_job_is_taken_where_jobs_are_off(tmp_path):
    settings = Settings(workspace=tmp_path, no_jobs="Jobs are off here.")
    store = JobStore(settings.jobs / "jobs.sqlite")
    jobs = Scheduler(store, {"local": LocalBackend()}, settings)
    on = Scheduler(store, {"local": LocalBackend()}, replace(settings, no_jobs=""))
    job = on.submit("sample", [], "mine", settings.runs / "x")
    on.cancel(job.id)
    for ask in (
        lambda: jobs.submit("sample", [], "x", tmp_path),
        lambda: jobs.retry(job.id),
        lambda: jobs.resume(job.id),
    ):
        with pytest.raises(UserError, match="Jobs are off here"):
            ask()
    assert [found.state for found in store.jobs()] == ["cancelled"]


@pytest.fixture
def in_process(monkeypatch):
    """A `spaces` that carries everything through pickle, but stays in this process."""

    def GPU(duration):
        def lend(task):
            def remote_tracer(*args):
                for value in task(*pickle.loads(pickle.dumps(args))):
                    yield pickle.loads(pickle.dumps(value))

            return remote_tracer

        return lend

    monkeypatch.setitem(__import__("sys").modules, "spaces", SimpleNamespace(GPU=GPU))


def test_stop_reaches_the_other_process(in_process, tmp_path):
    refs = [str(save_tiny(tmp_path / name, seed=seed)) for name, seed in (("expert", 1), ("amateur", 2))]
    settings = Settings(workspace=tmp_path, device="cpu")
    request, stop = TraceRequest("2 + 2?", max_new_tokens=800, temperature=10.0), threading.Event()
    kinds, began = [], time.monotonic()
    for kind, _ in zerogpu.remote_tracer(settings)((None, *refs), request, None, stop):
        kinds.append(kind)
        if kinds.count("event") == 4:
            stop.set()
    assert kinds[0] == "pair" and kinds[-1] == "stopped"
    assert kinds.count("event") < 10 and time.monotonic() - began < 60
    assert not list(tmp_path.rglob("stop-*"))


def test_files_are_fetched_before_the_gpu_is_lent(in_process, tmp_path, monkeypatch):
    """Weights that were not cached were downloaded within the GPU's 60 seconds."""
    order = []
    monkeypatch.setattr("lightreasoner.models.weights.find_files", lambda ref: order.append(str(ref)))
    monkeypatch.setattr(zerogpu, "trace_with_gpu", lambda *given: iter([("pair", order.append("the GPU"))]))
    tracer = zerogpu.remote_tracer(Settings(workspace=tmp_path, device="cpu"))
    tuned = {"tuned": "org/tuned", "writer": "tuned"}
    list(tracer((None, "org/expert", "org/amateur"), None, tuned, threading.Event()))
    assert order == ["org/expert", "org/amateur", "org/tuned", "the GPU"]


def test_only_on_zerogpu(monkeypatch):
    assert not zerogpu.on_zerogpu({}) and not zerogpu.on_zerogpu({"SPACES_ZERO_GPU": "true"}), (
        "without the package it is not"
    )
    settings = Settings()
    assert zerogpu.prepare(settings) is settings
