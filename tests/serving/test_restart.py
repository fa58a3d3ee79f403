"""A Space that starts anew on an empty disk: the real app brings back what it kept, and says what it forgot."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest
from playwright.sync_api import expect

from lightreasoner.jobs.events import EVENTS_FILE, EventLog
from lightreasoner.storage.atomic import new_id
from tests.support.browser import App, Inspect
from tests.support.tiny_dataset import make_dataset

pytestmark = pytest.mark.browser


def finished_dataset(folder: Path) -> None:
    make_dataset(folder)
    log = EventLog(folder / EVENTS_FILE)
    log.append("end", state="succeeded", kept=False)
    log.close()


def test_a_dataset_outlives_the_disk(tmp_path, visitors):
    kept, made = tmp_path / "bucket", new_id()
    env = {"LIGHTREASONER_KEEP": str(kept), "SPACE_ID": "me/studio", "GRADIO_SERVER_NAME": "127.0.0.1"}
    env["LIGHTREASONER_LOGIN"] = "me:a long password"  # a Space is public: its datasets are the owner's
    app = App(tmp_path / "disk", LIGHTREASONER_KEEP_TOKEN="hf_never_shown", **env)
    finished_dataset(app.workspace / "runs" / made)
    app.start("--no-preload")
    try:
        deadline = time.monotonic() + 60
        while not (kept / "runs" / made / "run.json").is_file():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        app.stop()
        shutil.rmtree(app.workspace)
        app.workspace.mkdir()
        app.start("--no-preload")
        context = visitors.context(app.url)
        context.request.post(f"{app.url}sign-in", form={"user": "me", "password": "a long password"})
        page = Inspect(context.new_page()).open(app.url).page
        expect(page.locator(".lr-header .lr-server-note")).to_contain_text("This Space archives finished datasets")
        page.goto(f"{app.url}?tab=datasets&dataset={made}")
        expect(page.locator("#lr-datasets .lr-steps tbody tr").first).to_be_visible()
        assert "hf_never_shown" not in app.log.read_text()
        page.close()  # before its server goes: it would complain
    finally:
        app.stop()
    assert not app.tracebacks()


def test_a_place_that_cannot_be_written_is_said_on_the_jobs_tab(tmp_path, visitors):
    (tmp_path / "file").write_text("")
    app = App(tmp_path / "disk", LIGHTREASONER_KEEP=str(tmp_path / "file" / "folder"))
    finished_dataset(app.workspace / "runs" / new_id())
    app.start("--no-preload")
    try:
        page = visitors.context(app.url).new_page()
        page.goto(f"{app.url}?tab=jobs")
        expect(page.locator("#lr-jobs .lr-error").first).to_contain_text("cannot be written")
        expect(page.locator(".lr-server-note")).to_have_count(0)  # nothing to say of a machine that remembers
        page.close()
    finally:
        app.stop()


def test_a_place_that_is_none_ends_the_start_in_one_sentence(tmp_path):
    app = App(tmp_path, LIGHTREASONER_KEEP="s3://bucket")
    with pytest.raises(AssertionError, match="ended before it answered"):
        app.start()
    assert "s3://bucket cannot be reached from here" in app.log.read_text() and not app.tracebacks()
